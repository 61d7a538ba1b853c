"""The 20 × 20 programming task, many replicas as one batch.

T = 0.3 randn, x ~ N(0, 1), δ = (W − T)x, rate 0.1, 20,000 single vectors, RMS(W − T) over the last
quarter. `SoftBoundsReference` against ideal references, `states` steps across ±1; A with bounds of
its own cells and its symmetry point subtracted, with an error σ_r; C, and the only array of the
rules that have one, with ideal bounds and none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import crossbar as xb
from crossbar.matrix import Matrix
from crossbar.operations import Vectors
from crossbar.regions import EVERYWHERE, Form
from crossbar.rules import Job
from crossbar.streams import Streams
from devices import Device, SoftBoundsReference
from experiments.lab.run import Outcome, Run, Stored


def chip(states: int, fast: bool, sigma_r: float = 0.0) -> xb.Chip:
    """Steps 2/states with spreads .3 and ±.1, cycle noise .3 of the cell's own."""
    law = SoftBoundsReference(
        dg_min=1e-4 / states,
        sigma_d2d=0.3,
        sigma_up_down=0.1,
        sigma_c2c=0.3,
        sigma_bounds=0.3 if fast else 0.0,
        sigma_reference=sigma_r if fast else 0.0,
        subtract=fast,
    )
    return xb.Chip(Device(0.0, 1e-4, update=law), xb.Differential(route=xb.Reference(), w_max=1.0))


def rules(states: int, sigma_r: float) -> dict[str, xb.Rule]:
    """As aihwkit's build_config, auto_granularity 200."""
    two = {"fast": chip(states, True, sigma_r)}
    filtered = two | {"auto_granularity": 200.0}
    return {
        "SGD": xb.Pulsed(xb.ExactBits()),
        "Tiki-Taka": xb.TikiTakaV1(**two),
        "TTv2": xb.TikiTaka(**filtered),
        "c-TTv2": xb.ChoppedTikiTaka(**filtered),
        "AGAD": xb.AGAD(**filtered),
        "RIDER": xb.TrackedTikiTaka(**filtered),
        "mixed precision": xb.MixedPrecision(),
    }


def errors(
    rule: xb.Rule, states: int, replicas: int = 24, steps: int = 20_000, seed: int = 0
) -> Tensor:
    """RMS(W − T) of each replica."""
    lines, form = (replicas, 20, 20), Form(stack=True)
    slots = rule.slots()
    made = []
    for k, slot in enumerate(slots):
        matrix = Matrix(slot.chip or chip(states, False), form, lines, seed * 10 + k)
        matrix.fabricate(torch.ones(()), torch.float32, torch.device("cpu"))
        matrix.program(torch.zeros(lines))
        made.append(matrix)
    leaf, streams = rule.fabricate(lines, made), Streams(seed)
    draws = [torch.Generator().manual_seed(1000 * seed + r) for r in range(replicas)]
    target = torch.stack([0.3 * torch.randn(20, 20, generator=g) for g in draws])
    slow, total, ahead = made[-1], torch.zeros(replicas), 500
    for step in range(steps):
        if step % ahead == 0:
            xs = torch.stack([torch.randn(ahead, 20, generator=g) for g in draws], 1)
        x = xs[step % ahead].unsqueeze(0)  # (1, replicas, 20)
        wrong = slow.weight - target  # (replicas, in, out)
        d = (x.unsqueeze(-2) @ wrong).squeeze(-2)
        rule.update([Job(made, leaf, Vectors(), x, d, 0.1, EVERYWHERE)], streams=streams)
        if step >= steps * 3 // 4:
            total += (slow.weight - target).square().mean((-2, -1)).cpu()
    return (total / (steps - steps * 3 // 4)).sqrt()


@dataclass(frozen=True)
class Programming(Run):
    """The task under one rule, by its name."""

    rule: str
    states: int
    sigma_r: float
    replicas: int = 8
    steps: int = 20_000

    def label(self) -> str:  # noqa: D102
        return f"20 × 20, {self.rule}, σ_r {self.sigma_r:g}"

    def cost(self) -> float:  # noqa: D102
        return self.steps * 7e-3

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        own = rules(self.states, self.sigma_r)[self.rule]
        found = errors(own, self.states, self.replicas, self.steps)
        return Outcome(
            {"mean": float(found.mean()), "median": float(found.median())},
            {"errors": found.tolist()},
        )
