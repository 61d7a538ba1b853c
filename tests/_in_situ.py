"""Shared by the tests of in-situ training: torch's own SGD on the same digital network judges."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import crossbar as xb
from crossbar.operations import Numbers

LR = 0.02
SEEN: list[str] = []
"""What the rule was given by the steps of one analog run: inputs and errors, or numbers."""


@dataclass(frozen=True)
class Watched(xb.Pulsed):
    """Exact mean counts, and a note of what they were made of."""

    scheme: Any = field(default_factory=xb.Expected)

    def update(self, jobs, *, streams):
        SEEN.extend("numbers" if isinstance(job.op, Numbers) else "pulses" for job in jobs)
        super().update(jobs, streams=streams)


def in_situ(digital: nn.Module, **how: Any) -> nn.Module:
    """The same network on ideal cells, trained by exact mean counts."""
    mode = xb.InSitu(rule=Watched(), **how)
    return xb.convert(digital, xb.Chip(), mode=mode, seed=0)


def plain(t: Tensor) -> Tensor:
    """A copy of what torch sees of a tensor."""
    return t.detach().clone().as_subclass(Tensor)


class Run:
    """What one habit leaves of one model: gradients before and weights after every step."""

    def __init__(self, model: nn.Module, optimiser: Any) -> None:
        self.model, self.optimiser = model, optimiser
        self.trace: list[dict[str, Any]] = []

    def note(self, **things: Any) -> None:
        """Something else that both runs must agree on."""
        self.trace.append({k: plain(t) if isinstance(t, Tensor) else t for k, t in things.items()})

    def step(self, how: Callable[[], Any] | None = None) -> None:
        """A step of the optimiser, or `how` it is taken."""
        named = dict(self.model.named_parameters())
        self.note(**{f"grad of {n}": p.grad for n, p in named.items()})
        (how or self.optimiser.step)()
        self.note(**{n: p for n, p in named.items()})


def same(got: list[dict[str, Any]], want: list[dict[str, Any]]) -> None:
    """Weights to 1e-9, everything else to 1e-10."""
    assert len(got) == len(want)
    for k, (mine, theirs) in enumerate(zip(got, want, strict=True)):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            tol = 1e-10 if name.startswith("grad") else 1e-9
            other = theirs[name]
            assert (value is None) == (other is None), f"{name} at {k}: {value}, {other}"
            if isinstance(value, Tensor):
                torch.testing.assert_close(
                    value, other, rtol=tol, atol=tol, msg=lambda m, n=name, k=k: f"{n} at {k}: {m}"
                )
            else:
                assert value == other


def judged(digital: nn.Module, habit: Callable[[Run], Any], lr: float = LR, **how: Any) -> set[str]:
    """Run a habit on a digital network and on its twin in situ; what the twin's rule was given."""
    twin = in_situ(digital, **how)
    reference = copy.deepcopy(digital)
    runs = [
        Run(reference, torch.optim.SGD(reference.parameters(), lr)),
        Run(twin, xb.InSituSGD(twin, lr)),
    ]
    SEEN.clear()
    for run in runs:
        torch.manual_seed(1)
        habit(run)
    same(runs[1].trace, runs[0].trace)
    consistent(runs[1].model)
    return set(SEEN)


def consistent(model: nn.Module) -> None:
    """What torch sees of every weight is what its cells hold and what to_digital gives."""
    digital = dict(xb.to_digital(model).named_parameters(remove_duplicate=False))
    for name, weight in xb.analog_weights(model).items():
        shown = plain(model.get_parameter(name))
        held = weight.form.weight(weight.held, weight.shape)
        assert torch.equal(shown, held.to(shown.dtype)), name
        assert torch.equal(shown, digital[name]), name
        assert not weight.tape.waiting, f"entries that nobody committed stay: {name}"


PULSES, NUMBERS = {"pulses"}, {"numbers"}


def batches(n, *shape):
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(n)]


def mlp():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


MLP = batches(3, 4, 6)


def loss_of(run, x):
    return run.model(x).square().mean()


def fresh(run, x):
    """A backward pass from no gradient."""
    run.optimiser.zero_grad()
    loss_of(run, x).backward()
