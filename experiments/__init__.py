"""Questions asked of the emulator: `lab` runs and reports, `tasks` train, `studies` ask."""
