"""How much a study computes: `--quick`, the default, or `--full`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

from experiments.tasks.data import SETS, DataSet, data_set
from experiments.tasks.families import families
from experiments.tasks.networks import CNN, MLP, Network


@dataclass(frozen=True)
class Task:
    """A network, how long it is trained, and the weight that fills the conductance window.

    The window is tight on purpose, 2.4 times the largest initial weight of the MLP and three times
    that of the CNN: a wide one hides what bent response curves do. None is the library's default.
    """

    network: Network
    epochs: int
    w_max: float | None = None


@dataclass(frozen=True)
class Budget:
    """How much is computed."""

    name: str
    seeds: int
    chips: int  # programmings of each trained network
    families: tuple[str, ...]
    tasks: dict[str, Task]
    rates: tuple[float, ...]  # learning rates to choose from on validation images
    samples: int | None  # training images of the larger data sets


_FEW = ("ideal", "soft", "neurosim-0.5", "neurosim-5")
_IMBALANCE = tuple(f"imbalance{kind}" for kind in ("-reference", "-float", "-narrow", ""))
_SOME = (*_FEW, "constant-reference", *_IMBALANCE)
BUDGETS = {
    "quick": Budget(
        name="quick",
        seeds=1,
        chips=5,
        families=_FEW,
        tasks={"MLP": Task(MLP(), 15, w_max=0.3), "CNN": Task(CNN(), 6, w_max=1.0)},
        rates=(0.1, 0.8),
        samples=1000,
    ),
    "default": Budget(
        name="default",
        seeds=3,
        chips=5,
        families=_SOME,
        tasks={"MLP": Task(MLP(), 25, w_max=0.3), "CNN": Task(CNN(), 10, w_max=1.0)},
        rates=(0.1, 0.3, 0.8),
        samples=3000,
    ),
    "full": Budget(
        name="full",
        seeds=5,
        chips=4,
        families=tuple(families()),
        tasks={"MLP": Task(MLP(), 30, w_max=0.3), "CNN": Task(CNN(), 15, w_max=1.0)},
        rates=(0.05, 0.1, 0.2, 0.4, 0.8),
        samples=10000,
    ),
}


def budget_arguments(parser: ArgumentParser) -> None:
    """Options of studies that train: budget, seeds and data."""
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="2 minutes on 2 cores, one seed")
    size.add_argument("--full", action="store_true", help="40 minutes, every family, 5 seeds")
    parser.add_argument("--seeds", type=int, help="repeats of each training")
    parser.add_argument("--data", choices=list(SETS), default="digits", help="default: digits")
    parser.add_argument("--data-dir", help="folder of the files of mnist, fashion or cifar10")
    parser.add_argument("--samples", type=int, help="use this many training images of them")


def too_small(options: Namespace) -> str:
    """Why the chosen budget decides no claim; empty where it does."""
    _, _, seeds = chosen_budget(options)
    return "one seed decides nothing" if seeds == 1 else ""


def chosen_budget(options: Namespace) -> tuple[Budget, DataSet, int]:
    """Budget, data and number of seeds; raises ValueError where they make no sense."""
    budget = BUDGETS["quick" if options.quick else "full" if options.full else "default"]
    seeds = budget.seeds if options.seeds is None else options.seeds
    if seeds < 1:
        raise ValueError(f"--seeds must be >= 1, got {seeds}")
    samples = budget.samples if options.samples is None else options.samples
    if samples is not None and samples < 100:
        raise ValueError(f"--samples must be >= 100, got {samples}")
    return budget, data_set(options.data, options.data_dir, samples), seeds
