"""A sweep declared in a TOML file."""
