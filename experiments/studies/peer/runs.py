"""One network of the protocol: ours, and in the other emulator by a Python that has it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import crossbar as xb
from experiments.lab.run import Outcome, Run, Stored
from experiments.studies.peer import script
from experiments.studies.peer.protocol import CASES, accuracies, trained

LAST = 5  # epochs that the reported accuracy is the mean of: single ones jump by points
ASKED = "from importlib.metadata import version; import aihwkit.nn; import sklearn; "
ASKED += "print(version('aihwkit'))"


def _asked(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run([python, *arguments], env=environment, capture_output=True, text=True)


def version_in(python: str) -> str:
    """The version of aihwkit that a Python has.

    Raises:
        ValueError: no such Python, or none that can import aihwkit and scikit-learn.
    """
    try:
        done = _asked(python, "-c", ASKED)
    except OSError as error:
        raise ValueError(f"--python {python}: {error.strerror}") from None
    if done.returncode:
        told = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise ValueError(
            f"--python {python} cannot run the protocol ({told}); it needs aihwkit and scikit-learn"
        )
    return done.stdout.strip()


def _outcome(found: list[float]) -> Outcome:
    return Outcome({"accuracy": fmean(found[-LAST:])}, {"accuracy": found})


@dataclass(frozen=True)
class Ours(Run):
    """One of `protocol.CASES`, or "digital"."""

    device: str
    seed: int
    epochs: int

    def label(self) -> str:  # noqa: D102
        return f"{self.device}, ours, seed {self.seed}"

    def cost(self) -> float:  # noqa: D102
        return 0.8 * self.epochs

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        if self.device == "digital":
            return _outcome(trained(None, None, self.seed, self.epochs))
        mode = xb.InSitu(xb.ExactBits(), gradient=False)
        return _outcome(accuracies(*CASES[self.device], mode, self.seed, self.epochs))


@dataclass(frozen=True)
class Theirs(Run):
    """The same by aihwkit of that version, in that Python."""

    device: str
    seed: int
    epochs: int
    python: str
    version: str

    def label(self) -> str:  # noqa: D102
        return f"{self.device}, aihwkit {self.version}, seed {self.seed}"

    def cost(self) -> float:  # noqa: D102
        return 5 + 0.4 * self.epochs

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        path = str(Path(script.__file__).resolve())
        done = _asked(self.python, path, self.device, str(self.seed), str(self.epochs))
        if done.returncode:
            raise RuntimeError(f"{self.python} ended with status {done.returncode}: {done.stderr}")
        return _outcome(json.loads(done.stdout.splitlines()[-1]))
