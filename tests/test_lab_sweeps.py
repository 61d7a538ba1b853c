"""Declared sweeps, shipped ablations, and the statistics of specifications and yields."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

import crossbar as xb
from devices import GaussianRead
from experiments.lab.command import main, parser
from experiments.lab.report import write
from experiments.lab.run import Outcome
from experiments.lab.statistics import clopper_pearson, crossing
from experiments.lab.store import Store
from experiments.lab.study import studies
from experiments.studies.ablations.study import KEYS, Ablations
from experiments.tasks.declared import declared
from experiments.tasks.runs import Evaluate
from experiments.tasks.swept import specification
from experiments.tasks.training import Best


def test_the_interval_of_a_specification_covers_it() -> None:
    """Loss 25 x², spread .4 common to all x of a repeat, .3 of each: 1 point is lost at .2."""
    rng, x, held = np.random.default_rng(0), (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4), 0
    values = []
    for _ in range(200):
        common, own = 0.4 * rng.standard_normal(5), 0.3 * rng.standard_normal((7, 5))
        found = crossing(x, [25 * v**2 + common + e for v, e in zip(x, own, strict=True)])
        held += found.low <= 0.2 <= found.high or (math.isnan(found.low) and 0.2 <= found.high)
        values.append(found.value)
    assert held >= 180
    assert abs(np.nanmedian(values) - 0.2) < 0.01


def test_a_specification_beyond_what_was_tried_is_said() -> None:
    flat = [[0.1, 0.2], [0.2, 0.1], [0.1, 0.3]]
    assert crossing((1, 2, 3), flat).value == math.inf
    assert math.isnan(crossing((1, 2, 3), [[5.0, 5.1]] * 3).value)
    falling = crossing((100.0, 30.0, 10.0), [[0.0, 0.1], [0.5, 0.6], [1.5, 1.6]])
    # states: what is harmful is small; linear, since x spans no more than a decade
    assert falling.value == pytest.approx(30 - (1 - 0.55) * 20)
    wide = crossing((1000.0, 30.0, 10.0), [[0.0, 0.1], [0.5, 0.6], [1.5, 1.6]])
    assert wide.value == pytest.approx(30 * (10 / 30) ** 0.45)
    with pytest.raises(ValueError, match="at least two values of two repeats"):
        crossing((1, 2), [[1.0], [2.0]])
    with pytest.raises(ValueError, match="rise or fall"):
        crossing((1, 3, 2), flat)


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (3, 10), (930, 1000)])
def test_the_interval_of_a_yield_is_clopper_and_pearsons(hits: int, count: int) -> None:
    wanted = binomtest(hits, count).proportion_ci(0.95, method="exact")
    assert clopper_pearson(hits, count) == pytest.approx((wanted.low, wanted.high))


RANDOM = "random = {from = 1.0, to = 100.0, count = 2, seed = 3, log = true}"
GOOD = """
name = "Two fields"
network = "MLP"
epochs = 1
batch = 200
lr = [0.1, 0.3]
seeds = 2

[[axes]]
field = "forward.adc.bits"
log = {from = 16, to = 4, count = 3}

[[axes]]
fields = ["device.read", "mapping.route"]
values = [["None", "PushPull()"], ["GaussianRead(0.1)", "Reference()"]]

[[axes]]
field = "after"
RANDOM
""".replace("RANDOM", RANDOM)


def test_a_file_declares_grids_ranges_pairs_and_draws(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(GOOD.replace("log = {from = 16, to = 4, count = 3}", "values = [8, 4]"))
    sweep = declared(path)
    assert sweep.recipe.lr == Best((0.1, 0.3))
    points = sweep.points()
    assert len(points) == 2 * 2 * 2
    assert {p.chip.forward.adc.bits for p in points} == {8, 4}
    pairs = {(p.chip.device.read, p.chip.mapping.route) for p in points}
    assert pairs == {(None, xb.PushPull()), (GaussianRead(0.1), xb.Reference())}
    assert all(1 <= p.after <= 100 for p in points) and len({p.after for p in points}) == 2
    assert len(sweep.runs()) == 2 + 8 * 2
    reads = [run for run in sweep.runs() if isinstance(run, Evaluate)]
    assert {run.seed for run in reads} == {0, 1} and all(r.seed == r.of.seed for r in reads)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('network = "MLP"', 'netwrok = "MLP"', 3, "netwrok: no such key; did you mean 'network'"),
        ('network = "MLP"', 'network = "RNN"', 3, "must be one of MLP, CNN, got 'RNN'"),
        ("epochs = 1", "epochs = 0", 4, "epochs: must be a int >= 1, got 0"),
        ("seeds = 2", "seeds = true", 7, "seeds: must be a int >= 1, got True"),
        ("forward.adc.bits", "forward.adc.bit", 10, "did you mean 'bits'"),
        ("log = {from", "log = {form", 11, "form: no such key; did you mean 'from'"),
        ("count = 3", "count = 1", 11, "count >= 2"),
        ("GaussianRead", "GausianRead", 15, "did you mean 'GaussianRead'"),
        ('"Reference()"]', "]", 15, "each must be a list of 2"),
        ("random = {from = 1.0", "random = {from = -1.0", 19, "log range needs ends above 0"),
        ('field = "after"', 'feild = "after"', 18, "feild: no such key; did you mean 'field'"),
        ("[[axes]]", "[[axess]]", None, "axess: no such key; did you mean 'axes'"),
        ("epochs = 1", "epochs = = 1", None, "no TOML"),
        ('name = "Two fields"', "name = 3", 2, "name: must be text, got 3"),
        ("lr = [0.1, 0.3]", "lr = []", 6, "needs at least one"),
        ("lr = [0.1, 0.3]", "lr = 0", 6, "must be > 0"),
        ("seeds = 2", "seeds = 2\nchip = 3", 8, "must be text, a name or"),
        ("seeds = 2", 'seeds = 2\ndata = "mnist"\ndata_dir = "no"', 8, "MISSING"),
        (
            "seeds = 2",
            'seeds = 2\nchip = "Device(1e-6, 5e-5)"\nmode = "InSitu()"',
            12,
            "needs a device with an update",
        ),
        ("forward.adc.bits", "after", 9, "after would overwrite what after set before it"),
        ("random = {from = 1.0, to", "random = {from = true, to", 19, "needs numbers from, to"),
        (
            RANDOM,
            "values = [nan]",
            18,
            "after must be a time >= 0 s, got nan",
        ),
        (
            RANDOM,
            "values = [2, 2]",
            19,
            "the value 2 stands there twice",
        ),
        ("count = 2", "count = 99999999999", 19, "10000 >= count"),
        ('fields = ["device.read", "mapping.route"]', "fields = [1, 2]", 14, "must be text, got 1"),
    ],
)
def test_a_wrong_file_is_said_with_its_line(
    old: str,
    new: str,
    line: int | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(GOOD.replace(old, new))
    assert main(["sweep", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    if line is not None:
        assert f"s.toml, line {line}:" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bits", [(8, 6, 4, 2), (2, 4, 6, 8)])
def test_a_specification_is_looked_for_from_the_harmless_end(
    bits: tuple[int, ...], tmp_path: Path
) -> None:
    """Loss .25, .5, 1.5, 4 points at 8, 6, 4, 2 bits: a point is lost at 5, named up or down."""
    lost = {8: 0.25, 6: 0.5, 4: 1.5, 2: 4.0}
    path = tmp_path / "s.toml"
    path.write_text(f'[[axes]]\nfield = "forward.adc.bits"\nvalues = {list(bits)}')
    sweep = declared(path)
    with Store(tmp_path / "out") as store:
        for seed in range(3):
            digital = sweep.digital(seed)
            store.put("x", digital, Outcome({"accuracy": 97.0 + seed}, {}), 1.0)
            for point, n in zip(sweep.points(), bits, strict=True):
                found = Outcome({"accuracy": 97.0 + seed - lost[n]}, {})
                store.put("x", sweep.read(point, seed), found, 1.0)
        found = specification(sweep, store)
    assert found is not None and found.value == pytest.approx(5.0)


@pytest.mark.slow
def test_shipped_ablations_are_all_possible_and_reported(tmp_path: Path) -> None:
    """Every point can be made; the page says specifications of losses that are put in here."""
    study = Ablations()
    options = parser({study.name: study}).parse_args([study.name, "--seeds", "2"])
    sweeps = study.sweeps(options)
    assert [sweep.name for _, sweep in sweeps] == KEYS
    with Store(tmp_path) as store:
        for _, sweep in sweeps:
            for seed in range(2):
                digital = sweep.digital(seed)
                if digital not in store:
                    store.put("x", digital, Outcome({"accuracy": 97.0 + seed}, {}), 1.0)
                for n, point in enumerate(sweep.points()):
                    found = Outcome({"accuracy": 97.0 + 1.1 * seed - 0.6 * n**2}, {})
                    store.put("x", sweep.read(point, seed), found, 1.0)
        report = study.report(options, store)
    assert all(check.holds for check in report.checks)
    text = write(report, tmp_path / "page").read_text()
    assert "What is compared, and what is held equal" in text
    assert "one at a time: states, g_max/g_min, label" in text.split("Contents")[0]
    assert text.count("<img") == len(KEYS) and len(text) < 1_000_000
    rows = {row[0]: row[3] for row in report.table.rows}
    assert rows["route"] == "not decided"  # values without an order
    sizes = dict(part.split(": ") for part in rows["line resistance"].split("; "))
    assert list(sizes) == ["(16, 16)", "(32, 32)", "(64, 64)"]
    # (64, 64) is the third point: more than a point is lost from the mildest wires on
    assert sizes["(64, 64)"] == "every value tried" and 1 < float(sizes["(16, 16)"].split()[0]) < 10
    number = float(rows["stuck cells"].split()[0])
    assert 0.01 < number < 0.03  # .6 points at .01, 2.4 at .03


def test_every_study_has_a_quick_way() -> None:
    for name, study in studies().items():
        text = parser({name: study}).format_help()
        assert name in text
        sub = parser({name: study})._subparsers._group_actions[0].choices[name]  # type: ignore
        needs_none = {"sweep", "solver", "devices"}  # one file's own size; no trainings
        assert name in needs_none or "--quick" in sub.format_help(), name
