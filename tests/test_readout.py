"""What figures say as data and as a sentence, and in how few bytes a page holds them."""

import csv
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.lab.plots import Line, Panel, Trace, dots, grid, pairs, panels, responses, style
from experiments.lab.rasters import membranes, raster, weight_maps
from experiments.lab.readout import data, seen
from experiments.lab.svg import thin
from experiments.lab.tradeoffs import Offer, breakdown, pareto
from experiments.studies.circuit.plots import maps

LEVELLED = panels([Panel("p", "x", "y", [Line("a", [1.0, 2.0], [3.0, 4.0])], level=(7.0, "spec"))])
FIGURES = {
    "panels": LEVELLED,
    "dots": dots(["r"], {"c": [[1.0, 2.0]]}, xlabel="x", levels={"c": (3.0, "base")}),
    "responses": responses([Trace("t", [0.0, 1.0, 0.0], [0.1] * 3, [0.0, 1.0, 0.1], (0.0, 1.0))]),
    "pairs": pairs([("g", [1.0, 2.0], [3.0, 4.0], "red")], names=("a", "b"), ylabel="y"),
    "grid": grid([[1.0, 2.0], [3.0, 4.0]], ("r", ["a", "b"]), ("c", ["d", "e"]), "what"),
    "raster": raster([1.0, 2.0], [0.0, 5.0], xlabel="ms"),
    "membranes": membranes([0.0, 1.0], {"m": [0.0, 0.5]}, threshold=0.4, xlabel="ms"),
    "weights": weight_maps([[1.0, 2.0]], (2, 1), ["n"]),
    "pareto": pareto([Offer("o", 1.0, 2.0), Offer("q", 2.0, 3.0)], "x", "y"),
    "bars": breakdown({"p": {"x": 3.0, "y": 1.0}}, "share"),
    "maps": maps({"loss": ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "%")}, 2, 3),
}


def rows(figure: Figure) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data(figure))))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_its_numbers_behind_it_under_names_of_their_own(name: str) -> None:
    found = rows(FIGURES[name])
    assert len(found) >= 2
    for row in found:
        assert row["line"] and not row["line"].startswith("_") and "child" not in row["line"]


def test_a_level_has_no_x_and_a_field_every_cell() -> None:
    told = [(r["line"], r["x"], r["y"]) for r in rows(LEVELLED)]
    assert told == [("a", "1", "3"), ("a", "2", "4"), ("spec", "", "7")]
    assert ("base", "3", "") in [(r["line"], r["x"], r["y"]) for r in rows(FIGURES["dots"])]
    field = [(r["line"], r["x"], r["y"]) for r in rows(FIGURES["maps"])]
    assert field == [(f"row {k // 3}", f"{k % 3}", f"{k + 1}") for k in range(6)]
    assert "spec" not in seen(LEVELLED) and "a from 3 to 4" in seen(LEVELLED)
    assert seen(FIGURES["maps"]) == "loss: a field from 1 to 6"


def test_a_field_is_one_path_a_colour_and_every_cell_stays_where_it_was() -> None:
    """Corners of the cells of each colour, of matplotlib's own paths and of the short ones."""
    values = np.random.default_rng(0).integers(0, 5, 32 * 40).tolist()
    file = io.BytesIO()
    maps({"loss": (values, "%")}, 32, 40).savefig(file, format="svg")
    full = file.getvalue().decode()
    short = thin(full)

    def cells(svg: str, cell: str) -> dict[str, list[tuple[float, ...]]]:
        """Corners by colour; a look is an attribute, or a class of the style sheet."""
        looks = dict(re.findall(r"\.(c\d+){([^}]*)}", svg))
        found: dict[str, list[tuple[float, ...]]] = {}
        for tag in re.findall(r"<path[^>]*clip-path[^>]*>", svg):
            look = re.search(r"(?:class|style)=[\'\"]([^\'\"]*)", tag)
            assert look is not None
            colour = re.search(r"fill: (#\w{6})", looks.get(look[1], look[1]))
            if colour is not None:
                corners = re.findall(cell, tag)
                found.setdefault(colour[1], []).extend(tuple(map(float, c)) for c in corners)
        return {colour: sorted(own) for colour, own in found.items()}

    long = cells(full, r"M (\S+) (\S+) \nL \S+ \S+ \nL (\S+) (\S+)")
    few = cells(short, r"M(\S+) (\S+?)H([\d.]+)V([\d.]+)H")
    assert len(few) == 5 and sum(map(len, few.values())) == 32 * 40
    assert short.count("<path") < full.count("<path") - 32 * 40 + 6
    for colour, own in few.items():
        np.testing.assert_allclose(own, long[colour], atol=0.1)


def test_a_line_keeps_its_points_and_its_look_in_fewer_bytes() -> None:
    file = io.BytesIO()
    x = [0.1 * k for k in range(100)]
    line = Line("a", x, [v**2 for v in x], colour="#123456", marker=False)
    with style():
        panels([Panel("p", "x", "y", [line])]).savefig(file, format="svg")
    full = file.getvalue().decode()
    short = thin(full)
    assert len(short) < 0.6 * len(full)
    ElementTree.fromstring(short)

    def drawn(svg: str, path: str) -> list[float]:
        (points,) = [d for d in re.findall(path, svg, re.DOTALL) if len(d) > 500]
        return [float(number) for number in re.findall(r"[-\d.]+", points)]

    long = drawn(full, r' d="([^"]*)"')
    assert len(long) == 200
    np.testing.assert_allclose(drawn(short, r" d='([^']*)'"), long, atol=0.1)
    (name,) = re.findall(r"\.(c\d+){fill: none; stroke: #123456; stroke-width: [^}]*}", short)
    assert f"class='{name}'" in short and short.count(" style=") == 0
