"""Whether a law's answer to many pulses, or to their moments, is that to single ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from devices.device import Device
from devices.part import Pulses, State

PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Parts of the window at which single pulses are looked at."""

MEANS = ((1.5, 0.0), (0.0, 1.5), (2.0, 1.0))
"""Up and down pulses, of which counts are drawn."""

MEAN, STD = 0.05, 0.1
"""What the moments of a law may be off, beside a twentieth of a step and `ERRORS`."""

ERRORS = 4.0


def step_off(device: Device, state: Callable[[float], State], step: float) -> str | None:
    """What is wrong with the nominal step against the mean change of single pulses, if anything.

    It must lie among those over the window or within a factor of 2 of those in its middle, half as
    much more allowed.
    """
    sizes, middle = [], []
    for place in PLACES:
        cells = state(place)
        one, none = torch.ones_like(cells.g), torch.zeros_like(cells.g)
        for given in (Pulses(one, none), Pulses(none, one)):
            moved = device.pulse(cells, given, generator=numbered(11)).g
            sizes.append(abs(float((moved - cells.g).mean())))
            if place == 0.5:
                middle.append(sizes[-1])
    low, high = min(*sizes, sum(middle) / 4), max(*sizes, sum(middle))
    if low / 1.5 <= step <= 1.5 * high:
        return None
    return (
        f"step is {step:.3g} S, but single pulses change g by {low:.3g} to {high:.3g} S over the "
        "window: step(window) is to be a size in that range, best the one in the middle"
    )


def moments_off(device: Device, state: State, step: float) -> str | None:
    """What is wrong with the moments under random counts, if anything."""
    like = state.g
    for kind in ("Poisson", "binomial"):
        for means in MEANS:
            drawn, variances = [], []
            generator = numbered(12)
            for mean in means:
                if kind == "Poisson":
                    counts = torch.poisson(torch.full_like(like, mean), generator=generator)
                    variances.append(mean)
                else:
                    half = torch.rand((int(2 * mean), *like.shape), generator=generator) < 0.5
                    counts = half.sum(0).to(like)
                    variances.append(mean / 2)
                drawn.append(counts)
            given = Pulses(*(torch.full_like(like, v) for v in (*means, *variances)))
            ours = device.pulse(state, given, generator=numbered(13)).g - like
            theirs = _singly(device, state, drawn[0], drawn[1], generator) - like
            words = f"{kind} counts of mean {means[0]:g} up and {means[1]:g} down"
            for moment, compared in (("mean", _mean_off), ("std", _std_off)):
                off, allowed = compared(ours, theirs, step)
                if off > allowed:
                    return (
                        f"{words}: the {moment} differs from drawn ones' by {off:.3g} S, "
                        f"> {allowed:.3g} (flow_pulse makes many pulses, and random ones, of one)"
                    )
    return None


def many_off(device: Device, state: State, up: int, down: int, step: float) -> str | None:
    """What is wrong with many pulses at once against the same one by one: mean 1 %, std 10 %."""
    full = partial(torch.full_like, state.g)
    given = Pulses(full(float(up)), full(float(down)))
    many = device.pulse(state, given, generator=numbered(6)).g - state.g
    generator, one, cell = numbered(7), state, torch.arange(len(state.g))
    for k in range(max(up, down)):
        for half in (0, 1):  # up down down up, or down up up down: neither direction comes first
            rising = (cell + k + half) % 2 == 0
            turn = (rising & (k < up)).double(), (~rising & (k < down)).double()
            one = device.pulse(one, Pulses(*turn), generator=generator)
    single = one.g - state.g
    error = ERRORS * ((many.var() + single.var()) / len(single)).sqrt()
    allowed = 0.01 * single.mean().abs() + 0.1 * step + error
    words = f"{up} up and {down} down at once (see devices.update.flow) against one by one"
    off = (many - single).mean().abs()
    if off > allowed:
        return f"{words}: means differ by {off:.3g} S, allowed {allowed:.3g}"
    spread = 0.1 * single.std() + 0.05 * step + error
    off = (many.std() - single.std()).abs()
    if off > spread:
        return f"{words}: stds differ by {off:.3g} S, allowed {spread:.3g}"
    return None


def numbered(seed: int = 0) -> torch.Generator:
    """A generator of that seed."""
    return torch.Generator().manual_seed(seed)


def _singly(
    device: Device, state: State, up: Tensor, down: Tensor, generator: torch.Generator
) -> Tensor:
    """Conductances after whole counts given one by one in random order [S]."""
    while bool(((left := up + down) > 0).any()):
        drawn = torch.rand(up.shape, generator=generator, dtype=up.dtype)
        rising = ((drawn * left < up) & (left > 0)).to(up)
        falling = (left > 0).to(up) - rising
        state = device.pulse(state, Pulses(rising, falling), generator=generator)
        up, down = up - rising, down - falling
    return state.g


def _mean_off(ours: Tensor, theirs: Tensor, step: float) -> tuple[float, float]:
    error = ERRORS * ((ours.var() + theirs.var()) / len(ours)).sqrt()
    allowed = MEAN * theirs.mean().abs() + 0.05 * step + error
    return float((ours.mean() - theirs.mean()).abs()), float(allowed)


def _std_off(ours: Tensor, theirs: Tensor, step: float) -> tuple[float, float]:
    # of a standard deviation s: √((m₄ − s⁴)/n)/2s, whatever the distribution
    spread = [((t - t.mean()).pow(4).mean() - t.var() ** 2).clamp(min=0) for t in (ours, theirs)]
    error = ERRORS * ((spread[0] + spread[1]) / len(ours)).sqrt() / (2 * theirs.std() + 1e-30)
    allowed = STD * theirs.std() + 0.05 * step + error
    return float((ours.std() - theirs.std()).abs()), float(allowed)
