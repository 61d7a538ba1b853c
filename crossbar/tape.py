"""What backward passes leave for an in-situ update, and whether a gradient is still theirs.

Entries wait under the graph task they were made in and are committed by the weight's
post-accumulate hook: only a backward that accumulates into `.grad` trains. At the step the
gradient is compared with the entries by content, never by version or identity.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crossbar.operations import Operation
from crossbar.regions import Form, Region

ROUNDINGS = 400
"""Roundings, of float32 or wider, by which a sum of outer products may miss its gradient."""
STORED = 8
"""The same of half precision, to which a gradient is rounded when it has been summed."""


class Entry(NamedTuple):
    """The inputs and errors of one read: the gradient of its part of the weight is Σ x δ."""

    op: Operation
    x: Tensor
    d: Tensor
    region: Region
    made: torch.dtype  # that its gradient was made in
    versions: tuple[int, int] | None = None  # of x and d, where no gradient tells their change

    def scaled(self, c: float) -> Entry:
        """The same with errors c δ, in float32 at least: a scaler's 2^16 is divided out."""
        d = self.d if c == 1 else self.d.to(torch.promote_types(self.d.dtype, torch.float32)) * c
        return self._replace(d=d)

    def sketch(self, v: Tensor) -> Tensor:
        """vᵀ Σ x δ of the region, (..., cols of the region), for v (..., rows of the matrix)."""
        part = self.region.of_rows(v)
        if self.op.form.groups is not None and part.dim() == 1:
            part = part.unsqueeze(0)
        x, d = (t.to(v.dtype) for t in (self.x, self.d))
        if self.region.transposed:
            return self.op.forward.weighted(x, self.op.backward.dot(d, part))
        return self.op.backward.weighted(d, self.op.forward.dot(x, part))


def joined(entries: list[Entry]) -> list[Entry]:
    """Entries of one operation and region as one, where their vectors have one shape."""
    found: list[Entry] = []
    for entry in entries:
        op, x, d, region, made, _ = entry
        last = found[-1] if found else None
        if last is not None and (last.op, last.region) == (op, region) and x.dim() > 1:
            k = op.along
            if _but(last.x, k) == _but(x, k) and _but(last.d, k) == _but(d, k):
                x, d = torch.cat((last.x, x), k), torch.cat((last.d, d), k)
                found[-1] = Entry(op, x, d, region, made)
                continue
        found.append(entry)
    return found


def _but(t: Tensor, dim: int) -> tuple[int, ...]:
    return tuple(n for k, n in enumerate(t.shape) if k != dim)


def judge(
    grad: Tensor, form: Form, old: Sequence[Entry], new: Sequence[Entry] = ()
) -> float | None:
    """c with grad = c Σ old + Σ new, or None: it is something else.

    One random vector is multiplied from the left; a change of a single entry shows. `form` says
    how the weight is a matrix.
    """
    if not grad.numel():
        return 1.0
    wide = torch.promote_types(grad.dtype, torch.float32)
    m = form.matrix(grad.detach().to(wide))
    generator = torch.Generator("cpu").manual_seed(0)
    v = torch.randn(m.shape[:-1], generator=generator, dtype=wide, device="cpu").to(m.device)
    got = (v.unsqueeze(-2) @ m).squeeze(-2)  # (..., cols)

    def summed(entries: Sequence[Entry]) -> Tensor:
        total = torch.zeros_like(got)
        for entry in entries:
            found = entry.sketch(v)
            part = entry.region.of_cols(total)
            part += found.reshape(part.shape)
        return total

    first, second = summed(old), summed(new)
    rest = got - second
    power = (first * first).sum()
    c = (rest * first).sum() / power
    error = (rest - c * first).abs().amax()
    scale = torch.maximum(got.abs().amax(), second.abs().amax())
    numbers = torch.stack([c, error, scale, power, rest.abs().amax()]).tolist()  # one sync
    c_, error_, scale_, power_, rest_ = numbers
    rounding = _rounding({grad.dtype, *(e.made for e in (*old, *new))})
    if power_ == 0 or c_ != c_:
        return 1.0 if rest_ <= rounding * scale_ else None
    if rest_ <= rounding * scale_:
        return 0.0
    if error_ > rounding * scale_:
        # the vector may lie across the gradient, of few inputs, by chance: its columns do not
        if error_ > rounding * float(torch.linalg.vector_norm(m, dim=-2).amax()):
            return None
    # a factor within rounding of one is one: pulses then see δ as it was
    return 1.0 if abs(c_ - 1) <= rounding else c_


def _rounding(dtypes: set[torch.dtype]) -> float:
    """By how much of itself a gradient made and kept in these may miss its entries."""
    eps = [torch.finfo(dtype).eps for dtype in dtypes]
    wide = [torch.finfo(torch.promote_types(dtype, torch.float32)).eps for dtype in dtypes]
    stored = max((e for e, w in zip(eps, wide, strict=True) if e > w), default=0.0)
    return ROUNDINGS * max(wide) + STORED * stored


@dataclass
class Tape:
    """The entries of one weight; copies and pickles start empty, as `.grad` does."""

    form: Form
    waiting: dict[int, list[Entry]] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    version: int | None = None
    last: Callable[[], Tensor | None] | None = None  # the gradient of that version

    def note(self, entry: Entry) -> None:
        """An entry of the backward that runs."""
        task = torch._C._current_graph_task_id()
        if task not in self.waiting:
            self.waiting[task] = []
            if task != -1:  # whatever nobody committed is dropped when the backward ends
                engine = torch.autograd.Variable._execution_engine
                engine.queue_callback(functools.partial(self._drop, task))
        self.waiting[task].append(entry)

    def _drop(self, task: int) -> None:
        self.waiting.pop(task, None)

    def commit(self, grad: Tensor | None) -> None:
        """The weight's gradient was accumulated: what waited under this backward counts.

        `grad`: the sum so far; None where entries have none, and stand for themselves.
        """
        new = self.waiting.pop(torch._C._current_graph_task_id(), [])
        if grad is None:
            self.entries += new
            return
        untouched = self.version is None or grad._version == self.version + 1
        if self.entries and not (untouched and (self.last is None or self.last() is grad)):
            # something lay between two backward passes: a factor (0: forgotten), or numbers
            c = judge(grad, self.form, self.entries, new)
            if c is not None:
                self.entries = [e.scaled(c) for e in self.entries] if c else []
        self.entries = self.entries + new
        self.version, self.last = grad._version, weakref.ref(grad)

    def take(self, grad: Tensor | None, without: bool) -> tuple[list[Entry], Tensor | None]:
        """What a step applies, once: entries, and a gradient that is not theirs.

        `without`: the weight's reads give no gradient, so that whatever there is is not theirs.
        """
        entries = self.entries
        self.clear()
        if grad is None:
            return entries if without else [], None
        if without or not entries:
            return entries, grad if bool(grad.any()) else None
        c = judge(grad, self.form, entries)
        if c is None:
            return [], grad
        return [e.scaled(c) for e in entries] if c else [], None

    def clear(self) -> None:
        """Forget everything."""
        self.waiting, self.entries, self.version, self.last = {}, [], None, None

    def __getstate__(self) -> dict[str, Form]:
        return {"form": self.form}

    def __setstate__(self, state: dict[str, Form]) -> None:
        self.form = state["form"]
        self.clear()
