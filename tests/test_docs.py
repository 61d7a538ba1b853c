"""The examples of docs/ run as they stand, and are what they are said to be."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import crossbar as xb
import devices

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "devices.md").read_text()
TRAVEL = ROOT / "docs" / "travel.md"


@pytest.mark.slow
def test_the_documented_law_is_a_script_that_passes_the_contract(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (tmp_path / "my_cell.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "my_cell.py"]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    law = code[code.index("@dataclass") : code.index("check(Bell())")]
    assert len([line for line in law.splitlines() if line.strip()]) <= 20


@pytest.mark.slow
def test_the_contract_decides_about_the_documented_law(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    wrong = code.replace("lambda g: -up(g)", "lambda g: up(g)")
    assert wrong != code
    (tmp_path / "my_cell.py").write_text(wrong)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "my_cell.py"]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "raised g by 1 down pulses" in done.stderr


def test_every_part_is_on_the_page():
    for name, value in vars(devices).items():
        if isinstance(value, type) and issubclass(value, devices.Part):
            if value.__module__ != "devices.part":
                assert f"`{name}`" in PAGE, name


# ---- docs/travel.md ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def travel() -> dict[str, Any]:
    """What the page's python blocks leave, run in order in one namespace."""
    text = TRAVEL.read_text()
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M))
    assert len(blocks) == text.count("```python") == 4
    torch.manual_seed(0)
    namespace: dict[str, Any] = {"__name__": "travel"}
    for block in blocks:
        # blank lines in front, so that a traceback names the line of the page
        source = "\n" * text.count("\n", 0, block.start(1)) + block.group(1)
        exec(compile(source, str(TRAVEL), "exec"), namespace)
    return namespace


def test_the_followed_layer_was_trained_by_pulses(travel):
    layer, weight = travel["layer"], travel["weight"]
    assert weight.matrix.cells.g.shape == (2, 64, 10)
    assert not weight.tape.entries  # consumed
    assert torch.equal(layer.weight.detach(), weight.held.mT)


def test_the_documented_converter_skews_every_column(travel):
    digital = nn.Linear(64, 10, bias=False)
    adc = travel["SkewedADC"](bits=12, spread=0.1, range=xb.PerVector())
    layer = xb.convert(digital, xb.Chip(forward=xb.Periphery(adc=adc)), seed=0)
    x = torch.randn(8, 64)
    gains = layer.analog["weight"].matrix.forward_port.adc_gain[0, 0]
    assert gains.shape == (10,) and gains.std() > 0.02
    # gains above 1 clip the peak of a vector, which is its full scale
    wanted = digital(x)
    top = wanted.abs().amax(-1, keepdim=True)
    wanted = torch.minimum(torch.maximum(wanted * gains, -top), top)
    assert (layer(x) - wanted).abs().max() < 2 * top.max() / 2**12


@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.InSitu(xb.Expected())])
def test_the_documented_mapping_computes_and_learns_as_torch(travel, mode):
    digital = nn.Linear(64, 10, dtype=torch.float64)
    x = torch.randn(8, 64, dtype=torch.float64)
    layer = xb.convert(digital, xb.Chip(mapping=travel["CoarseFine"]()), mode, seed=0)
    assert (layer(x) - digital(x)).abs().max() < 1e-14
    sgd, pulses = torch.optim.SGD(digital.parameters(), 1e-3), xb.InSituSGD(layer, 1e-3)
    for model, optimiser in ((digital, sgd), (layer, pulses)):
        model(x).square().sum().backward()
        optimiser.step()
    assert (layer.weight - digital.weight).abs().max() < 1e-14


@pytest.mark.parametrize(
    ("digital", "shape"),
    [(nn.Linear(64, 10), (8, 64)), (nn.Conv1d(4, 6, 3, groups=2), (8, 4, 9))],
)
def test_the_documented_rule_moves_every_weight_one_step(travel, digital, shape):
    layer = xb.convert(digital, xb.Chip(), xb.InSitu(rule=travel["Manhattan"]()), seed=0)
    optimiser, before = xb.InSituSGD(layer, 0.1), layer.weight.detach().clone()
    layer(torch.randn(shape)).square().mean().backward()
    gradient = layer.weight.grad.clone()
    optimiser.step()
    step = layer.analog["weight"].matrix.granularity
    moved = (layer.weight.detach() - before) / step
    assert (moved + gradient.sign()).abs().max() < 1e-3


def test_every_file_of_the_floor_is_on_the_page():
    table = TRAVEL.read_text().split("## Which file does what\n\n")[1].split("\n\n")[0]
    files = [line.split("|")[1] for line in table.splitlines()[2:]]
    named = re.findall(r"`(\w+/?)`", " ".join(files))
    floor = ROOT / "crossbar"
    there = [path.stem for path in floor.glob("*.py") if path.stem != "__init__"]
    there += [f"{path.parent.name}/" for path in floor.glob("*/__init__.py")]
    assert sorted(named) == sorted(there)


MODELS = ROOT / "docs" / "models.md"


def test_the_page_on_models_runs_as_it_stands(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", MODELS.read_text(), re.S | re.M)
    assert len(blocks) == 7
    torch.manual_seed(0)
    space: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(MODELS), "exec"), space)
    printed = capsys.readouterr().out
    assert "100.00% of the weights" in printed and "2.592e+06" in printed
    assert {line.state for line in space["receipt"]} == {"analog", "table", "digital"}


MAPPINGS = ROOT / "docs" / "mappings.md"


def test_the_page_on_mappings_runs_as_it_stands():
    text = MAPPINGS.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    assert len(blocks) == text.count("```python") == 5
    space: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(MAPPINGS), "exec"), space)
    named = set(re.findall(r"^\| `(\w+)\(", text.split("## Options")[0], re.M))
    there = {name for name in vars(xb.mappings) if isinstance(getattr(xb.mappings, name), type)}
    kinds = {n for n in there if issubclass(getattr(xb.mappings, n), xb.Mapping)}
    assert named == kinds - {"Mapping"}


RULES = ROOT / "docs" / "rules.md"


def test_the_page_on_rules_runs_as_it_stands():
    text = RULES.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    assert len(blocks) == text.count("```python") == 2
    torch.manual_seed(0)
    space: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(RULES), "exec"), space)
    assert space["cost"].arrays == 1 and space["cost"].reads == 1
    assert space["cost"].bytes == pytest.approx(12, abs=2)
    named = set(re.findall(r"^\| `(\w+)\(", text.split("## What is meant")[0], re.M))
    there = {name for name in vars(xb.rules) if isinstance(getattr(xb.rules, name), type)}
    kinds = {n for n in there if issubclass(getattr(xb.rules, n), xb.Rule)}
    assert named == kinds - {"Rule"}


SPIKING = ROOT / "docs" / "spiking.md"


def test_the_page_on_spikes_runs_as_it_stands():
    text = SPIKING.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    assert len(blocks) == text.count("```python") == 3
    torch.manual_seed(0)
    space: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(SPIKING), "exec"), space)
    assert space["membranes"].shape == (25, 8, 10)
    assert bool((space["array"].weight != 0.5).any())
    assert float(space["sp"].overlap(space["recalled"], space["patterns"]).mean()) > 0.95


# ---- docs/energy.md ----------------------------------------------------------------------------


def test_the_page_on_energy_runs_as_it_stands(capsys):
    text = (ROOT / "docs" / "energy.md").read_text()
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(code, names)
    assert names["bill"].total.joules > names["cheaper"].total.quadrature[0] > 0
    assert "Energy of the macro" in capsys.readouterr().out
    for name in xb.costs.__dict__:
        if name.endswith("nm"):
            assert name in text or name == "digital_45nm"
