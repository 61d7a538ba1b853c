"""Which solver an array is given when the user names none."""

from __future__ import annotations

import math

import torch

from crossbar.wires.settings import Exact, Iterative, Newton, Solver

JOINTS = 560
"""Bytes that elimination keeps for a cell (`tree`)."""
HOST_FACTOR = 1 << 22
"""Cells factored at once on a processor whose free memory torch does not tell (2 GiB)."""


def largest_factor(device: torch.device) -> int:
    """Cells that may be factored at once: on CUDA those that fit half of the memory now free."""
    if device.type != "cuda":
        return HOST_FACTOR
    return torch.cuda.mem_get_info(device)[0] // (2 * JOINTS)


def choose(
    rows: int,
    cols: int,
    *,
    arrays: int = 1,
    kappa: float = 0.0,
    reads: int | None = None,
    device: torch.device | None = None,
    nonlinear: bool = False,
) -> Solver:
    """The cheapest solver that is exact.

    - Nonlinear cells need `Newton`.
    - `Iterative` where conjugate gradients for every input cost less than one elimination,

          reads · √(1 + κ)  <  10 + min(rows, cols)/100,

      and where the joints of the elimination would not fit the device.
    - `Exact` otherwise: further reads cost nothing more.

    The rule is that of one x86 core in float64: elimination takes about 0.9 + 0.0063 min(rows,
    cols) μs a cell, conjugate gradients 7 √(1 + κ) steps of 8 to 19 ns a cell and input. Inputs
    beyond which elimination was faster, measured in batches of 8 (and by the rule, which leaves
    room for larger batches, where CG slows down; `benchmarks/bench_circuit.py` prints the table):

        κ        64 × 64      128 × 128    256 × 256    512 × 512
        0.1      24 (10)      16 (10)      25 (11)      16 (14)
        1        13  (7)      11  (7)      16  (8)      15 (10)
        10        7  (3)       6  (3)       7  (3)       8  (4)
        100       3  (1)       3  (1)       3  (1)       2  (1)

    Args:
        rows: wordlines of one array.
        cols: bitlines.
        arrays: how many are solved together.
        kappa: `Wires.kappa`, the worst of them, and R Σg of the ends of their lines.
        reads: inputs the arrays will be read with before a conductance changes; None: many.
        device: where they are; None: a processor.
        nonlinear: whether the cells have a current-voltage law.
    """
    if nonlinear:
        return Newton()
    few = reads is not None and reads * math.sqrt(1 + kappa) < 10 + min(rows, cols) / 100
    if few or arrays * rows * cols > largest_factor(device or torch.device("cpu")):
        # four times the steps it takes, so that a strong IR drop is no reason to give up
        return Iterative(max_steps=max(2000, math.ceil(30 * math.sqrt(1 + kappa))))
    return Exact()
