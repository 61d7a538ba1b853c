"""Questions asked of the emulator: one study is one short file in `experiments.studies`."""
