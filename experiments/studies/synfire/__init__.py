"""A synfire chain on arrays."""
