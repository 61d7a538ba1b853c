"""How far apart may conductances be read? A study of one's own, in one file of 40 lines.

python -m experiments experiments/examples/my_study.py --seeds 5
"""

from dataclasses import dataclass

import torch

import crossbar as xb
from devices import Device, GaussianRead
from experiments.lab.plots import Panel, band, panels
from experiments.lab.report import Picture, Report, Section, Table
from experiments.lab.run import Outcome, Run
from experiments.lab.statistics import bands, estimate, percent
from experiments.lab.study import Study

SIGMAS = (0.001, 0.01, 0.1)  # of the window


@dataclass(frozen=True)
class ReadError(Run):
    """Its fields are all that the result depends on."""

    sigma: float
    seed: int

    def label(self):
        return f"sigma {self.sigma:g}, seed {self.seed}"

    def execute(self, store):
        w = torch.randn(64, 64, generator=torch.Generator().manual_seed(self.seed))
        cell = Device(g_min=1e-6, g_max=50e-6, read=GaussianRead(self.sigma))
        array = xb.matrix(w, xb.Chip(device=cell), seed=self.seed)
        x = torch.ones(64)
        return Outcome({"error": float(100 * (array @ x - w @ x).norm() / (w @ x).norm())}, {})


class MyStudy(Study):
    name = "my-study"
    help = "error of a product against the noise of a read"

    def arguments(self, parser):
        parser.add_argument("--seeds", type=int, default=3)

    def runs(self, options):
        return [ReadError(sigma, seed) for sigma in SIGMAS for seed in range(options.seeds)]

    def report(self, options, store):
        found = [[store[ReadError(s, n)].metrics["error"] for n in range(options.seeds)]
                 for s in SIGMAS]  # fmt: skip
        shown = [[f"{s:g}", percent(estimate(v))] for s, v in zip(SIGMAS, found)]
        table = Table(["sigma", "error [%]"], shown)
        line = band("64 x 64", SIGMAS, list(zip(*found)))
        picture = Picture("error", panels([Panel("", "sigma", "error [%]", [line], log_x=True)]),
                          bands(options.seeds))  # fmt: skip
        return Report("Reads", "How noise of a read reaches a product", [], table,
                      sections=[Section("Error", [], [picture, table])])  # fmt: skip
