"""Reservoirs on arrays."""
