"""The studies from the command line down: declared runs, stored results, a report of them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import crossbar as xb
from devices import GaussianRead, SoftBounds
from experiments.lab.command import main, parser
from experiments.lab.engine import execute
from experiments.lab.paths import short
from experiments.lab.report import write
from experiments.lab.store import Store
from experiments.lab.study import studies
from experiments.studies.robustness.checks import checks
from experiments.studies.robustness.plan import AT_YEAR, SWEEPS, TIMES, Plan
from experiments.studies.robustness.report import report
from experiments.studies.robustness.results import Results
from experiments.tasks.budget import BUDGETS, Budget, Task
from experiments.tasks.data import Digits
from experiments.tasks.families import PULSES, families, pcm
from experiments.tasks.networks import CNN, MLP
from experiments.tasks.runs import Evaluate, Train
from experiments.tasks.training import Best, Recipe, score, train

TINY = Budget(
    name="tiny",
    seeds=2,
    chips=2,
    families=("ideal", "soft"),
    tasks={"MLP": Task(MLP((16,)), 2, w_max=1.0)},
    rates=(0.2, 0.4),
    samples=None,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    short = [replace(sweep, levels=sweep.levels[::3]) for sweep in SWEEPS[::2]]
    plan = Plan(Digits(), TINY, seeds=2, sweeps=short)
    store = Store(tmp_path_factory.mktemp("tiny"))
    execute("robustness", plan.all(), store, workers=2)
    return plan, store


def test_every_study_is_found_by_its_file() -> None:
    found = studies()
    assert {"ablate", "robustness"} <= found.keys()
    assert all(study.help for study in found.values())


def test_digital_training_is_plain_sgd() -> None:
    images = Digits().load()
    recipe = Recipe(epochs=1, batch=50, lr=0.3, decay=1.0)
    model = MLP((8,)).build(images.shape, 10, seed=3)
    twin = MLP((8,)).build(images.shape, 10, seed=3)
    train(model, torch.optim.SGD(model.parameters(), lr=0.3), images, recipe, 0.3, seed=5)
    order = torch.randperm(1347, generator=torch.Generator().manual_seed(5))
    for chosen in order.split(50):
        loss = torch.nn.functional.cross_entropy(
            twin(images.x_train[chosen]), images.y_train[chosen]
        )
        grads = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for p, g in zip(twin.parameters(), grads, strict=True):
                p -= 0.3 * g
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_networks_leave_the_callers_generator_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    net = CNN().build((1, 8, 8), 10, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_learning_rate_is_chosen_on_the_held_out_part(tiny: tuple[Plan, Store]) -> None:
    plan, store = tiny
    run = plan.in_situ("MLP", "ideal", 1)
    trials = run.trials()
    assert all(trial.held_out and trial.seed == 0 for trial in trials)
    best = max(trials, key=lambda trial: trial.late_accuracy(store[trial]))
    assert store[run].metrics["lr"] == run.chosen_lr(store) == best.recipe.lr


def test_a_stored_network_scores_as_it_did(tiny: tuple[Plan, Store]) -> None:
    plan, store = tiny
    images = plan.data.load()
    for run in (plan.digital("MLP", 1), plan.in_situ("MLP", "soft", 1)):
        model = run.trained(store, images)
        found, _ = score(model, images.x_test, images.y_test)
        assert found == store[run].metrics["accuracy"]


def test_rechipping_without_a_change_keeps_the_accuracy(tiny: tuple[Plan, Store]) -> None:
    plan, store = tiny
    run = plan.in_situ("MLP", "soft", 0)
    assert run.chip is not None
    same = Evaluate(run, run.chip, (0.0,)).execute(store)
    assert same.metrics["accuracy"] == store[run].metrics["accuracy"]


def test_programmed_chips_differ_and_drift(tiny: tuple[Plan, Store]) -> None:
    plan, store = tiny
    for of in (plan.digital("MLP", 0), plan.aware("MLP", 0)):
        images = plan.data.load()
        outputs = []
        for copy in range(2):
            model = xb.convert(of.trained(store, images), plan.pcm, mode=xb.HardwareAware())
            xb.reseed(model, copy)
            xb.program(model)
            outputs.append(model(images.x_test[:5]))
            xb.advance(model, TIMES[AT_YEAR])
            assert (model(images.x_test[:5]) - outputs[-1]).abs().max() > 1e-3
        assert (outputs[0] - outputs[1]).abs().max() > 1e-3
        assert len(store[plan.programmed(of, 1)].curves["accuracy"]) == len(TIMES)


def test_sweeps_reach_the_chip() -> None:
    chip = families()["soft"].chip
    by_key = {sweep.key: sweep for sweep in SWEEPS}
    assert by_key["read"].apply(chip, 0.02).device.read == GaussianRead(0.02)
    stuck = by_key["stuck"].apply(chip, 0.1).device.faults
    assert stuck is not None and stuck.p_off + stuck.p_on == pytest.approx(0.1)
    assert by_key["adc"].apply(chip, 4).forward.adc == xb.ADC(bits=4)
    assert by_key["dac"].apply(pcm(), 3).forward.dac == xb.DAC(bits=3)


def test_report_is_one_file_that_needs_nothing_else(
    tiny: tuple[Plan, Store], tmp_path: Path
) -> None:
    plan, store = tiny
    page = write(report(plan, store), tmp_path)
    text = page.read_text()
    images = re.findall(r'src="([^"]{0,40})', text)
    assert images and all(image.startswith("data:image/svg+xml;charset=utf-8,") for image in images)
    links = set(re.findall(r'href="([^"]{0,28})', text))
    names = set(re.findall(r'id="([^"]*)"', text))
    inside = {link for link in links if link.startswith("#")}
    assert inside and {link[1:] for link in inside} <= names
    assert links - inside == {"data:,", "data:text/csv;charset=utf-8,"}
    assert len(text) < 1_000_000 and "prefers-color-scheme: dark" in text
    assert text.count("<th ") == text.count("scope=") > 20
    for alt in re.findall(r'alt="([^"]*)"', text):
        assert re.search(r"\d", alt)  # figures, not a caption
    assert "http" not in re.sub(r"data:[^\"]*", "", text)
    for name in ("accuracy", "responses", "training", "drift", "year", "sweeps-mlp", "rates"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / "figures" / f"{name}.svg").read_text().startswith("<?xml")
    digital = sum(store[plan.digital("MLP", s)].metrics["accuracy"] for s in range(2)) / 2
    assert f"<strong>{digital:.1f}\u00a0%</strong>" in text


def test_report_reads_the_store_alone(tiny: tuple[Plan, Store], tmp_path: Path) -> None:
    plan, store = tiny
    with Store(tmp_path) as empty, pytest.raises(KeyError, match="no result"):
        report(plan, empty)
    claims = {check.claim: check.holds for check in checks(Results(plan, store))}
    # two epochs of sixteen hidden cells do not learn the task, and the table says so
    assert claims["The digital MLP learns the task"] is False  # its whole interval lies below
    assert claims["Push-pull pairs cancel most of the same imbalance"] is None


def test_brief_settings_evaluate_back() -> None:
    law = SoftBounds(dg_min=5e-8, sigma_c2c=0.3)
    assert short(law) == "SoftBounds(dg_min=5e-08, sigma_c2c=0.3)"
    assert eval(short(law)) == law


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablate", "device.update.sigma_c3c", "0"], "has no field 'sigma_c3c'"),
        (["ablate", "device.read.sigma", "0.1"], "device.read is absent (None)"),
        (["ablate", "device.update.sigma_c2c", "-1"], "sigma_c2c"),
        (["ablate", "device.update.sigma_c2c", "oops"], "unknown name 'oops'"),
        (["ablate", "mode.rule.scheme.bl", "0"], "bl"),
        (["ablate", "forward.adc.bits", "4", "--chip", "sofd"], "unknown preset 'sofd'"),
        (["ablate", "forward.adc.bits", "4", "--seeds", "0"], "--seeds must be >= 1, got 0"),
        (["robustness", "--data", "mnist"], "--data mnist needs --data-dir"),
        (["robustness", "--data", "mnist", "--data-dir", "/nowhere"], "train-images-idx3-ubyte"),
        (["robustness", "--workers", "0"], "--workers must be >= 1"),
    ],
)
def test_bad_options_are_explained_before_any_work(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_ways_of_training_are_compared_at_one_window() -> None:
    plan = Plan(Digits(), BUDGETS["quick"], seeds=1)
    for network, task in BUDGETS["quick"].tasks.items():
        for of in plan.trained(network, 0).values():
            for sweep in SWEEPS:
                run = plan.swept(network, sweep, sweep.levels[0], of)
                assert run.chip.mapping.w_max == task.w_max
            assert plan.aged(network, of).chip.mapping.w_max == task.w_max
            if of.chip is not None:  # and it was rehearsed at that window
                assert of.chip.mapping.w_max == task.w_max


@pytest.mark.parametrize(
    ("field", "value", "chip", "moved"),
    [
        ("device.write", "None", "soft", False),
        ("device.update.sigma_c2c", "0.3", "soft", False),
        ("device.update", "SoftBounds(1e-7)", "pcm", False),
        ("device.write", "GaussianWrite(0.1)", "pcm", True),
        ("device.read", "GaussianRead(0.1)", "soft", True),
        ("forward.adc.bits", "4", "soft", True),
    ],
)
def test_what_only_training_sees_is_not_applicable_to_a_moved_network(
    field: str, value: str, chip: str, moved: bool
) -> None:
    study = studies()["ablate"]
    options = parser({"ablate": study}).parse_args(["ablate", field, value, "--chip", chip])
    trained = {run.chip for run in study.runs(options)}
    changed = {run.of.chip for run in study.runs(options)}
    # a moved network is one whose chip is another than it was trained on
    assert any(run.chip != run.of.chip for run in study.runs(options)) is moved
    assert trained and changed


def test_budgets_hold_what_the_checks_need() -> None:
    needed = {"ideal", "neurosim-0.5", "neurosim-5", "constant-reference"}
    needed |= {"imbalance-reference", "imbalance-float", "imbalance-narrow", "imbalance"}
    assert needed <= set(BUDGETS["default"].families)
    assert set(BUDGETS["full"].families) == families().keys()
    assert BUDGETS["full"].seeds == 5


@pytest.mark.parametrize(("full", "cut"), [(2e-6, True), (2e-3, False)])
def test_what_training_clips_is_stored_by_weight(full: float, cut: bool) -> None:
    images = Digits().load()
    images = images._replace(x_train=images.x_train[:100], y_train=images.y_train[:100])
    narrow = xb.ADC(8, range=xb.Fixed(full))
    chip = xb.Chip(forward=xb.Periphery(xb.DAC(8), narrow))
    run = Train(Digits(), MLP((8,)), Recipe(epochs=2, lr=0.05), chip, xb.InSitu())
    model = run.model(images)
    curves = train(model, run.optimiser(model, 0.05), images, run.recipe, 0.05, 0)
    assert set(curves.clipped) == {
        f"clipped {way} {name}"
        for way, names in (("in training", WEIGHTS), ("backward", WEIGHTS[1:]))
        for name in names
    }
    assert (curves.clipped[f"clipped in training {WEIGHTS[0]}"] > 5) == cut


WEIGHTS = [
    name
    for name, _ in MLP((8,)).build((1, 8, 8), 10, seed=0).named_parameters()
    if "weight" in name
]


def test_runs_have_a_repr_that_says_all() -> None:
    run = Train(Digits(), MLP(), Recipe(lr=Best((0.1,))), families()["soft"].chip, PULSES, seed=4)
    scope = {**vars(xb), **vars(__import__("devices")), **globals()}
    assert eval(repr(run), scope) == run


@pytest.mark.slow
def test_ablation_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ablate", "mapping.route", "PushPull()", "Reference()", "--quick"]
    assert main([*command, "--chip", "imbalance", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "PushPull()" in out and (tmp_path / "ablate-mapping.route" / "report.html").is_file()


@pytest.mark.slow
def test_the_main_job_shows_what_it_must(tmp_path: Path) -> None:
    plan = Plan(Digits(), BUDGETS["full"], seeds=5, networks=["MLP"])
    with Store(tmp_path) as store:
        execute("robustness", plan.all(), store)
        decided = checks(Results(plan, store))
    assert all(check.holds is not False for check in decided), decided
    assert sum(check.holds is True for check in decided) >= 5, decided  # the others: too near
