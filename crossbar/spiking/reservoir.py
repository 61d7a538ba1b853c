"""Reservoirs on arrays: echo states and volatile memristors, and readouts that know their noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from crossbar.arrays import matrix
from crossbar.chip import Chip
from crossbar.mappings import Unipolar
from crossbar.spiking.tasks import nrmse
from crossbar.streams import derive
from devices import Device
from devices._check import at_least, flag, instance, positive, whole
from devices.draw import seeded


class EchoState:
    """An echo-state network: s ← tanh(W s + w_in u + b), W and w_in on arrays of their own.

    W has the spectral radius given, as written by digital logic; what the cells hold has another
    (`radius`), which `rescale` measures and sets right by a digital factor of the read.

    Args:
        size: N neurons.
        radius: spectral radius, > 0.
        scale: of the input weights, uniform in ±scale (±scale exactly with `signs`).
        bias: of the neurons' bias, uniform in ±bias.
        signs: whether weights are ± one size, so that w_max is no larger than it must be and read
            noise is least; else they are normal.
        chip: of both arrays; None is ideal.
        seed: of weights and chips.

    Source: Jaeger & Haas, Science 304, 78 (2004), doi:10.1126/science.1091277.
    """

    def __init__(
        self,
        size: int,
        *,
        radius: float = 0.9,
        scale: float = 0.1,
        bias: float = 0.2,
        signs: bool = False,
        chip: Chip | None = None,
        seed: int = 0,
    ) -> None:
        n = whole("size", size, 1)
        flag("signs", signs)
        positive("radius", radius), positive("scale", scale)
        at_least("bias", bias, 0)
        draw = seeded(f"{seed}/reservoir", torch.device("cpu"))

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(shape, generator=draw, dtype=torch.float64) - 1

        w = torch.randn(n, n, generator=draw, dtype=torch.float64)
        w = w.sign() if signs else w
        w = w * (radius / spectral_radius(w))
        into = uniform(n, 1)
        into = scale * (into.sign() if signs else into)
        self.bias, self.gain = bias * uniform(n), 1.0
        self.wanted = radius
        self.array = matrix(w, chip, seed=derive(seed, "recurrent"))
        self.inputs = matrix(into, chip, seed=derive(seed, "inputs"))

    @property
    def radius(self) -> float:
        """Spectral radius of what the cells hold, times the digital factor."""
        return spectral_radius(self.gain * self.array.weight)

    def rescale(self) -> None:
        """Bring the spectral radius to the wanted one by the digital factor."""
        self.gain *= self.wanted / self.radius

    @torch.no_grad()
    def run(self, u: Tensor) -> Tensor:
        """States (T, N) of inputs u (T,), from zero."""
        g = self.array.written.g
        pushed = self.inputs.mv(u.to(g).unsqueeze(-1)) + self.bias.to(g)
        s, states = torch.zeros_like(pushed[0]), torch.empty_like(pushed)
        for t, push in enumerate(pushed):
            s = torch.tanh(self.gain * self.array.mv(s) + push)
            states[t] = s
        return states


class VolatileReservoir:
    """Volatile memristors that a random array drives with the last inputs, read once a period.

        v_k = v_mean + m Σ_d P_kd u_(t−d),   the cell k holds v_k for a period, then it is read

    Without the array (taps=1) the cells see masks of the present input alone, `nodes` of them one
    after another in a period, and are read after each (virtual nodes).

    Args:
        device: of the volatile cells, such as `presets.wox_volatile()`; its law has `drive`.
        cells: K.
        taps: delayed inputs, of a digital shift register.
        nodes: parts of a period with a mask each, >= 1.
        v_mean, v_swing: of the drive [V]: u is standardised, masks are within ±1.
        period: [s].
        chip: of the array that projects; None is ideal.
        read_noise: of the states, relative to the window of the cells.
        seed: of everything.

    Source: Appeltant et al., Nat. Commun. 2:468 (2011) (virtual nodes); Du et al., Nat. Commun.
    8:2204 (2017), doi:10.1038/s41467-017-02337-y.
    """

    def __init__(
        self,
        device: Device,
        cells: int,
        *,
        taps: int = 1,
        nodes: int = 1,
        v_mean: float = 0.5,
        v_swing: float = 0.3,
        period: float = 1.0,
        chip: Chip | None = None,
        read_noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        instance("device", device, Device, optional=False)
        whole("cells", cells, 1), whole("taps", taps, 1), whole("nodes", nodes, 1)
        self.taps, self.nodes, self.v_mean = taps, nodes, v_mean
        self.v_swing, self.period = v_swing, positive("period", period, "s")
        self.read_noise, self.seed = at_least("read_noise", read_noise, 0), seed
        draw = seeded(f"{seed}/masks", torch.device("cpu"))
        masks = 2 * torch.rand(nodes * cells, taps, generator=draw, dtype=torch.float64) - 1
        self.array = matrix(masks / math.sqrt(taps), chip, seed=derive(seed, "masks"))
        low = torch.zeros(cells, 1, dtype=torch.float64)
        self.cells = matrix(low, Chip(device, Unipolar(w_max=1.0)), seed=derive(seed, "cells"))

    @torch.no_grad()
    def run(self, u: Tensor) -> Tensor:
        """States (T, nodes · cells) in units of the window, of inputs u (T,)."""
        if self.cells.probe is not None:
            self.cells.probe.untold(self.cells, "the reads of a VolatileReservoir's cells")
        from_mean = (u.double() - u.double().mean()) / u.double().std()
        v = self.array.mv(delayed(from_mean, self.taps))
        v = self.v_mean + self.v_swing * v.unflatten(-1, (self.nodes, -1))
        window, states = self.cells.chip.device.window, []
        for now in v.flatten(0, 1):
            self.cells.drive(now.view(1, 1, -1), self.period / self.nodes)
            states.append((self.cells.written.g.flatten() - window.g_min) / window.span)
        found = torch.stack(states).unflatten(0, (-1, self.nodes)).flatten(1)
        draw = seeded(f"{self.seed}/states", torch.device("cpu"))
        noise = torch.randn(found.shape, generator=draw, dtype=found.dtype)
        return found + self.read_noise * noise


class Readout:
    """A linear readout of states, fitted for cells that are written with an error.

    A readout w written with the error e max|w| adds e² max|w|² Σ_t |s_t|² to the squared error, so
    the ridge is that much for its own weights: λ = e² max|w|² tr(SᵀS)/|w|², by fixed point; at
    least `ridge`. Means are taken off digitally.

    Args:
        states: (T, N) to fit on.
        target: (T,).
        error: e >= 0, relative to the largest weight.
        ridge: least λ, relative to tr(SᵀS)/N.

    Raises:
        ValueError: other shapes, a value out of range.
    """

    def __init__(
        self, states: Tensor, target: Tensor, *, error: float = 0.0, ridge: float = 1e-8
    ) -> None:
        at_least("error", error, 0), at_least("ridge", ridge, 0)
        if states.dim() != 2 or target.shape != states.shape[:1]:
            raise ValueError(
                f"states must be (T, N) and target (T,), got {tuple(states.shape)} and "
                f"{tuple(target.shape)}"
            )
        s, y = states.double(), target.double()
        self.mean, self.offset = s.mean(0), y.mean()
        s, y = s - self.mean, y - self.offset
        gram, cross, power = s.T @ s, s.T @ y, float(s.square().sum())
        values, vectors = torch.linalg.eigh(gram)
        turned, least = vectors.T @ cross, ridge * power / s.shape[1]

        def solved(penalty: float) -> Tensor:
            return vectors @ (turned / (values.clamp(min=0) + penalty))

        self.ridge = least
        self.weight = solved(least)
        for _ in range(200 if error else 0):
            w = self.weight
            wanted = error**2 * float(w.abs().max() ** 2 / w.square().sum()) * power
            new = max(least, math.sqrt(self.ridge * max(wanted, 1e-300)))  # damped
            self.weight = solved(new)
            if abs(new / self.ridge - 1) < 1e-6:
                break
            self.ridge = new

    def write(self, chip: Chip, *, seed: int = 0) -> Readout:
        """The same readout from the weights that an array holds after programming."""
        array = matrix(self.weight.unsqueeze(0), chip, seed=seed)
        return self.of(array.weight.flatten())

    def of(self, weight: Tensor) -> Readout:
        """The same means with other weights (N,)."""
        made = object.__new__(Readout)
        made.mean, made.offset, made.ridge, made.weight = self.mean, self.offset, self.ridge, weight
        return made

    def __call__(self, states: Tensor) -> Tensor:
        """Predictions (T,)."""
        return (states.double() - self.mean) @ self.weight + self.offset


def spectral_radius(w: Tensor) -> float:
    """Largest magnitude of an eigenvalue."""
    return float(torch.linalg.eigvals(w.double()).abs().max())


def delayed(u: Tensor, taps: int) -> Tensor:
    """(T, taps) of u (T,): the input and what came before, zero before the first."""
    padded = torch.cat((u.new_zeros(whole("taps", taps, 1) - 1), u))
    return padded.unfold(0, taps, 1).flip(-1)


def tap_error(
    u: Tensor, target: Tensor, split: int, taps: Sequence[int] = (10, 20, 30, 40)
) -> float:
    """Least RMSE/std, on what follows `split`, of linear tapped delays of the input."""
    found = []
    for n in taps:
        lines = delayed(u.double(), n)
        found.append(nrmse(Readout(lines[:split], target[:split])(lines[split:]), target[split:]))
    return min(found)
