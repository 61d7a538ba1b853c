"""MNIST-1D, made anew from its paper, and the four networks it is judged by.

Greydanus & Kobak, "Scaling down deep learning with MNIST-1D", ICML 2024, arXiv:2011.14439: ten
templates of twelve points are padded, scaled, shifted, given correlated noise where nothing is,
white noise, a shear, and sampled at 40 points.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

TEMPLATES = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
WIDE, FINAL = 72, 40
PADDING, SHIFTS = (36, 60), 48
SCALE, CORRELATED, WHITE, SHEAR = 0.4, 0.25, 0.02, 0.75


def _resampled(x: NDArray[np.float64], lengths: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The first so many points of each row, linearly interpolated at n."""
    at = np.linspace(0, 1, n)[None] * (lengths[:, None] - 1)
    left = np.minimum(at.astype(np.int64), lengths[:, None] - 2)
    low, high = (np.take_along_axis(x, left + k, 1) for k in (0, 1))
    found: NDArray[np.float64] = low + (high - low) * (at - left)
    return found


def mnist_1d(samples: int = 5000, seed: int = 42) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Signals (n, 40) and digits of training (four fifths) and test."""
    rng = np.random.default_rng(seed)
    t = np.array(TEMPLATES, dtype=np.float64)
    t = (t - t.mean(1, keepdims=True)) / t.std(1, keepdims=True)
    t = (t - t[:, :1]) / 6
    label = rng.permutation(np.repeat(np.arange(10), samples // 10))
    n, points = len(label), t.shape[1]
    padded = np.zeros((n, points + PADDING[1]))
    padded[:, :points] = t[label] + 1e-8  # points of the signal, also where it is zero
    lengths = points + rng.integers(PADDING[0], PADDING[1] + 1, n)
    x = _resampled(padded, lengths, WIDE)
    x *= 1 + SCALE * (rng.random((n, 1)) - 0.5)
    shift = rng.integers(0, SHIFTS, (n, 1))
    x = np.take_along_axis(x, (np.arange(WIDE)[None] - shift) % WIDE, 1)
    smooth = gaussian_filter1d(CORRELATED * rng.normal(size=x.shape), 2.0, axis=1)
    x = np.where(x != 0, x, smooth) + WHITE * rng.normal(size=x.shape)
    x -= SHEAR * (rng.random((n, 1)) - 0.5) * np.linspace(-0.5, 0.5, WIDE)
    x = _resampled(x, np.full(n, WIDE), FINAL)
    x = (x - x.mean()) / x.std()
    cut = n * 4 // 5
    signal, digit = torch.from_numpy(x).float(), torch.from_numpy(label)
    return signal[:cut], digit[:cut], signal[cut:], digit[cut:]


class Perceptron(nn.Module):
    """40-100-100-10, the middle layer beside a connection past it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Linear(FINAL, 100), nn.Linear(100, 100)
        self.last = nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the digits."""
        h = self.first(x).relu()
        scores: Tensor = self.last(h + self.middle(h).relu())
        return scores


class Recurrent(nn.Module):
    """A bidirectional GRU of six units; all of its states are read."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 6, batch_first=True, bidirectional=True)
        self.last = nn.Linear(2 * 6 * FINAL, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the digits."""
        scores: Tensor = self.last(self.gru(x.unsqueeze(-1))[0].flatten(1))
        return scores


def convolutional() -> nn.Sequential:
    """Three convolutions of 25 channels, each of stride two."""
    return nn.Sequential(
        nn.Unflatten(1, (1, FINAL)),
        *(nn.Conv1d(1, 25, 5, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv1d(25, 25, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(125, 10)),
    )
