"""Linear equations on arrays."""
