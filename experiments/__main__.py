"""`python -m experiments STUDY [options]`."""

import sys

if __name__ == "__main__":
    # Worker processes import this module too; they need no command line and no plots.
    from experiments.lab.command import main

    sys.exit(main())
