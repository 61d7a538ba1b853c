"""Spikes that arrive later: whole lines, or every synapse after a time of its own.

net = xb.spiking.Sequential(xb.spiking.Synapses(nn.Linear(64, 32), steps), LIF(), …)
xb.convert(net, chip)                     # steps (32, 64): of the synapse from 64 lines to 32
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from crossbar.carried.analog import is_analog
from crossbar.modes import InSitu
from crossbar.spiking.neurons import Temporal
from devices._check import instance, whole


class Delay(Temporal):
    """Lines that arrive later: y_t = x_(t−d), zero before.

    Args:
        steps: d >= 0, of all lines, or an int64 tensor of the delay of each output line (n,).
        lines: which line of x each output line repeats, int64 (n,); None: each its own. A line
            that several repeat reaches several rows at times of their own.

    Raises:
        TypeError, ValueError: of another kind, shape or range.
    """

    def __init__(self, steps: int | Tensor, lines: Tensor | None = None) -> None:
        super().__init__()
        if isinstance(steps, Tensor):
            _counts("steps", steps, 1)
            self.longest = int(steps.max()) if len(steps) else 0
        else:
            self.longest = whole("steps", steps, 0)
        if lines is not None:
            _counts("lines", lines, 1)
            if not isinstance(steps, Tensor) or len(lines) != len(steps):
                raise ValueError(f"lines needs a delay for each in steps, got {steps!r}")
        self.common = not isinstance(steps, Tensor)
        self.register_buffer("steps", torch.as_tensor(steps).clone())
        self.register_buffer("lines", None if lines is None else lines.clone())

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One time step; the state are the last inputs, newest first (longest + 1, B, ...)."""
        y, state = self.run(x.unsqueeze(0), state)
        return y[0], state

    def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All time steps of x (T, B, ...): outputs (T, B, ...) and the last inputs.

        Raises:
            ValueError: another number of lines, or the state of another batch.
        """
        known, n = self.longest + 1, x.shape[-1]
        if state is None:
            state = x.new_zeros(known, *x.shape[1:])
        if state.shape != (known, *x.shape[1:]):
            raise ValueError(
                f"the state is of inputs {tuple(state.shape[1:])} held for {len(state) - 1} steps, "
                f"and these are {tuple(x.shape[1:])}, held for {self.longest}"
            )
        steps: Tensor = self.steps  # type: ignore[assignment]
        lines: Tensor | None = self.lines  # type: ignore[assignment]
        past = torch.cat((state.flip(0), x))  # (longest + 1 + T, B, ...)
        state = past[len(x) :].flip(0)
        if self.common:
            return past[1 : 1 + len(x)], state
        if lines is None and n != len(steps):
            raise ValueError(f"x has {n} lines, and steps {len(steps)}")
        if lines is not None and len(lines) and int(lines.max()) >= n:
            raise ValueError(f"lines go up to {int(lines.max())}, and x has {n}")
        y = x.new_empty(*x.shape[:-1], len(steps))
        for d in steps.unique().tolist():
            at = (steps == d).nonzero().flatten()
            begin = known - d
            y[..., at] = past[begin : begin + len(x)][..., at if lines is None else lines[at]]
        return y, state

    def events(self, inputs: tuple[Any, ...], output: Any) -> dict[str, float]:
        """Lines that wait compute nothing; the memory they wait in is not counted."""
        return {}

    def extra_repr(self) -> str:
        """How long, and of how many lines."""
        return f"longest={self.longest}, lines={'all' if self.common else len(self.steps)}"  # type: ignore[arg-type]


class Synapses(Temporal):
    """A linear layer whose every synapse delivers after a time of its own.

        y_j(t) = Σ_i W_ji x_i(t − d_ji) + b_j

    A row of an array reaches all of its columns at once, so a line has a row for each of the
    delays that its synapses have: one read a step, of Σ_i |{d_ji}_j| rows. Of the cells of such a
    row those of other delays belong to no synapse. They are written as zero, and gradients leave
    them there: no optimiser moves them, and in situ their cells are given no pulses (what the
    device makes of a zero, its write error and noise, they have as all others). In situ that
    turns outer products into numbers, applied row by row.

    Args:
        layer: `nn.Linear`, not converted yet: `convert` puts its rows on arrays.
        steps: d_ji >= 0, int64 of the shape of the weight (out, in).

    Raises:
        TypeError, ValueError: another layer, or steps of another kind, shape or range; trained in
            situ without gradients.
    """

    def __init__(self, layer: nn.Linear, steps: Tensor) -> None:
        super().__init__()
        instance("layer", layer, nn.Linear, optional=False)
        if is_analog(layer.weight):
            raise TypeError("layer is on arrays already: give Synapses a torch layer, then convert")
        instance("steps", steps, Tensor, optional=False)
        _counts("steps", steps, 2)
        weight = layer.weight.detach()
        if steps.shape != weight.shape:
            raise ValueError(
                f"steps must be of the shape of the weight {tuple(weight.shape)} (out, in), got "
                f"{tuple(steps.shape)}"
            )
        outputs, inputs = weight.shape
        line = torch.arange(inputs, device=steps.device).expand_as(steps)
        pairs, rows = torch.stack((line, steps)).flatten(1).unique(dim=1, return_inverse=True)
        self.delay = Delay(pairs[1], pairs[0])
        rows = rows.view_as(steps)
        size, like = pairs.shape[1], {"device": weight.device, "dtype": weight.dtype}
        self.layer = nn.Linear(size, outputs, layer.bias is not None, **like)
        there = torch.zeros(outputs, size, dtype=torch.bool, device=weight.device)
        self.register_buffer("there", there.scatter_(1, rows, True))
        with torch.no_grad():
            self.layer.weight.zero_().scatter_(1, rows, weight)
            if layer.bias is not None:
                self.layer.bias.copy_(layer.bias)
        for new, old in zip(self.layer.parameters(), layer.parameters(), strict=True):
            new.requires_grad_(old.requires_grad)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One time step; the state is the delay's."""
        y, state = self.run(x.unsqueeze(0), state)
        return y[0], state

    def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All time steps of x (T, B, in): (T, B, out), read as one batch, and the state."""
        self._spare()
        late, state = self.delay.run(x, state)
        return self.layer(late.flatten(0, -2)).unflatten(0, late.shape[:-1]), state

    def _spare(self) -> None:
        """Keep gradients off the cells without a synapse; copies of a Parameter have no hooks."""
        weight = self.layer.weight
        own = weight.is_leaf and weight.requires_grad and torch.is_grad_enabled()
        mode = weight.analog.mode if is_analog(weight) else None
        if own and isinstance(mode, InSitu) and not mode.gradient:
            raise TypeError(
                "InSitu(gradient=False) pulses every cell of a row, and not all are synapses of "
                "its delay: Synapses need the gradient"
            )
        if own and self._only_there not in (weight._backward_hooks or {}).values():
            weight.register_hook(self._only_there)

    def _only_there(self, gradient: Tensor) -> Tensor:
        there: Tensor = self.there  # type: ignore[assignment]
        return gradient * there

    def events(self, inputs: tuple[Any, ...], output: Any) -> dict[str, float]:
        """The layer counts its own."""
        return {}


def _counts(name: str, value: Tensor, dims: int) -> None:
    """Whether a tensor is of whole numbers >= 0.

    Raises:
        TypeError, ValueError: it is not.
    """
    instance(name, value, Tensor, optional=False)
    if value.dtype != torch.int64:
        raise TypeError(f"{name} must be int64, got {value.dtype}")
    if value.dim() != dims:
        raise ValueError(f"{name} must have {dims} dimensions, got {tuple(value.shape)}")
    if value.numel() and int(value.min()) < 0:
        raise ValueError(f"{name} must be >= 0, got {int(value.min())}")
