"""Plasticity on devices."""
