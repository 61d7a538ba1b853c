"""From conductances and wires to a solved network."""

from __future__ import annotations

from dataclasses import replace
from typing import overload

import torch
from torch import Tensor

from crossbar.wires.choice import choose
from crossbar.wires.gated import Gated
from crossbar.wires.interleaved import Interleaved, InterleavedSolved, weave
from crossbar.wires.linear import Approximated, Factored, Iterated
from crossbar.wires.network import Readable, Solvable
from crossbar.wires.nonlinear import Nonlinear
from crossbar.wires.settings import Approximate, Exact, Floating, Iterative, Newton, Solver, Wires
from devices._check import instance, whole
from devices.part import IV

LOOSEST = 1e5
"""Largest R Σg of a line, R its end and Σg its cells, that elimination takes."""


@overload
def prepare(
    g: Tensor,
    wires: Wires,
    iv: IV | None = ...,
    solver: Exact | Iterative | Newton | None = ...,
    floating: Floating | None = ...,
    reads: int | None = ...,
) -> Solvable: ...
@overload
def prepare(
    g: Tensor,
    wires: Wires,
    iv: IV | None = ...,
    solver: Solver | None = ...,
    floating: Floating | None = ...,
    reads: int | None = ...,
) -> Readable: ...
def prepare(
    g: Tensor,
    wires: Wires,
    iv: IV | None = None,
    solver: Solver | None = None,
    floating: Floating | None = None,
    reads: int | None = None,
) -> Readable:
    """Solve an array of cells and wires once, to be read many times.

    Args:
        g: conductances (..., rows, cols), finite and >= 0 [S]; 0 is an open cell, a shorted one
            a large number. Leading dimensions are independent arrays with the same wires.
        wires: resistances and terminals of the lines.
        iv: current of a cell against its voltage; None: ohmic.
        solver: None chooses by size, κ, number of reads and device (`choose`), among those that
            are exact. The choice is `network.solver`, the residual `network.residual`.
        floating: lines connected to nothing; None: every line is driven or sensed.
        reads: how many inputs the choice reckons with; None: many.

    Raises:
        TypeError: g is not a floating tensor, or a solver that cannot solve these cells.
        ValueError: g is not an array, or holds a negative or non-finite conductance; ends of lines
            that all but disconnect them.
        NotConverged: raised by the reads of an iterative solver; it carries the residual.
    """
    if not isinstance(g, Tensor) or not g.is_floating_point():
        raise TypeError(f"g must be a floating tensor of conductances, got {g!r}")
    if g.ndim < 2 or 0 in g.shape[-2:]:
        raise ValueError(f"g must be (..., rows, cols) with rows, cols >= 1, got {tuple(g.shape)}")
    if not bool(((g >= 0) & torch.isfinite(g)).all()):
        raise ValueError("g must be finite and >= 0 S everywhere")
    instance("wires", wires, Wires, optional=False)
    instance("iv", iv, IV)
    instance("solver", solver, Solver)
    instance("floating", floating, Floating)
    if reads is not None:
        whole("reads", reads, 1)
    if wires.interleaved:
        if g.ndim < 3 or g.shape[0] != 2:
            raise ValueError(f"interleaved g must be (2, ..., rows, cols), got {tuple(g.shape)}")
        one = prepare(weave(g), replace(wires, interleaved=False), iv, solver, floating, reads)
        if isinstance(one, Solvable):
            return InterleavedSolved(g, wires, one)
        return Interleaved(g, wires, one)
    if wires.source is not None:
        if iv is not None or solver is not None or floating is not None:
            raise TypeError(
                "wires with a source line take ohmic cells, solver=None and floating=None"
            )
        return Gated(g, wires)
    if iv is not None:
        if solver is not None and not isinstance(solver, Newton):
            raise TypeError(f"nonlinear cells need Newton(), got {solver!r}")
        _connected(g, wires)
        return Nonlinear(g, wires, solver or Newton(), iv, floating)
    if solver is None and floating is not None:
        solver = Exact()
    if solver is None:
        arrays, kappa = g[..., 0, 0].numel(), wires.kappa(g) + max(_ends(g, wires).values())
        solver = choose(*g.shape[-2:], arrays=arrays, kappa=kappa, reads=reads, device=g.device)
    if floating is not None and not isinstance(solver, Exact | Newton):
        raise ValueError(f"{type(solver).__name__}() needs every line held at one end; use Exact()")
    match solver:
        case Exact():
            _connected(g, wires)
            return Factored(g, wires, solver, floating)
        case Iterative():
            return Iterated(g, wires, solver, floating)
        case Approximate():
            return Approximated(g, wires, solver, floating)
    raise TypeError(f"ohmic cells need Exact(), Iterative() or Approximate(), got {solver!r}")


def _ends(g: Tensor, wires: Wires) -> dict[str, float]:
    """R Σg of the drivers and of the sense amplifiers, the worst line of each."""
    _, _, r_driver, r_sense = wires.ohms
    cells = g.detach()
    return {
        name: end * float(cells.sum(dim).max()) if end > 0 and g.numel() else 0.0
        for name, end, dim in (("r_driver", r_driver, -1), ("r_sense", r_sense, -2))
    }


def _connected(g: Tensor, wires: Wires) -> None:
    """Refuse ends that take the digits of elimination, about 5e-18 (R Σg)² of the output."""
    for name, loose in _ends(g, wires).items():
        if loose > LOOSEST:
            raise ValueError(
                f"{name} of {float(getattr(wires, name)):g} ohm leaves a line all but disconnected "
                f"(times its conductance {loose:.1e}, at most {LOOSEST:g}): name it in "
                "floating=Floating(...)"
            )
