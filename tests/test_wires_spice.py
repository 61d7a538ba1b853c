"""Every solved circuit against ngspice, live where it is installed and frozen everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import crossbar as xb
from crossbar import spice
from crossbar.wires import Fields, Wires, prepare
from tests._analog import matrix_of, per_siemens
from tests.circuit_cases import (
    FROZEN,
    FROZEN_BADCROSSBAR,
    LINES,
    Case,
    badcrossbar_circuits,
    cases,
    cells,
    dense,
    volts,
)
from tests.test_wires_layers import linear

CASES = list(cases())
needs_ngspice = pytest.mark.skipif(not spice.available(), reason="ngspice is not installed")


def error(found: Tensor, wanted: Tensor, scale: Tensor | None = None) -> float:
    """max |error| over the largest of its kind; nodes that ngspice does not have are left out."""
    size = (wanted if scale is None else scale).nan_to_num().abs().max()
    gap = torch.where(wanted.isnan(), 0.0, found - wanted)
    return float(gap.abs().max() / size.clamp_min(1e-30))


def bound(case: Case) -> float:
    return 1e-10 if case.iv is None else 1e-8


def solved(case: Case) -> Fields:
    network = prepare(case.g, case.wires, case.iv, floating=case.floating)
    return network.fields(case.x, case.y)


def test_there_are_enough_circuits() -> None:
    assert len(CASES) >= 40 and len({case.name for case in CASES}) == len(CASES)
    assert sum(case.iv is not None for case in CASES) >= 15


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_frozen_ngspice(case: Case) -> None:
    found = solved(case)
    frozen = np.load(FROZEN)
    assert error(found.output, torch.from_numpy(frozen[f"{case.name}.output"])) < bound(case)
    if f"{case.name}.wordline" in frozen:
        for name, mine in (
            ("wordline", found.wordline_voltage),
            ("bitline", found.bitline_voltage),
        ):
            theirs = torch.from_numpy(frozen[f"{case.name}.{name}"])
            assert error(mine, theirs, case.x) < bound(case)


@needs_ngspice
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_live_ngspice(case: Case) -> None:
    found = solved(case)
    truth = spice.simulate(case.g, case.wires, case.x, case.y, iv=case.iv, floating=case.floating)
    assert error(found.output, truth.output) < bound(case)
    nodes = torch.cat((truth.wordline_voltage, truth.bitline_voltage)).nan_to_num()
    assert error(found.wordline_voltage, truth.wordline_voltage, nodes) < bound(case)
    assert error(found.bitline_voltage, truth.bitline_voltage, nodes) < bound(case)
    if case.wires.both_drivers or case.wires.source is not None or case.floating is not None:
        return
    # wire currents through Kirchhoff sums of cell currents
    u = truth.wordline_voltage - truth.bitline_voltage
    i = case.g * u if case.iv is None else case.iv.current(case.g, u)
    assert error(found.cell_current, i) < bound(case)
    along = i.flip(-1).cumsum(-1).flip(-1)
    assert error(found.wordline_current, along) < bound(case)
    if not case.wires.both_senses:
        assert error(found.bitline_current, i.cumsum(-2)) < bound(case)


@pytest.mark.parametrize("name", LINES)
def test_dense_nodal_solution(name: str) -> None:
    """The oracle of the property tests is held against the solver and so against ngspice."""
    wires = LINES[name]
    for shape in ((5, 4), (1, 3), (7, 9)):
        g, x, y = cells(*shape, 5), volts(shape[0], 5), volts(shape[1], 6)
        found = prepare(g, wires).fields(x, y)
        output, u = dense(g, wires, x, y)
        assert error(found.output, output) < 1e-11
        assert error(found.cell_voltage, u, x) < 1e-11


@pytest.mark.parametrize("k", range(6))
def test_frozen_badcrossbar(k: int) -> None:
    g, x, wires = list(badcrossbar_circuits())[k]
    truth = torch.from_numpy(np.load(FROZEN_BADCROSSBAR)[f"output_{k}"])
    assert error(prepare(g, wires).mv(x), truth) < 1e-9


def test_deck_keeps_seventeen_digits_and_merges_nodes() -> None:
    g = torch.tensor([[1e-5, 3e-5], [0.0, 1 / 3 * 1e-5]], dtype=torch.float64)
    x = torch.tensor([0.1, 1 / 3], dtype=torch.float64)
    deck = spice.netlist(g, Wires(0.0, 2.0), x)
    assert "Rg_1_1 d_1 b_1_1 299999.99999999994" in deck or "Rg_1_1 d_1 b_1_1 300000" in deck
    assert "Vd_1 d_1 0 DC 0.33333333333333331" in deck
    assert "Rg_1_0" not in deck and "Rw_" not in deck
    assert "* w_0_1 = d_0" in deck


@needs_ngspice
@pytest.mark.parametrize("interleaved", [False, True])
def test_the_decks_of_a_layer_add_up_to_its_read(interleaved: bool) -> None:
    wires = Wires(20.0, 30.0, 5.0, 5.0, interleaved=interleaved)
    layer = linear(9, 7, wires, xb.InSitu(), tile=(5, 4))[0]  # type: ignore[index]
    xb.reorder(layer)
    v = volts(9, 1)
    total = torch.zeros(7, dtype=torch.float64)
    for name, deck in xb.spice.decks(layer, v).items():
        found, c = spice.run(deck), int(name.split("_")[2])
        currents = [found[f"i(vs_{j})"] for j in range(sum(k.startswith("i(vs_") for k in found))]
        i = torch.tensor(currents, dtype=torch.float64)
        if interleaved:
            i = i[0::2] - i[1::2]
        total[c : c + len(i)] += -i if name.endswith("minus") else i
    logical = torch.empty_like(total)
    logical[matrix_of(layer).order[1]] = total
    scale = per_siemens(layer)
    with torch.no_grad():
        assert error(layer(v), logical * scale) < 1e-10
    with pytest.raises(TypeError, match="no cells"):
        xb.spice.decks(linear(3, 2, wires, xb.HardwareAware())[0], v[:3])  # type: ignore[index]


def test_bad_decks_are_refused() -> None:
    g, x = torch.ones(2, 3), torch.ones(2)
    with pytest.raises(ValueError, match=r"g \(rows, cols\)"):
        spice.netlist(g, Wires(1.0, 1.0), torch.ones(3))
    with pytest.raises(ValueError, match="interleaved"):
        spice.netlist(g, Wires(1.0, 1.0, interleaved=True), x)
    with pytest.raises(RuntimeError if spice.available() else FileNotFoundError, match="ngspice"):
        spice.run("not a deck\nR1 a\n.end\n")
