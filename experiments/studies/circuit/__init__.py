"""What wires cost, and what compensation brings back."""
