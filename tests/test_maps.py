"""Measured conductance maps onto a layer and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import crossbar as xb
from devices import Device, SoftBounds
from tests._analog import cells_of, per_siemens

CELL = Device(g_min=1e-6, g_max=50e-6, update=SoftBounds(dg_min=0.1e-6))


def layer(**settings: object) -> xb.AnalogLinear:
    return xb.AnalogLinear(5, 3, bias=False, chip=xb.Chip(device=CELL), seed=1, **settings)


def test_maps_become_the_weights_and_come_back(tmp_path) -> None:
    torch.manual_seed(0)
    on = layer(mode=xb.InSitu())
    maps = 1e-6 + 49e-6 * torch.rand(2, 5, 3, dtype=torch.float64)
    maps[0, 2, 1] = 55e-6  # measured outside the nominal window: kept
    xb.load_maps(on, maps[0], maps[1])
    scale = per_siemens(on)
    expected = (maps[0] - maps[1]).mT * scale
    assert torch.allclose(on.weight.double(), expected, rtol=1e-5, atol=1e-7)
    x = torch.rand(4, 5)
    assert torch.allclose(on(x).double(), x.double() @ expected.mT, rtol=1e-4, atol=1e-5)
    paths = tmp_path / "plus.csv", tmp_path / "minus.csv"
    xb.save_maps(on, *paths)
    other = layer(mode=xb.InSitu())
    xb.load_maps(other, *paths)
    assert torch.equal(cells_of(other).g, cells_of(on).g)


def test_what_is_no_map_is_refused() -> None:
    on, good = layer(mode=xb.InSitu()), torch.full((5, 3), 1e-6)
    with pytest.raises(ValueError, match=r"positive must be of shape \(5, 3\)"):
        xb.load_maps(on, good.mT, good)
    with pytest.raises(ValueError, match="numbers of wordlines"):
        xb.load_maps(on, torch.full((6, 3), 1e-6), good)
    with pytest.raises(ValueError, match="until program"):
        xb.load_maps(layer(), good, good)
    with pytest.raises(TypeError, match="negative must be a tensor"):
        xb.load_maps(on, good, {"g": 1})
    with pytest.raises(ValueError, match="unit"):
        xb.load_maps(on, good, good, unit="V")


MAP = np.linspace(2e-6, 50e-6, 15).reshape(5, 3)
FORMS = {
    "array": lambda path: MAP,
    "tensor": lambda path: torch.tensor(MAP),
    "npy": lambda path: np.save(path / "m.npy", MAP) or path / "m.npy",
    "savetxt": lambda path: np.savetxt(path / "m.txt", MAP) or path / "m.txt",
    "semicolons": lambda path: text(path, ";", ","),
    "tabs": lambda path: text(path, "\t", "."),
    "header": lambda path: text(path, ",", ".", "BL0,BL1,BL2\n"),
    "utf-16": lambda path: text(path, ",", ".", encoding="utf-16"),
}


def text(folder, sep, point, head="", encoding="utf-8"):
    rows = [sep.join(f"{g:.9g}".replace(".", point) for g in row) for row in MAP]
    path = folder / "map.csv"
    path.write_bytes((head + "\n".join(rows) + "\n").encode(encoding))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_map(tmp_path, form: str) -> None:
    on = layer(mode=xb.InSitu())
    xb.load_maps(on, FORMS[form](tmp_path), MAP[::-1].copy())
    np.testing.assert_allclose(cells_of(on).g[0], MAP, rtol=1e-6)
    np.testing.assert_allclose(cells_of(on).g[1], MAP[::-1], rtol=1e-6)


@pytest.mark.parametrize(("unit", "values"), [("uS", MAP * 1e6), ("kohm", 1e-3 / MAP)])
def test_units_of_maps(unit: str, values) -> None:
    on = layer(mode=xb.InSitu())
    with pytest.raises(ValueError, match="25 uS is 25e-6"):
        xb.load_maps(on, values, values)
    xb.load_maps(on, values, values, unit=unit)
    np.testing.assert_allclose(cells_of(on).g[0], MAP, rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "words", "options"),
    [
        (np.nan, "positive: the cell at row 3, column 1 has no conductance", {"missing": 1e-6}),
        (-1e-9, "row 3, column 1 is negative.*below_zero", {"below_zero": 0.0}),
        (np.inf, "row 3, column 1 is infinite", None),
        (2.0, "row 3, column 1 has 2 S", None),
    ],
)
def test_a_bad_cell_is_named(tmp_path, value, words, options) -> None:
    on, bad = layer(mode=xb.InSitu()), MAP.copy()
    bad[3, 1] = value
    np.savetxt(tmp_path / "bad.csv", bad, delimiter=",")
    for given in (bad, tmp_path / "bad.csv") if value != np.inf else (bad,):
        with pytest.raises(ValueError, match=words):
            xb.load_maps(on, given, MAP)
    if options:
        xb.load_maps(on, bad, MAP, **options)
        want = MAP.copy()
        want[3, 1] = next(iter(options.values()))
        np.testing.assert_allclose(cells_of(on).g[0], want, rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_maps_of_a_convolution(tmp_path, groups: int) -> None:
    chip = xb.Chip(device=CELL)
    on = xb.AnalogConv2d(4, 6, 3, groups=groups, bias=False, chip=chip, mode=xb.InSitu(), seed=1)
    shape = tuple(cells_of(on).g.shape[1:])
    maps = np.random.default_rng(0).uniform(2e-6, 50e-6, (2, *shape))
    # one group is one matrix, in whichever shape it comes
    given = [m.reshape(shape[-2:]) if groups == 1 else m for m in maps]
    xb.load_maps(on, *given)
    np.testing.assert_allclose(cells_of(on).g, maps, rtol=1e-6)
    paths = [tmp_path / name for name in ("plus.npy", "minus.npy")]
    xb.save_maps(on, *paths)
    again = xb.AnalogConv2d(4, 6, 3, groups=groups, bias=False, chip=chip, mode=xb.InSitu(), seed=2)
    xb.load_maps(again, *paths)
    assert torch.equal(cells_of(again).g, cells_of(on).g)
    if groups > 1:
        with pytest.raises(ValueError, match="npy"):
            xb.save_maps(on, tmp_path / "plus.csv", tmp_path / "minus.csv")
