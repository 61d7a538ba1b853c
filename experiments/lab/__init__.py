"""What every study shares: run, store, engine, progress, report, statistics, command line."""
