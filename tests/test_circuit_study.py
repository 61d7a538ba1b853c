"""The circuit study's own pieces: fields of an array, heat maps as vectors, the drawing."""

from __future__ import annotations

import io
import random
from argparse import Namespace
from pathlib import Path

import pytest
import torch

import crossbar as xb
from experiments.lab.report import Picture, Report, Section, Table, write
from experiments.lab.store import Store
from experiments.studies.circuit.plots import drawing, maps
from experiments.studies.circuit.runs import Fields, Wired
from experiments.studies.circuit.study import KAPPAS, METHODS, UNITS, Circuit, chip
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe


def test_fields_are_those_of_the_network(tmp_path: Path) -> None:
    run = Fields(6, 5, xb.Wires(30.0, 40.0), 1e-6, 1e-4)
    with Store(tmp_path) as store:
        found = run.execute(store)
    assert found.metrics["residual"] < 1e-12 and 0 < found.metrics["loss"] < 1
    along = torch.tensor(found.curves["wordline current"]).view(6, 5)
    cells = torch.tensor(found.curves["cell current"]).view(6, 5)
    assert torch.allclose(along[:, 0], cells.sum(1), rtol=1e-6)
    # power is what the drivers give: the sense amplifiers sit at ground
    assert found.metrics["power"] == pytest.approx(0.2 * float(cells.sum()), rel=1e-6)


def test_heat_maps_and_the_drawing_are_vector_graphics() -> None:
    figures = [maps({"loss": ([float(k) for k in range(12)], "%")}, 3, 4), drawing(2, 2)]
    for figure in figures:
        file = io.BytesIO()
        figure.savefig(file, format="svg")
        text = file.getvalue().decode()
        # the colour bar alone may be an image
        assert text.count("<image") <= 1 and text.count("<path") > 10


def test_a_page_of_all_fields_stays_far_below_a_megabyte(tmp_path: Path) -> None:
    """One of them, with every cell of another colour than its neighbours."""
    drawn, draw = Circuit().fields(), random.Random(0)
    values = [draw.random() for _ in range(drawn.rows * drawn.cols)]
    figure = maps({"a": (values, "V")}, drawn.rows, drawn.cols)
    section = Section("s", [], [Picture("map", figure, "caption")])
    page = write(Report("t", "", [], Table([], []), sections=[section]), tmp_path)
    assert 30_000 < page.stat().st_size < 700_000 / len(UNITS)


def test_kappa_of_a_tile_is_what_the_chip_is_made_for() -> None:
    made = chip(4.0)
    assert made.wires is not None
    middle = torch.full((64, 64), (made.device.g_min + made.device.g_max) / 2)
    assert made.wires.kappa(middle) == pytest.approx(4.0)
    assert chip(0.0).wires is None


def test_compensation_helps_a_network_behind_wires(tmp_path: Path) -> None:
    of = Train(Digits(), MLP((32,)), Recipe(epochs=3, lr=0.3))
    with Store(tmp_path) as store:
        store.put("circuit", of, of.execute(store), 1.0)
        found = {
            name: Wired(of, chip(16.0), **flags).execute(store).metrics["error"]
            for name, flags in METHODS.items()
        }
    assert all(error < 0.7 * found["none"] for name, error in found.items() if name != "none")


def test_the_study_declares_its_runs() -> None:
    runs = Circuit().runs(Namespace(seeds=2, quick=True))
    assert len(runs) == 1 + 1 + len(KAPPAS) * len(METHODS)
    with pytest.raises(ValueError, match="--seeds must be >= 1"):
        Circuit().runs(Namespace(seeds=0, quick=False))
