"""What a mapping costs, and what it is for."""
