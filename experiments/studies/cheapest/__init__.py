"""The least demanding device that still meets a target."""
