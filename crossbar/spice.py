"""Netlists of arrays for ngspice, and a runner that reads its answers back.

    deck = xb.spice.netlist(g, wires, x)          # one operating point
    answer = xb.spice.simulate(g, wires, x)       # the same, run and read back
    arrays = xb.spice.decks(layer, v)             # every tile of a layer

The deck is written from the drawing of the circuit, not from the solvers' equations, so that the
two can be held against each other. What must be known about ngspice to compare tightly:

- A resistance of 0 becomes 1 mΩ: nodes without a resistance between them are merged here.
- Its default tolerances are loose: the deck asks for reltol 1e-9, abstol 1e-15, vntol 1e-12.
- Constants in a B source (nonlinear cells) are rounded to 11 digits, an error of 5e-11.
- A current computed as a difference of nearly equal node voltages is mostly rounding: output
  currents are those of the sense amplifiers' voltage sources, and wire currents should be summed
  from cells (Kirchhoff).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crossbar.model import only
from crossbar.planes import Lying
from crossbar.quantise import balanced
from crossbar.wires import Floating, Wires
from crossbar.wires.interleaved import weave
from devices.part import IV

OPTIONS = ".options reltol=1e-9 abstol=1e-15 vntol=1e-12 itl1=1000"


class Answer(NamedTuple):
    """An operating point as ngspice found it, float64."""

    output: Tensor  # (cols,) [A] into the sense amplifiers
    wordline_voltage: Tensor  # (rows, cols) [V]
    bitline_voltage: Tensor  # (rows, cols) [V]


class _Nodes:
    """Names of the nodes, with those that no resistance separates merged."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def name(self, node: str) -> str:
        root = node
        while self.parent.get(root, root) != root:
            root = self.parent[root]
        while self.parent.get(node, node) != root:
            self.parent[node], node = root, self.parent[node]
        return root

    def merge(self, a: str, b: str) -> None:
        # the ground and the terminals keep their names
        first, second = sorted((self.name(a), self.name(b)), key=lambda n: (n[0] in "wb", n))
        if first != second:
            self.parent[second] = first


def _resistors(wires: Wires, rows: int, cols: int) -> Iterator[tuple[str, str, str, float]]:
    """Every resistance of the lines as (name, node, node, ohm); terminals are d and s nodes."""
    r_word, r_bit, r_driver, r_sense = wires.ohms
    end_word = r_driver + (r_word if wires.end_segments else 0.0)
    end_bit = r_sense + (r_bit if wires.end_segments else 0.0)
    for i in range(rows):
        yield f"wd_{i}", f"d_{i}", f"w_{i}_0", end_word
        for j in range(1, cols):
            yield f"w_{i}_{j}", f"w_{i}_{j - 1}", f"w_{i}_{j}", r_word
        if wires.both_drivers:
            yield f"we_{i}", f"d_{i}", f"w_{i}_{cols - 1}", end_word
    for j in range(cols):
        for i in range(1, rows):
            yield f"b_{i}_{j}", f"b_{i - 1}_{j}", f"b_{i}_{j}", r_bit
        yield f"bs_{j}", f"s_{j}", f"b_{rows - 1}_{j}", end_bit
        if wires.both_senses:
            yield f"be_{j}", f"s_{j}", f"b_0_{j}", end_bit


def _sourced(wires: Wires, rows: int, cols: int) -> Iterator[tuple[str, str, str, float]]:
    """The same for an array with source lines, whose nodes take the names w."""
    assert wires.source is not None
    source = wires.source
    _, r_bit, _, _ = wires.ohms
    end = source.r_driver + (source.r_segment if wires.end_segments else 0.0)
    first, last = (0, rows - 1) if source.opposite else (rows - 1, 0)
    step = 1 if source.opposite else -1
    for j in range(cols):
        yield f"wd_{j}", f"d_{j}", f"w_{first}_{j}", end
        for i in range(first, last, step):
            yield f"w_{i}_{j}", f"w_{i}_{j}", f"w_{i + step}_{j}", source.r_segment
    bits = Wires(0.0, r_bit, 0.0, wires.r_sense, wires.end_segments, both_senses=wires.both_senses)
    yield from (r for r in _resistors(bits, rows, cols) if r[0].startswith("b"))


def netlist(
    g: Tensor,  # (rows, cols) [S]
    wires: Wires,
    x: Tensor,  # (rows,) [V]
    y: Tensor | None = None,  # (cols,) [V]
    *,
    iv: IV | None = None,
    floating: Floating | None = None,
    title: str = "crossbar",
) -> str:
    """The deck of one array at one set of voltages.

    Nodes: d_i drivers, s_j sense amplifiers, w_i_j and b_i_j the ends of cell (i, j).

    Args:
        g: conductances; cells of 0 S are left out.
        wires: the lines.
        x: voltages of the wordline drivers.
        y: voltages of the sense amplifiers; None: virtual grounds.
        iv: current of a cell, stated by `iv.spice`; None: ohmic.
        floating: lines connected to nothing.
        title: first line of the deck.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: an I-V without a SPICE expression.
    """
    if wires.interleaved:
        raise ValueError("interleaved pairs: export the physical array of 2·cols bitlines")
    if g.ndim != 2 or x.shape != g.shape[:1] or (y is not None and y.shape != g.shape[1:]):
        raise ValueError(
            f"a deck takes g (rows, cols), x (rows,) and y (cols,), got {tuple(g.shape)}, "
            f"{tuple(x.shape)} and {None if y is None else tuple(y.shape)}"
        )
    nodes, lines = _Nodes(), [title, OPTIONS]
    resistors, sources = _lines(g, wires, x, y, floating)
    for _, a, b, ohm in resistors:
        if ohm == 0:
            nodes.merge(a, b)
    used = set()
    for name, a, b, ohm in resistors:
        if ohm:
            lines.append(f"R{name} {nodes.name(a)} {nodes.name(b)} {ohm:.17g}")
            used |= {nodes.name(a), nodes.name(b)}
    off = x == 0 if wires.source is not None else torch.zeros_like(x, dtype=torch.bool)
    for i, j in g.nonzero().tolist():
        if off[i]:
            continue
        a, b = nodes.name(f"w_{i}_{j}"), nodes.name(f"b_{i}_{j}")
        used |= {a, b}
        if iv is None:
            lines.append(f"Rg_{i}_{j} {a} {b} {1 / float(g[i, j]):.17g}")
        else:
            law = iv.spice(f"{float(g[i, j]):.17g}", f"V({a},{b})")
            lines.append(f"Bg_{i}_{j} {a} {b} I={law}")
    for node, volt in sources:
        lines.append(f"V{node} {nodes.name(node)} 0 DC {volt:.17g}")
        used.add(nodes.name(node))
    names = [f"{k}_{i}_{j}" for k in "wb" for i in range(g.shape[0]) for j in range(g.shape[1])]
    merged = [f"* {n} = {nodes.name(n)}" for n in names if nodes.name(n) != n]
    lonely = [f"* {n} unconnected" for n in names if nodes.name(n) not in used]
    return "\n".join([*lines, *merged, *lonely, ".op", ".end", ""])


def _lines(
    g: Tensor, wires: Wires, x: Tensor, y: Tensor | None, floating: Floating | None
) -> tuple[list[tuple[str, str, str, float]], list[tuple[str, float]]]:
    """Resistors of the lines and voltage sources of the terminals that are connected."""
    rows, cols = g.shape
    off_rows, off_cols = (floating or Floating()).mask(rows, cols, g.device)
    ends = torch.zeros(cols) if y is None else y
    sense = [(f"s_{j}", float(ends[j])) for j in range(cols) if not off_cols[j]]
    if wires.source is not None:
        if bool(((x != 0) & ((x - wires.source.v).abs() > 1e-6 * wires.source.v)).any()):
            raise ValueError(f"gated inputs of one phase are 0 or {wires.source.v} V")
        drive = [(f"d_{j}", wires.source.v) for j in range(cols)]
        return list(_sourced(wires, rows, cols)), drive + sense
    drive = [(f"d_{i}", float(x[i])) for i in range(rows) if not off_rows[i]]
    live = {node for node, _ in drive + sense}
    resistors = [r for r in _resistors(wires, rows, cols) if r[1][0] in "wb" or r[1] in live]
    return resistors, drive + sense


def decks(layer: nn.Module, v: Tensor) -> dict[str, str]:
    """The decks of all arrays of a layer for one vector of line voltages.

    The currents of the s nodes of `tile_a_c_plus` less those of `tile_a_c_minus` are what columns
    c, c+1, … of the row tile that begins at row a give its ADCs. With a reordered layer the lines
    come in their physical order; interleaved pairs are one deck of alternating columns.

    Args:
        layer: a layer with cells; of a grouped convolution every group has its own decks.
        v: row voltages (rows,) or (groups, rows) [V].

    Raises:
        TypeError: a hardware-aware layer, which has no cells. ValueError: v of another shape;
            spare lines with wires.
    """
    matrix = only(layer).weight.matrix
    if matrix.cells is None:
        raise TypeError("program(layer) first: a hardware-aware layer has no cells to export")
    chip, order = matrix.chip, matrix.lies
    wires = chip.wires or Wires(0.0, 0.0)
    g = chip.device.seen(matrix.cells.state).detach()
    if isinstance(order, Lying):
        raise ValueError("tiles with spare lines are not exported: leave spares=None")
    if order is not None:
        g = g.index_select(-2, order[0]).index_select(-1, order[1])
        v = v.index_select(-1, order[0])
    if v.shape != g.shape[1:-1]:
        raise ValueError(f"v must be {tuple(g.shape[1:-1])}, got {tuple(v.shape)}")
    grouped = g.dim() > 3
    plane = replace(wires, interleaved=False)
    found: dict[str, str] = {}
    for group in range(g.shape[1] if grouped else 1):
        cells, volts = (g[:, group], v[group]) if grouped else (g, v)
        for a, b in balanced(cells.shape[-2], chip.tile and chip.tile[0]):
            for c, d in balanced(cells.shape[-1], chip.tile and chip.tile[1]):
                name = f"group_{group}_tile_{a}_{c}" if grouped else f"tile_{a}_{c}"
                tile = cells[:, a:b, c:d]
                ends = ("plus", "minus") if len(tile) == 2 else range(len(tile))
                arrays = (
                    {name: weave(tile)}
                    if wires.interleaved
                    else {f"{name}_{end}": device for end, device in zip(ends, tile, strict=True)}
                )
                for title, array in arrays.items():
                    found[title] = netlist(array, plane, volts[a:b], iv=chip.device.iv, title=title)
    return found


def available() -> bool:
    """Whether ngspice is installed."""
    return shutil.which("ngspice") is not None


def run(deck: str) -> dict[str, float]:
    """Node voltages and source currents of a deck's operating point, by ngspice's names.

    Raises:
        FileNotFoundError: ngspice is not installed.
        RuntimeError: ngspice found no operating point; the message is its own.
    """
    if not available():
        raise FileNotFoundError("ngspice is not installed; on Debian: apt-get install ngspice")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "deck.cir").write_text(deck)
        done = subprocess.run(
            ["ngspice", "-b", "-r", "out.raw", "deck.cir"],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        raw = place / "out.raw"
        if done.returncode or not raw.exists():
            raise RuntimeError(f"ngspice failed:\n{done.stdout}\n{done.stderr}")
        head, _, body = raw.read_bytes().partition(b"Binary:\n")
    names = [line.split()[1] for line in head.decode().split("Variables:\n")[1].splitlines()]
    return dict(zip(names, np.frombuffer(body, dtype="<f8").tolist(), strict=True))


def simulate(
    g: Tensor,  # (rows, cols) [S]
    wires: Wires,
    x: Tensor,  # (rows,) [V]
    y: Tensor | None = None,  # (cols,) [V]
    *,
    iv: IV | None = None,
    floating: Floating | None = None,
) -> Answer:
    """Run the deck of `netlist` in ngspice; arguments and errors are those of `netlist`, `run`.

    Nodes that are connected to nothing are reported as NaN.
    """
    deck = netlist(g, wires, x, y, iv=iv, floating=floating)
    found = run(deck)
    alias: dict[str, str | None] = {}
    for line in deck.splitlines():
        if line.startswith("* "):
            name, *rest = line[2:].split()
            alias[name] = rest[1] if rest[0] == "=" else None

    def voltage(node: str) -> float:
        place = alias.get(node, node)
        return float("nan") if place is None else found[f"v({place})"]

    rows, cols = g.shape
    word, bit = (
        torch.tensor(
            [[voltage(f"{k}_{i}_{j}") for j in range(cols)] for i in range(rows)],
            dtype=torch.float64,
        )
        for k in "wb"
    )
    output = [found.get(f"i(vs_{j})", 0.0) for j in range(cols)]
    return Answer(torch.tensor(output, dtype=torch.float64), word, bit)
