"""Coincident pulses one by one, in NumPy: the judge of every way to make and apply them."""

from __future__ import annotations

import itertools

import numpy as np

SPAN = 1.0


def trains(x, d, rate, bl, draw):
    """Signed bits of every slot, (slots, rows) and (slots, cols), by the published rule."""
    top_x, top_d = np.abs(x).max(), np.abs(d).max()
    needed = rate * top_x * top_d
    if needed == 0:
        return np.zeros((1, len(x))), np.zeros((1, len(d)))
    length = min(bl, max(1, int(np.ceil(needed))))
    root = np.sqrt(rate / length)
    px = np.minimum(1, np.abs(x) * root * np.sqrt(top_d / top_x))
    pd = np.minimum(1, np.abs(d) * root * np.sqrt(top_x / top_d))
    fired = (draw.random((length, len(p))) < p for p in (px, pd))
    bits_x, bits_d = fired
    return bits_x * np.sign(x), bits_d * np.sign(d)


def soft(g, up, step):
    """One pulse of soft bounds on 0 … 1: the step is `step` at mid-window."""
    return g + 2 * step * (1 - g) if up else g - 2 * step * g


def looped(g, vectors, rate, bl, route, step, draw, law=soft):
    """Both devices (2, rows, cols) after all vectors, slot by slot and cell by cell."""
    g, count = g.copy(), np.zeros(g.shape[1:], dtype=int)
    for x, d in vectors:
        bits_x, bits_d = trains(x, d, rate, bl, draw)
        for row, col in zip(bits_x, bits_d, strict=True):
            for i, j in itertools.product(np.flatnonzero(row), np.flatnonzero(col)):
                up = row[i] * col[j] < 0
                count[i, j] += 1
                if route == "OneSided":
                    k = 0 if up else 1
                    g[k, i, j] = law(g[k, i, j], True, step)
                    continue
                g[0, i, j] = law(g[0, i, j], up, step)
                if route == "PushPull":
                    g[1, i, j] = law(g[1, i, j], not up, step)
    return g, count
