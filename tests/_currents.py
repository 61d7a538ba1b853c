"""Currents for spiking neurons that any version of any library makes bit for bit alike."""

import numpy as np
import torch

STEPS, NEURONS = 1000, 200


def _integers(n: int, seed: int) -> np.ndarray:
    """Splitmix64, the upper 24 bits."""
    with np.errstate(over="ignore"):
        z = (np.arange(1, n + 1, dtype=np.uint64) + np.uint64(seed << 32)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))) >> np.uint64(40)


def currents(steps: int = STEPS, neurons: int = NEURONS, seed: int = 1) -> torch.Tensor:
    """(T, n) float32, uniform with mean 0.25 and standard deviation 0.5."""
    unit = _integers(steps * neurons, seed).astype(np.float64) / 2**24
    values = 0.25 + 0.5 * np.sqrt(12) * (unit - 0.5)
    return torch.from_numpy(values.astype(np.float32)).view(steps, neurons)


def grid() -> torch.Tensor:
    """(T, n) in quarters from −1/2 to 1: membranes meet the threshold exactly."""
    values = _integers(STEPS * NEURONS, 2) % np.uint64(7)
    return torch.from_numpy(values.astype(np.float32)).view(STEPS, NEURONS) / 4 - 0.5


def uniform(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Float64 in [0, 1)."""
    values = _integers(int(np.prod(shape)), seed).astype(np.float64) / 2**24
    return torch.from_numpy(values).view(shape)
