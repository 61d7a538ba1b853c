"""What hardware-aware training recovers of what a chip costs."""
