"""Circuits to hold solvers against, and a dense nodal solution of them written apart.

`python -m tests.circuit_cases` runs ngspice on every case and freezes its answers in tests/data;
`python -m tests.circuit_cases PYTHON`, with an interpreter that has badcrossbar 1.1.0 (see
benchmarks/bench_circuit.py), freezes badcrossbar's answers instead.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossbar import spice
from crossbar.wires import Floating, SourceLine, Wires
from devices import CubicIV, SinhIV
from devices.part import IV

FROZEN = Path(__file__).parent / "data" / "ngspice.npz"
FROZEN_BADCROSSBAR = FROZEN.with_name("badcrossbar.npz")


class Case(NamedTuple):
    """One operating point of one array."""

    name: str
    g: Tensor
    wires: Wires
    x: Tensor
    y: Tensor | None = None
    iv: IV | None = None
    floating: Floating | None = None


LINES = {
    "equal": Wires(1.0, 1.0),
    "unequal": Wires(3.3, 0.51, 20.1, 7.7),
    "chen": Wires(2.0, 5.0, 30.0, 10.0, end_segments=False),
    "ideal_rows": Wires(0.0, 4.0, 0.0, 2.0),
    "ideal_cols": Wires(4.0, 0.0, 2.0, 0.0, end_segments=False),
    "ideal_lines": Wires(0.0, 0.0, 50.0, 80.0),
    "ideal": Wires(0.0, 0.0),
    "both_ends": Wires(3.0, 2.0, 5.0, 4.0, both_drivers=True, both_senses=True),
    "two_drivers": Wires(3.0, 2.0, 0.0, 4.0, end_segments=False, both_drivers=True),
    "strong": Wires(300.0, 100.0, 10.0, 1.0),
}
SHAPES = [(1, 1), (1, 6), (6, 1), (5, 4), (4, 7), (13, 8), (9, 16), (20, 20)]


def cells(rows: int, cols: int, seed: int) -> Tensor:
    """1 to 100 uS, one cell in ten open, one of a larger array shorted."""
    draw = torch.Generator().manual_seed(seed)
    g = 1e-6 * 10 ** (2 * torch.rand(rows, cols, generator=draw, dtype=torch.float64))
    g = torch.where(torch.rand(rows, cols, generator=draw) < 0.1, 0.0, g)
    if rows * cols > 20:
        g[rows // 2, cols // 3] = 0.05
    return g


def volts(size: int, seed: int) -> Tensor:
    """Signed voltages below 0.5 V in size."""
    draw = torch.Generator().manual_seed(1000 + seed)
    return torch.rand(size, generator=draw, dtype=torch.float64) - 0.5


def cases() -> Iterator[Case]:
    """The generated circuits, linear and nonlinear."""
    seed = 0
    for k, (name, wires) in enumerate(LINES.items()):
        for shape in (SHAPES[k % 8], SHAPES[(k + 3) % 8]):
            seed += 1
            g, x = cells(*shape, seed), volts(shape[0], seed)
            yield Case(f"{name}_{shape[0]}x{shape[1]}", g, wires, x)
            iv = (SinhIV(1), SinhIV(0.25), CubicIV(b=2.0))[seed % 3]
            yield Case(f"{name}_{shape[0]}x{shape[1]}_{type(iv).__name__}", g, wires, 2 * x, iv=iv)
    wires = LINES["unequal"]
    half = torch.full((7,), 0.25, dtype=torch.float64)
    for k, floating in enumerate(
        (Floating((0, 3), ()), Floating((), (1, 4)), Floating((2,), (0, 6)))
    ):
        g, x = cells(5, 7, 50 + k), volts(5, 50 + k)
        yield Case(f"floating_{k}", g, wires, x, half, floating=floating)
        yield Case(f"floating_both_{k}", g, LINES["both_ends"], x, half, floating=floating)
        both = LINES[("unequal", "both_ends", "strong")[k]]
        law = (SinhIV(0.25), CubicIV(b=2.0), SinhIV(0.1))[k]
        yield Case(f"floating_{type(law).__name__}_{k}", g, both, 2 * x, half, law, floating)
    g, x = cells(8, 7, 60), volts(8, 60)
    yield Case("half_biased", g, wires, (x > 0) * 0.5, -half)
    yield Case("half_biased_sinh", g, wires, (x > 0) * 0.5, -half, iv=SinhIV(0.333333))
    for k, source in enumerate(
        (SourceLine(0.2, 2.0, 5.0), SourceLine(0.2, 2.0, 5.0, opposite=True), SourceLine(0.2))
    ):
        g, x = cells(9, 6, 70 + k), volts(9, 70 + k)
        yield Case(f"gated_{k}", g, Wires(0.0, 3.0, 0.0, 4.0, source=source), (x > 0) * 0.2)
    for m, n in ((40, 12), (12, 40), (32, 32)):
        yield Case(f"tall_{m}x{n}", cells(m, n, m + n), LINES["equal"], volts(m, m + n))
    yield Case("large_64x64", cells(64, 64, 64), LINES["unequal"], volts(64, 64))
    for k, iv in enumerate((SinhIV(0.5), SinhIV(0.25), CubicIV(b=1.0))):
        m, n = ((24, 36), (33, 17), (64, 64))[k]
        x = volts(m, 80 + k)
        yield Case(
            f"large_{m}x{n}_{type(iv).__name__}", cells(m, n, 80 + k), LINES["equal"], x, iv=iv
        )


def dense(g: Tensor, wires: Wires, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Output currents and cell voltages from the nodal equations, all nodes at once.

    Branch by branch over ideal voltage sources at drivers and sense amplifiers, with the branch
    currents as unknowns too (modified nodal analysis), so that a resistance may be zero.
    """
    m, n = g.shape
    r_w, r_b, r_d, r_s = wires.ohms
    end_w, end_b = (r_d + r_w, r_s + r_b) if wires.end_segments else (r_d, r_s)
    nodes = 2 * m * n
    row = np.arange(m * n).reshape(m, n)
    col = row + m * n
    branches: list[tuple[int, int, float, float]] = []  # from, to (-1: terminal), ohm, terminal V
    senses: list[tuple[int, int]] = []
    for i in range(m):
        branches.append((-1, row[i, 0], end_w, float(x[i])))
        branches += [(row[i, j - 1], row[i, j], r_w, 0.0) for j in range(1, n)]
        if wires.both_drivers and end_w + r_w > 0:
            branches.append((-1, row[i, -1], end_w, float(x[i])))
    for j in range(n):
        level = 0.0 if y is None else float(y[j])
        branches += [(col[i - 1, j], col[i, j], r_b, 0.0) for i in range(1, m)]
        senses.append((len(branches), j))
        branches.append((-1, col[-1, j], end_b, level))
        if wires.both_senses and end_b + r_b > 0:
            senses.append((len(branches), j))
            branches.append((-1, col[0, j], end_b, level))
    size = nodes + len(branches)
    a, b = np.zeros((size, size)), np.zeros(size)
    values = g.numpy()
    for i in range(m):
        for j in range(n):
            p, q, s = row[i, j], col[i, j], values[i, j]
            a[p, p] += s
            a[q, q] += s
            a[p, q] -= s
            a[q, p] -= s
    for k, (p, q, ohm, level) in enumerate(branches):
        c = nodes + k
        a[q, c] -= 1
        a[c, q] += 1
        a[c, c] += ohm
        b[c] = level
        if p >= 0:
            a[p, c] += 1
            a[c, p] -= 1
    v = np.linalg.solve(a, b)
    output = np.zeros(n)
    for k, j in senses:
        output[j] -= v[nodes + k]
    return torch.from_numpy(output), torch.from_numpy(v[row] - v[col])


def freeze() -> None:
    """Run ngspice on every case and write its answers."""
    kept: dict[str, np.ndarray] = {}
    for case in cases():
        found = spice.simulate(
            case.g, case.wires, case.x, case.y, iv=case.iv, floating=case.floating
        )
        kept[f"{case.name}.output"] = found.output.numpy()
        if case.g.numel() <= 500:
            kept[f"{case.name}.wordline"] = found.wordline_voltage.numpy()
            kept[f"{case.name}.bitline"] = found.bitline_voltage.numpy()
    np.savez_compressed(FROZEN, **kept)


def badcrossbar_circuits() -> Iterator[tuple[Tensor, Tensor, Wires]]:
    """Conductances, inputs (inputs, rows) and lines that badcrossbar can express."""
    for k, (m, n, r_row, r_col) in enumerate(
        [
            (1, 1, 2.0, 3.0),
            (5, 4, 10.0, 1.0),
            (7, 12, 0.3, 6.0),
            (16, 9, 0.0, 2.0),
            (9, 16, 3.0, 0.0),
            (40, 33, 1.0, 1.0),
        ]
    ):
        g = cells(m, n, 200 + k).clamp(max=1e-4)
        yield g, torch.stack([volts(m, 10 * k + j) for j in range(4)]), Wires(r_row, r_col)


def freeze_badcrossbar(python: str) -> None:
    """Run badcrossbar on its circuits and write its answers."""
    given: dict[str, np.ndarray] = {}
    for k, (g, x, wires) in enumerate(badcrossbar_circuits()):
        given |= {f"g_{k}": g.numpy(), f"v_{k}": x.T.numpy(), f"r_{k}": np.array(wires.ohms[:2])}
    side = Path(__file__).parents[1] / "benchmarks" / "badcrossbar_side.py"
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/circuits.npz", f"{folder}/answers.npz"]
        np.savez(paths[0], **given)
        subprocess.run([python, str(side), *paths, "1"], check=True)
        found = np.load(paths[1])
        kept = {name: found[name] for name in found if name.startswith("output")}
    np.savez_compressed(FROZEN_BADCROSSBAR, **kept)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        freeze_badcrossbar(sys.argv[1])
    else:
        freeze()
