"""The same training in another emulator."""
