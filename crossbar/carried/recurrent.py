"""Recurrent layers and cells: one read of all inputs, then one of the state at every step.

torch's own loops are fused kernels, and its Python form of them leaves dropout out, so the steps
are taken here. Biases and gates are digital.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from crossbar.carried.analog import handles, product
from crossbar.carried.attention import linear

State = tuple[Tensor, ...]
Gates = Callable[[Tensor, State, Any, Tensor | None, Any], State]
"""From the input's part of the gates, the state, W_hh, its bias and W_hr: the next state."""


def _tanh(pre: Tensor, state: State, w: Any, b: Tensor | None, _: Any) -> State:
    return ((pre + linear(state[0], w, b)).tanh(),)


def _relu(pre: Tensor, state: State, w: Any, b: Tensor | None, _: Any) -> State:
    return ((pre + linear(state[0], w, b)).relu(),)


def _lstm(pre: Tensor, state: State, w: Any, b: Tensor | None, project: Any) -> State:
    h, c = state
    i, f, g, o = (pre + linear(h, w, b)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return h if project is None else linear(h, project), c


def _gru(pre: Tensor, state: State, w: Any, b: Tensor | None, _: Any) -> State:
    (h,) = state
    r, z, n = pre.chunk(3, -1)
    by_r, by_z, by_n = linear(h, w, b).chunk(3, -1)
    n = (n + (r + by_r).sigmoid() * by_n).tanh()  # the bias is within r * (...)
    return (n + (z + by_z).sigmoid() * (h - n),)


def _run(
    gates: Gates,
    x: Tensor,
    sizes: list[int] | None,
    state: State,
    params: Sequence[Any],
    has_biases: bool,
    reverse: bool,
) -> tuple[Tensor, State]:
    """One direction of one layer over (T, B, in), or packed (n, in) of `sizes` vectors a step."""
    w_ih, w_hh, *rest = params
    b_ih, b_hh = rest[:2] if has_biases else (None, None)
    project = rest[-1] if len(rest) in (1, 3) else None
    if gates is not _gru and b_ih is not None:
        b_ih, b_hh = b_ih + b_hh, None
    pre = linear(x, w_ih, b_ih)
    steps = pre.unbind(0) if sizes is None else pre.split(sizes)
    start, ended, out = state, [], []
    if sizes is not None:
        state = tuple(s[: steps[-1 if reverse else 0].shape[0]] for s in state)
    for now in reversed(steps) if reverse else steps:
        if sizes is not None:
            n, held = now.shape[0], state[0].shape[0]
            if n < held:  # the shortest sequences have ended
                ended.append(tuple(s[n:] for s in state))
                state = tuple(s[:n] for s in state)
            elif n > held:
                state = tuple(
                    torch.cat([s, s0[held:n]]) for s, s0 in zip(state, start, strict=True)
                )
        state = gates(now, state, w_hh, b_hh, project)
        out.append(state[0])
    for early in reversed(ended):
        state = tuple(torch.cat(pair) for pair in zip(state, early, strict=True))
    out = out[::-1] if reverse else out
    return torch.stack(out) if sizes is None else torch.cat(out), state


def _layers(
    gates: Gates,
    x: Tensor,
    sizes: list[int] | None,
    states: Sequence[Tensor],
    params: Sequence[Any],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    ways = 2 if bidirectional else 1
    each = len(params) // (num_layers * ways)
    ends: list[State] = []
    for layer in range(num_layers):
        outs = []
        for way in range(ways):
            k = layer * ways + way
            own = params[k * each : (k + 1) * each]
            start = tuple(s[k] for s in states)
            out, end = _run(gates, x, sizes, start, own, has_biases, way == 1)
            outs.append(out)
            ends.append(end)
        x = torch.cat(outs, -1) if bidirectional else outs[0]
        if dropout and train and layer < num_layers - 1:
            x = torch.dropout(x, dropout, True)
    return x, *(torch.stack(parts) for parts in zip(*ends, strict=True))


def _layered(gates: Gates, *functions: Any) -> None:
    """Both forms: (input, hx, params, …, batch_first), packed (data, batch_sizes, hx, …)."""

    @product(*functions)
    def layered(*args: Any) -> Any:
        packed = isinstance(args[3], (list, tuple))
        data, hx, params, has_biases, *settings = (args[0], *args[2:]) if packed else args
        if not any(True for _ in handles(params, {})):
            return NotImplemented
        first = not packed and settings[-1]
        sizes = args[1].tolist() if packed else None
        states = hx if isinstance(hx, (list, tuple)) else (hx,)
        x = data.transpose(0, 1) if first else data
        y, *ends = _layers(gates, x, sizes, states, params, has_biases, *settings[:4])
        return y.transpose(0, 1) if first else y, *ends


def _celled(gates: Gates, *functions: Any) -> None:
    @product(*functions)
    def cell(
        input: Tensor,  # noqa: A002
        hx: Any,
        w_ih: Any,
        w_hh: Any,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:
        if not any(True for _ in handles((w_ih, w_hh), {})):
            return NotImplemented
        state = tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)
        found = gates(linear(input, w_ih, b_ih), state, w_hh, b_hh, None)
        return found if len(found) > 1 else found[0]


_layered(_lstm, torch.lstm, "aten::lstm")
_layered(_gru, torch.gru, "aten::gru")
_layered(_tanh, torch.rnn_tanh, "aten::rnn_tanh")
_layered(_relu, torch.rnn_relu, "aten::rnn_relu")
_celled(_lstm, torch.lstm_cell, "aten::lstm_cell")
_celled(_gru, torch.gru_cell, "aten::gru_cell")
_celled(_tanh, torch.rnn_tanh_cell, "aten::rnn_tanh_cell")
_celled(_relu, torch.rnn_relu_cell, "aten::rnn_relu_cell")
