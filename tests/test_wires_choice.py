"""The choice of a solver, branch by branch, and the agreement of all that may be forced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crossbar.wires import (
    Approximate,
    Exact,
    Floating,
    Iterative,
    Newton,
    Solver,
    Wires,
    choose,
    prepare,
)
from crossbar.wires.choice import HOST_FACTOR
from devices import SinhIV
from devices.part import IV
from tests.circuit_cases import dense

CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("solver", "make"),
    [
        (Exact(), lambda: choose(64, 64)),
        (Exact(), lambda: choose(64, 64, kappa=0.1, reads=11)),
        (Iterative(), lambda: choose(64, 64, kappa=0.1, reads=10)),
        # a strong IR drop takes more steps an input
        (Exact(), lambda: choose(64, 64, kappa=10.0, reads=10)),
        (Iterative(), lambda: choose(64, 64, kappa=10.0, reads=3)),
        # a large array pays elimination only for more inputs
        (Iterative(), lambda: choose(512, 512, kappa=0.1, reads=14)),
        (Exact(), lambda: choose(512, 64, kappa=0.1, reads=14)),
        # whatever does not fit is iterated, with steps enough for its κ
        (Exact(), lambda: choose(1024, 1024, arrays=4)),
        (Iterative(), lambda: choose(1024, 1024, arrays=5)),
        (Iterative(max_steps=30000), lambda: choose(4096, 4096, kappa=1e6 - 1)),
        (Newton(), lambda: choose(2, 2, nonlinear=True)),
        (Newton(), lambda: choose(4096, 4096, reads=1, nonlinear=True)),
    ],
)
def test_every_branch(solver: Solver, make: Callable[[], Solver]) -> None:
    assert make() == solver


def test_the_device_says_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 1 << 30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (16 * gib, 80 * gib))
    assert 1024 * 1024 * 4 <= HOST_FACTOR < 1024 * 1024 * 8
    assert choose(1024, 1024, arrays=8, device=CUDA) == Exact()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4 * gib, 80 * gib))
    assert choose(1024, 1024, arrays=8, device=CUDA) == Iterative()


def test_prepare_chooses_by_what_it_is_given() -> None:
    g = torch.full((2, 32, 40), 1e-5, dtype=torch.float64)
    weak, strong = Wires(1.0, 1.0), Wires(100.0, 100.0)
    assert prepare(g, weak).solver == Exact()
    assert prepare(g, weak, reads=5).solver == Iterative()
    assert prepare(g, strong, reads=9).solver == Exact()
    ends = Wires(1.0, 1.0, r_driver=1e5)  # κ is small, R Σg = 40
    assert prepare(g, ends).kappa < 0.1 and prepare(g, ends, reads=5).solver == Exact()
    assert prepare(g, weak, SinhIV(1.0), reads=1).solver == Newton()
    assert prepare(g, weak, floating=Floating((1,)), reads=1).solver == Exact()
    assert prepare(g, weak, solver=Exact(), reads=1).solver == Exact()
    woven = Wires(1.0, 1.0, interleaved=True)
    assert prepare(g, woven, reads=5).solver == Iterative()
    with pytest.raises(ValueError, match="reads must be >= 1"):
        prepare(g, weak, reads=0)


class Ohmic(IV):
    """A straight line, which Newton must solve like the others."""

    def current(self, g: Tensor, v: Tensor) -> Tensor:
        """g v."""
        return g * v


@pytest.mark.parametrize("kappa", [0.01, 0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("shape", [(12, 12), (7, 19)])
def test_every_forced_choice_is_within_its_stated_error(
    kappa: float, shape: tuple[int, int]
) -> None:
    draw = torch.Generator().manual_seed(int(100 * kappa))
    g = (torch.rand(shape, generator=draw, dtype=torch.float64) * 0.99 + 0.01) * 1e-4
    wires = Wires(1.0, 1.0)
    scale = kappa / wires.kappa(g)
    wires = Wires(scale, scale, 0.3 * scale, 0.2 * scale)
    x = torch.rand(3, shape[0], generator=draw, dtype=torch.float64) - 0.3
    x[0] = 0.7
    truth = torch.stack([dense(g, wires, v)[0] for v in x])
    full = float(dense(g, wires, torch.ones_like(x[0]))[0].abs().max())

    def error(solver: Solver | None, iv: IV | None = None, reads: int | None = None) -> float:
        found = prepare(g, wires, iv, solver, reads=reads).mv(x)
        return float((found - truth).abs().max()) / full

    assert error(Exact()) < 1e-12
    # a residual voltage of the tolerance changes a column's current by that part, give or take
    assert error(Iterative()) < 1e-11 and error(Iterative(1e-6)) < 1e-5
    assert error(Newton(), Ohmic()) < 1e-11
    assert error(None) < 1e-12 and error(None, reads=1) < 1e-11
    rough = prepare(g, wires, solver=Approximate())
    assert error(Approximate()) < 2 * rough.residual
    assert prepare(g, wires).residual < 1e-12 and prepare(g, wires).kappa == pytest.approx(kappa)
