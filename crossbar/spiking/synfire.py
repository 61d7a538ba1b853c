"""A synfire chain: groups of neurons that pass a packet of spikes on, through one array each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crossbar.chip import Chip
from crossbar.spiking.winner import stack
from crossbar.stacks import Batch
from devices._check import at_least, positive, whole
from devices.draw import seeded


@dataclass(frozen=True)
class Synfire:
    """Constants of a chain, those of Brian2's example unless said otherwise.

        τ_m dV/dt = −(V − V_r) + x,   τ dx/dt = y − x,   dy/dt = −y/τ + drive + noise ξ(t)

    with a spike at V > V_t, V reset to V_r and held for `refractory`; a spike adds `weight` to y of
    all of the next group `delay` later. Euler steps of dt. Start: V uniform in V_r … V_t.

    Args:
        groups, size: of the chain.
        weight: jump of y by one spike [mV].
        tau_m, tau: of membrane and synapse [ms].
        rest, threshold: V_r (also the reset) and V_t [mV].
        drive: [mV/ms]; noise: [mV/√ms].
        delay, refractory, dt: [ms].

    Source: Diesmann, Gewaltig & Aertsen, Nature 402, 529 (1999), doi:10.1038/990101; constants of
    Brian2's `synfire_chains` example (units of mV and ms, as there).
    """

    groups: int = 10
    size: int = 100
    weight: float = 4.86
    tau_m: float = 10.0
    tau: float = 0.325
    rest: float = -70.0
    threshold: float = -55.0
    drive: float = 25.27
    noise: float = 39.24
    delay: float = 5.0
    refractory: float = 1.0
    dt: float = 0.1

    def __post_init__(self) -> None:
        whole("groups", self.groups, 2), whole("size", self.size, 1)
        for name in ("weight", "tau_m", "tau", "dt", "delay"):
            positive(name, getattr(self, name))
        for name in ("noise", "refractory"):
            at_least(name, getattr(self, name), 0)

    def run(
        self,
        spikes: int,
        jitter: float,
        *,
        trials: int = 20,
        chip: Chip | None = None,
        gain: float | Tensor = 1.0,
        seed: int = 0,
    ) -> Tensor:
        """Spikes of each group around the time of a packet, (trials, groups).

        All trials run on the same chip: group by group one array of size × size equal weights.

        Args:
            spikes: of the packet that the first group receives.
            jitter: their standard deviation [ms].
            trials: packets, with noise of their own.
            chip: of the arrays; None is ideal.
            gain: digital factor of what an array gives, () or (groups − 1, 1, size).
            seed: of everything.

        Returns:
            The largest count within 4 ms.
        """
        whole("spikes", spikes, 0), at_least("jitter", jitter, 0), whole("trials", trials, 1)
        draw = seeded(f"{seed}/synfire", torch.device("cpu"))
        n, b, g = self.size, trials, self.groups
        arrays = stack(torch.full((g - 1, n, n), self.weight), chip, seed=seed)
        steps = round((20 + (self.delay + 2) * g) / self.dt)
        begin = 10 + jitter * torch.randn(b, spikes, generator=draw)
        at = (begin / self.dt).round().long().clamp(0, steps - 1)
        packet = torch.zeros(b, steps).scatter_add_(1, at, torch.ones(b, spikes))
        v = self.rest + (self.threshold - self.rest) * torch.rand(g, b, n, generator=draw)
        y = torch.full_like(v, self.drive * self.tau)
        x, wait = y.clone(), torch.zeros_like(v)
        late, counts = round(self.delay / self.dt), torch.zeros(steps, b, g)
        past: list[Tensor] = []
        root = self.noise * self.dt**0.5
        for k in range(steps):
            free = wait <= 0
            moved = v + self.dt / self.tau_m * (self.rest - v + x)
            x = x + self.dt / self.tau * (y - x)
            y = y + self.dt * (self.drive - y / self.tau)
            y = y + root * torch.randn(v.shape, generator=draw)
            v = torch.where(free, moved, v)
            s = (v > self.threshold) & free
            v = torch.where(s, self.rest, v)
            wait = torch.where(s, self.refractory / self.dt - 0.5, wait - 1)
            y[0] += self.weight * packet[:, k].unsqueeze(-1)
            past.append(s.to(v.dtype))
            if k >= late and bool(past[k - late][:-1].any()):
                with torch.no_grad():
                    y[1:] += gain * arrays.mv(past[k - late][:-1], Batch())
            counts[k] = s.sum(-1).T.to(counts.dtype)
        wide = round(4 / self.dt)
        return counts.unfold(0, wide, 1).sum(-1).amax(0)
