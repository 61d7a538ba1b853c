"""Spiking networks over time steps."""
