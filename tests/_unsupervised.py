"""Digits without labels: one setting, chosen on the validation part of split 0 of the prototype."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import crossbar as xb
from crossbar import spiking as sp
from devices import Device, SoftBounds, StuckAt

STEP, U = 0.01045, 0.354  # 0.0123 up and 0.0086 down of the window, at its middle
LAW = SoftBounds(STEP, up_down=U)
CELL = Device(0.0, 1.0, update=LAW)
STEPS, RATE = 50, 0.45


def spread(sigma: float) -> Device:
    """Steps, their asymmetry and both bounds differ from cell to cell."""
    law = replace(LAW, sigma_d2d=sigma, sigma_up_down=sigma * U / 2, sigma_bounds=sigma)
    return Device(0.0, 1.0, update=law)


def noisy(sigma: float) -> Device:
    """Every pulse is off by so much of its step."""
    return Device(0.0, 1.0, update=replace(LAW, sigma_c2c=sigma))


def stuck(share: float) -> Device:
    return replace(CELL, faults=StuckAt(p_off=share))


def accuracies(
    device: Device = CELL,
    *,
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    epochs: int = 1,
    images: int | None = None,
    outputs: int = 50,
    homeostasis: float = 1.3e-3,
    tau: float = 15.0,
    threshold: float = 25.6,
    sigma_threshold: float = 0.0,
) -> list[float]:
    """Test accuracy of every seed, a seed being a split, a start, an order and a chip."""
    x, y = load_digits(return_X_y=True)
    parts = [train_test_split(x / 16, y, test_size=0.25, stratify=y, random_state=s) for s in seeds]
    draw = torch.Generator().manual_seed(seeds[0])
    n = len(seeds)

    def stacked(k: int) -> torch.Tensor:
        found = torch.from_numpy(np.stack([p[k] for p in parts]))
        return found.float() if k < 2 else found

    def encoded(values: torch.Tensor) -> torch.Tensor:
        return sp.encode.regular(values, STEPS, rate=RATE, generator=draw)

    start = (0.67 + 0.2 * torch.randn(n, outputs, 64, generator=draw)).clamp(0, 1)
    array = sp.stack(start, xb.Chip(device, xb.Unipolar(w_max=1.0)), seed=seeds[0])
    net = sp.WinnerTakesAll(
        array,
        tau=tau,
        threshold=threshold,
        window=2,
        homeostasis=homeostasis,
        sigma_threshold=sigma_threshold,
        seed=seeds[0],
    )
    train, own = stacked(0), torch.arange(n)
    for _ in range(epochs):
        order = torch.stack([torch.randperm(train.shape[1], generator=draw) for _ in seeds])
        for now in order.T[:images]:
            net.present(encoded(train[own, now]))
    label = sp.labels(net.respond(encoded(train)), stacked(2), 10)
    guess = sp.votes(net.respond(encoded(stacked(1))), label, 10)
    return [float(a) for a in (guess == stacked(3)).float().mean(-1)]


WITHOUT = {"homeostasis": 0.0, "tau": 290.0, "threshold": 40.3}
"""A net tuned without homeostasis (setting B of the prototype): its leak and threshold."""
