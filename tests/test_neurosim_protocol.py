"""The study against NeuroSim: its batched protocol against a plain one, its listed figures."""

import numpy as np
import pytest
import torch

from devices import Device, NeuroSim
from devices.update.neurosim import curve_constant
from experiments.lab.command import main
from experiments.lab.engine import execute
from experiments.lab.store import Store
from experiments.studies.neurosim.plan import LISTED, Plan
from experiments.studies.neurosim.report import report
from experiments.tasks.neurosim import Mlp, Networks, pictures


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Plain:
    """One network, all of its cells at every image, float64, as the protocol is written."""

    def __init__(self, run: Mlp, seed: int) -> None:
        self.run, self.law = run, run.cell.update
        self.random = torch.Generator().manual_seed(seed)
        w = (torch.randint(7, (41000,), generator=self.random) / 3 - 1).double().numpy()
        low, span = run.cell.g_min, run.cell.g_max - run.cell.g_min
        g = (w + 1) / 2 * span + (0 if run.lost_g_min else low)
        g = np.clip(g, low, run.cell.g_max)
        self.g = [g[:40000].reshape(400, 100), g[40000:].reshape(100, 10)]

    def current(self, g):
        return 1 / (1 / g + self.run.access)

    def column(self, currents, x):
        low, high = self.current(self.run.cell.g_min), self.current(self.run.cell.g_max)
        lsb = len(x) * (high - low) / 255
        code = np.floor(x @ currents / lsb) - np.floor(x.sum() * (low + high) / 2 / lsb)
        return code * len(x) / 255

    def write(self, g, dw):
        n = np.where(dw > 0, self.law.states_up, self.law.states_down)
        count = np.sign(dw) * np.floor(np.abs(dw) / 2 * n + 0.5)
        low, span = self.run.cell.g_min, self.run.cell.g_max - self.run.cell.g_min
        label = np.where(dw > 0, self.law.nl_up, self.law.nl_down)
        a = np.sign(label) * curve_constant(torch.from_numpy(np.abs(label))).numpy() * n
        b = 1 / (1 - np.exp(-n / a))
        place = b - (b - (g - low) / span) * np.exp(-count / a)
        return np.where(count == 0, g, np.clip(place, 0, 1) * span + low)

    def step(self, x, answer):
        i = [self.current(g) for g in self.g]
        low, high = self.current(self.run.cell.g_min), self.current(self.run.cell.g_max)
        z1 = self.column(i[0], x)
        a1, bits = sigmoid(z1), (z1 >= 0).astype(float)
        a2 = sigmoid(self.column(i[1], bits))
        d2 = -2 * a2 * (1 - a2) * ((np.arange(10) == answer) - a2)
        w2 = np.clip(2 * (i[1] - low) / (high - low) - 1, -1, 1)
        d1 = a1 * (1 - a1) * (w2 @ d2)
        self.g = [
            self.write(self.g[0], -self.run.rates[0] * np.outer(x, d1)),
            self.write(self.g[1], -self.run.rates[1] * np.outer(a1, d2)),
        ]


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(
            Mlp(
                Device(1 / 4e6, 1 / 81e3, NeuroSim(64, 64, 0.5, -0.5)), access=15e3, lost_g_min=True
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Mlp(Device(1e-7, 5e-6, NeuroSim(100, 120, 0.105, 2.4)), seeds=3),
            marks=pytest.mark.slow,
        ),
        Mlp(Device(1e-7, 5e-6, NeuroSim(97, 90, 2.0, -4.0)), rates=(0.8, 0.4), seeds=2),
    ],
)
def test_batched_networks_do_what_the_protocol_says(run):
    """The cells of every network after 100 images, to 1e-4 of the range (float32)."""
    train, _ = pictures()
    networks = Networks(run, train)
    plain = [Plain(run, seed) for seed in range(run.seeds)]
    drawn = torch.stack(
        [torch.randint(len(train.y), (100,), generator=p.random) for p in plain], dim=1
    )
    before = networks.cells.g.clone()
    written = 0
    for images in drawn:
        lengths = networks.lengths[images]
        rows = torch.cat([train.x[i].nonzero()[:, 0] + 400 * k for k, i in enumerate(images)])
        written += networks._step(images, rows, lengths)
        for network, i in zip(plain, images.tolist(), strict=True):
            network.step(train.x[i].double().numpy(), int(train.y[i]))
    first, second = networks.cells.g.split([run.seeds * 40000, run.seeds * 1000])
    span = run.cell.g_max - run.cell.g_min
    for k, network in enumerate(plain):
        for ours, theirs in zip((first, second), network.g, strict=True):
            ours = ours.view(run.seeds, *theirs.shape)[k].double().numpy()
            assert np.abs(ours - theirs).max() < 1e-4 * span
    assert written > 1000
    assert (networks.cells.g - before).abs().max() > 0.05 * span


def test_an_epoch_visits_the_images_it_drew():
    """Rows handed to a step are the pixels that are on in the network's own image."""
    train, test = pictures()
    networks = Networks(Mlp(Device(1e-7, 5e-6, NeuroSim(64, 64)), seeds=2), train)
    seen = []

    def step(images, rows, lengths):
        seen.append((images, rows, lengths))
        return 0

    networks._step = step
    networks.epoch()
    assert len(seen) == len(train.y) == 1347
    for images, rows, lengths in seen[::200]:
        for k, (i, part) in enumerate(zip(images, rows.split(lengths.tolist()), strict=True)):
            assert torch.equal(part - 400 * k, train.x[i].nonzero()[:, 0])
    assert float(train.x.mean()) == pytest.approx(0.307, abs=5e-4)
    assert len(test.y) == 450


@pytest.mark.slow
def test_a_short_study_goes_through_store_and_report(tmp_path, capsys):
    """One epoch of one seed: the report is written, and says that this decides nothing."""
    arguments = ["neurosim", "--listed", "--epochs", "1", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*arguments, "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "3 decide" in said and "FAILS" not in said and "holds" not in said
    page = (tmp_path / "neurosim" / "report.html").read_text().replace("\u00a0", " ")
    assert all(name in page for name in LISTED)
    assert main(["neurosim", "--epochs", "0", "--out", str(tmp_path)]) == 2
    assert "--epochs must be >= 1, got 0" in capsys.readouterr().err


@pytest.mark.slow
def test_listed_figures_are_met(tmp_path):
    """Ten seeds, 100 epochs, every cell with a figure of NeuroSim's own: about 5 minutes."""
    plan = Plan(epochs=100, seeds=10, listed_only=True)
    with Store(tmp_path) as store:
        execute("neurosim", plan.all(), store)
        found = report(plan, store)
    assert [check.claim for check in found.checks if not check.holds] == []
