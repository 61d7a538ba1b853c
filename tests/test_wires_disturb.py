"""Voltages during parallel updates, and settings that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from crossbar.wires import (
    Approximate,
    Exact,
    Floating,
    Iterative,
    Newton,
    SourceLine,
    Wires,
    disturb,
    prepare,
)
from devices import MiloIV, SinhIV
from tests.circuit_cases import cells, dense


def test_half_selected_cells_see_half_without_wires() -> None:
    g = cells(4, 3, 1)
    rows = torch.tensor([True, False, True, False])
    cols = torch.tensor([False, True, False])
    seen = disturb(prepare(g, Wires(0.0, 0.0)), rows, cols, 1.2)
    assert torch.allclose(seen.voltage, seen.nominal, atol=1e-15)
    assert torch.allclose(seen.voltage[seen.selected], torch.tensor(1.2, dtype=g.dtype))
    assert torch.allclose(seen.voltage[seen.half_selected], torch.tensor(0.6, dtype=g.dtype))
    assert float(seen.voltage[1, 0]) == 0 and int(seen.selected.sum()) == 2
    third = disturb(prepare(g, Wires(0.0, 0.0)), rows, cols, 1.2, unselected=1 / 3)
    others = third.voltage[~third.selected].abs()
    assert torch.allclose(others, torch.tensor(0.4, dtype=g.dtype))


def test_wires_take_voltage_away_from_the_far_corner() -> None:
    g = torch.full((16, 12), 5e-5, dtype=torch.float64)
    wires = Wires(20.0, 20.0)
    rows, cols = torch.ones(16, dtype=torch.bool), torch.ones(12, dtype=torch.bool)
    seen = disturb(prepare(g, wires), rows, cols, 1.0)
    half = torch.full((16,), 0.5, dtype=g.dtype)
    assert torch.allclose(seen.voltage, dense(g, wires, half, -half[:12])[1], atol=1e-12)
    assert float(seen.voltage[-1, 0]) == float(seen.voltage.max())
    assert float(seen.voltage[0, -1]) < 0.9 * float(seen.voltage[-1, 0])


def test_a_selector_like_cell_confines_the_disturb() -> None:
    """Exponential cells carry less at half voltage, so the selected one keeps more of its own."""
    g = torch.full((32, 32), 2e-5, dtype=torch.float64)
    one = torch.zeros(32, dtype=torch.bool)
    one[0] = True
    far = torch.zeros(32, dtype=torch.bool)
    far[-1] = True
    wires = Wires(20.0, 20.0)
    law = SinhIV(0.25)
    # equal current at full voltage
    ohmic = disturb(prepare(law.current(g, torch.ones(())), wires), one, far, 1.0)
    sinh = disturb(prepare(g, wires, law), one, far, 1.0)
    assert float(sinh.voltage[0, -1]) > float(ohmic.voltage[0, -1])


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Wires(-1.0, 1.0), ValueError, "r_wordline must be >= 0 ohm, got -1.0"),
        (lambda: Wires(1.0, float("nan")), ValueError, "r_bitline must be finite"),
        (lambda: Wires("1", 1.0), TypeError, "r_wordline must be a real number"),  # type: ignore[arg-type]
        (lambda: Wires(torch.ones(2), 1.0), TypeError, "0-dim"),
        (lambda: Wires(1.0, 1.0, source=SourceLine), TypeError, r"did you mean SourceLine\(\)"),  # type: ignore[arg-type]
        (lambda: Wires(1.0, 1.0, both_drivers=True, source=SourceLine(1.0)), ValueError, "source"),
        (lambda: SourceLine(0.0), ValueError, "v must be > 0 V"),
        (lambda: Iterative(tolerance=0.0), ValueError, "tolerance must be > 0"),
        (lambda: Newton(max_steps=0), ValueError, "max_steps must be >= 1"),
        (lambda: Floating((-1,)), ValueError, "rows must be >= 0"),
    ],
)
def test_bad_settings(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


G = torch.full((3, 4), 1e-5)
W = Wires(1.0, 1.0)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: prepare(torch.ones(3, dtype=torch.int64), W), TypeError, "floating tensor"),
        (lambda: prepare(torch.ones(3), W), ValueError, r"\(\.\.\., rows, cols\)"),
        (lambda: prepare(-G, W), ValueError, "finite and >= 0 S"),
        (lambda: prepare(G * torch.inf, W), ValueError, "finite and >= 0 S"),
        (lambda: prepare(G, 1.0), TypeError, "wires must be a Wires"),  # type: ignore[arg-type]
        (lambda: prepare(G, W, solver=Exact), TypeError, r"did you mean Exact\(\)"),  # type: ignore[arg-type]
        (lambda: prepare(G, W, solver=Newton()), TypeError, "ohmic cells need"),
        (lambda: prepare(G, W, SinhIV(1), Exact()), TypeError, r"need Newton\(\)"),
        (lambda: prepare(G, W, floating=Floating((3,))), ValueError, "below 3"),
        (lambda: prepare(G, W, None, Iterative(), Floating((1,))), ValueError, "use Exact"),
        (lambda: prepare(G, W, None, Approximate(), Floating((1,))), ValueError, "use Exact"),
        (lambda: prepare(G, W).mv(torch.ones(4)), ValueError, "x must hold 3 rows"),
        (lambda: prepare(G, W).mv(torch.ones(3, dtype=torch.int64)), TypeError, "x must be"),
        (lambda: prepare(G, W, solver=Approximate()).fields(torch.ones(3)), TypeError, "Exact"),
        (lambda: prepare(G[None], W).mv(torch.ones(2, 1, 3)), ValueError, "broadcast"),
        (lambda: prepare(G, Wires(1.0, 1.0, interleaved=True)), ValueError, "interleaved g"),
        (lambda: disturb(prepare(G, W), G[:, 0] > 0, G[0] > 0, -1.0), ValueError, "v must be > 0"),
    ],
)
def test_bad_arrays(make: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_a_cell_that_is_not_odd_knows_its_direction() -> None:
    g = torch.full((2, 2), 1e-4, dtype=torch.float64)
    d = torch.tensor([0.4, 0.3], dtype=torch.float64)
    back = prepare(g, Wires(0.0, 0.0), MiloIV()).mv_t(d)
    assert torch.allclose(back, -MiloIV().current(g, -d).sum(-1), rtol=1e-9)


def test_settings_repr_evaluates_back() -> None:
    wires = Wires(1.0, 2.0, 3.0, 4.0, False, source=SourceLine(0.2, 1.0))
    assert eval(repr(wires)) == wires
    for solver in (Exact(), Iterative(), Newton(), Approximate()):
        assert eval(repr(solver)) == solver
