"""`python -m experiments STUDY [options]`."""

import sys

if __name__ == "__main__":
    # Worker processes import this module too; they need no command line and no plots.
    try:
        from experiments.lab.command import main

        status = main()
    except KeyboardInterrupt:
        print("\nstopped before any run began", file=sys.stderr)
        status = 130
    sys.exit(status)
