"""Every block of Python in pages and docstrings runs: those that no other test runs, here."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import crossbar as xb
import devices
from experiments.lab.run import Outcome
from experiments.lab.store import Store
from experiments.tasks.runs import Response

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
RAMP = ROOT / "tests" / "data" / "pulses" / "real_1000_up_down_every_10.csv"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
ELSEWHERE = ("devices", "energy", "mappings", "models", "rules", "spiking", "travel")  # test_docs
HERE = (
    "circuit",
    "compare/crosssim",
    "compare/snntorch",
    "pulse-data",
    "reference/index",
    "sweeps",
)


def given() -> dict[str, Any]:
    """What examples take for granted."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    cell = devices.Device(1e-6, 50e-6, update=devices.SoftBounds(0.05e-6))
    wires = xb.Wires(r_wordline=1.0, r_bitline=1.0)
    chip = xb.Chip(cell, forward=xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=8)), wires=wires)
    model = xb.convert(net, chip, mode=xb.InSitu(), seed=0)
    g, x = 1e-6 + 49e-6 * torch.rand(6, 4, dtype=torch.float64), torch.rand(5, 6)
    return {
        **{name: getattr(devices, name) for name in ("Device", "GaussianRead", "GaussianWrite")},
        **{"xb": xb, "torch": torch, "MyLaw": devices.ConstantStep, "seed": 1},
        **{"matrix": xb.matrix, "complex_matrix": xb.complex_matrix, "chip": xb.Chip(cell)},
        **{"net": net, "model": model, "layer": model[0], "batches": [x], "g": g, "wires": wires},
        **{"optimizer": xb.InSituSGD(model, 0.01), "criterion": nn.MSELoss(), "probe": xb.Probe()},
        "y": torch.rand(5, 3),
        "x": x,
    }


def run(code: str, where: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code, where, "exec"), names)
    return names


def test_the_pages_with_python_blocks_are_those_that_a_test_runs() -> None:
    pages = [page for page in DOCS.rglob("*.md") if BLOCK.search(page.read_text())]
    found = {str(page.relative_to(DOCS).with_suffix("")) for page in pages}
    assert found == {*ELSEWHERE, *HERE}
    run_there = (ROOT / "tests" / "test_docs.py").read_text()
    for name in ELSEWHERE:
        assert f'"{name}.md"' in run_there


@pytest.mark.parametrize("name", HERE)
def test_python_blocks_of_a_page_run(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    page = DOCS / f"{name}.md"
    names = given()
    if name == "circuit":
        names |= {"x": names["x"].double(), "d": torch.rand(5, 4, dtype=torch.float64)}
        names |= {"cotangent": torch.ones(5, 4, dtype=torch.float64), "std": 1e-7 + 0 * names["g"]}
    if name == "compare/crosssim":
        names |= {"W": torch.randn(4, 6), "x": torch.rand(6)}
    if name == "compare/snntorch":
        names |= {"nn": nn, "sp": xb.spiking, "x": torch.rand(5, 64)}
    if name == "pulse-data":
        monkeypatch.chdir(tmp_path)
        (tmp_path / "my_pulses.csv").write_text(RAMP.read_text())
    if name == "sweeps":
        pytest.importorskip("pandas")
        monkeypatch.chdir(tmp_path)
        one = Response(names["chip"].device, 1)
        with Store("results") as store:
            store.put("sweep", one, Outcome({"value": 2.5}, {}), 1.0)
    for code in BLOCK.findall(page.read_text()):
        names = run(code, str(page), names)
    if name == "pulse-data":
        assert names["found"].parameters["dg_min"].value > 0
        assert names["cell"].retention is not None and names["cell"].iv is not None
    if name == "sweeps":
        assert list(names["table"]["value"]) == [2.5]
    if name == "compare/snntorch":
        assert names["spikes"].shape == (10, 5, 10)
    if name == "compare/crosssim":
        assert xb.figures(names["y"], names["W"] @ names["x"]).relative_error < 0.2


def examples() -> Iterator[tuple[str, str]]:
    """Paragraphs of docstrings that are Python with a call or an import, and where they stand."""
    for floor in ("crossbar", "devices", "experiments"):
        for path in sorted((ROOT / floor).rglob("*.py")):
            for said in re.findall(r'"""(.*?)"""', path.read_text(), re.S):
                assert ">>>" not in said, f"{path}: examples are written without prompts here"
                paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(said))
                code = [text for text in map(textwrap.dedent, paragraphs) if is_code(text)]
                if code:
                    yield str(path.relative_to(ROOT)), "\n".join(code)


def is_code(text: str) -> bool:
    if not re.search(r"\w\(|import ", text) or re.match(r"\w+: ", text):
        return False
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:  # prose, an equation, a drawing
        return False
    return any(isinstance(node, ast.Call | ast.Import | ast.ImportFrom) for node in nodes)


def wanted(where: str, code: str) -> dict[str, Any]:
    """What an example takes besides, by the file it stands in."""
    sp, names = xb.spiking, given()
    hard = sp.LIF(sp.SnnTorch(0.9), reset=sp.To())
    x, chip = torch.rand(7, 5, 6), names["chip"]
    complex_ = 1 + 0j if "complex" in code else 1
    synapses = xb.matrix(torch.full((3, 4), 0.5), xb.Chip(chip.device, xb.Unipolar(w_max=1.0)))
    more: dict[str, dict[str, Any]] = {
        "arrays": {k: complex_ * torch.rand(n) for k, n in {"W": (4, 6), "x": 6, "y": 4}.items()},
        "compensation": {"other": xb.convert(names["net"], names["model"][0].weight.analog.chip)},
        "drift": {"model": xb.convert(names["net"], chip, seed=0), "score": lambda model: 1.0},
        "model": {"checkpoint": checkpoint, "f": names["model"], "replay": xb.replay},
        "spice": {"v": torch.rand(6, dtype=torch.float64), "x": names["x"][0].double()},
        "interchange": {"net": sp.Sequential(nn.Linear(6, 4), hard), "x": x},
        "neurons": {"current": x[0], "currents": x},
        "plasticity": {"matrix": synapses, "pre": torch.ones(4), "post": torch.ones(3)},
        "sequence": {
            **{"net": sp.Sequential(nn.Linear(6, 4), sp.LIF()), "x": x, "x2": x, "LIF": sp.LIF},
            **{"analog_linear": names["model"][0], "another": names["model"][2]},
            "detach": sp.detach,
        },
    }
    return names | more.get(Path(where).stem, {})


def test_examples_of_docstrings_run(capsys: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(examples())
    assert len(found) >= 16
    for where, code in found:
        if "simulate" in code and not xb.spice.available():
            code = "\n".join(line for line in code.splitlines() if "simulate" not in line)
        names = wanted(where, code)
        if "nir." in code:
            names["nir"] = pytest.importorskip("nir")
        run(code, where, names)
    assert "0.weight" in capsys.readouterr().out
