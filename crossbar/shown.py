"""How torch's Parameter shows what the cells of a weight hold."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from crossbar.matrix import Matrix
from crossbar.modes import Mode
from crossbar.regions import Form
from crossbar.states import writing


class Shown(nn.Module):
    """A weight on matrices, of which a Parameter is the mirror, or compact cells the memory."""

    matrix: Matrix
    shape: tuple[int, ...]
    form: Form
    mode: Mode
    gains: tuple[float, ...]
    seen: int | None  # version of the Parameter when it was last shown
    dirty: bool  # written since, as dispatch saw
    all: Any
    held: Any

    def show(self, parameter: Tensor) -> None:
        """Show in the Parameter what the cells hold."""
        if not self.mode.written:
            return
        with writing(), torch._C.DisableTorchFunctionSubclass():
            if parameter.is_meta:
                return
            stale = self.stale(parameter)
            moved = None if stale else self._moved(parameter)
            if moved is not None:
                for place, w in moved:
                    parameter.data.view(-1).index_copy_(0, place, w.to(parameter.dtype))
            else:
                shown = self.form.weight(self.held, self.shape)
                if parameter.is_inference():
                    parameter.data = shown.to(parameter.dtype)
                else:
                    parameter.data.copy_(shown)
        for _, matrix in self.all():
            matrix.written.moved = []
        self.remember(parameter)
        self.share(parameter)

    def share(self, parameter: Tensor) -> None:
        """Let a Parameter that shows a compact weight show the memory of its cells themselves."""
        cells = self.matrix.cells
        if cells is None or not cells.scaled or len(self.gains) > 1:
            return
        lent = cells.lends(parameter)
        if lent and not self.dirty:  # as a file brought both
            self.remember(parameter)
        if self.stale(parameter):
            return
        shown = self.form.weight(cells.planes().matrix[0], self.shape)
        plain = not (parameter.is_meta or parameter.is_inference())
        if plain and shown.dtype == parameter.dtype and not lent:
            if shown.is_contiguous() and shown.data_ptr() == cells.matrix.data_ptr():
                parameter.data = shown
                self.remember(parameter)

    def apart(self, parameter: Tensor) -> None:
        """Somebody is about to write into the Parameter: cells keep what they hold."""
        cells = self.matrix.cells
        if cells is not None:
            cells.apart(parameter)

    def _moved(self, parameter: Tensor) -> list[tuple[Tensor, Tensor]] | None:
        """Where the Parameter, which shows an earlier state, differs; None: anywhere."""
        if len(self.gains) == 1 and self.matrix.written.lends(parameter):
            return []
        if any(self.gains[:-1]) or self.gains[-1] != 1 or parameter.is_inference():
            return None
        return self.matrix.written.moved if parameter.data.is_contiguous() else None

    def remember(self, parameter: Tensor) -> None:
        """The Parameter shows what the cells hold from here on."""
        with torch._C.DisableTorchFunctionSubclass():
            seen = None if parameter.is_inference() else parameter._version
        self.seen, self.dirty = seen, False

    def stale(self, parameter: Tensor) -> bool:
        """Whether somebody wrote into the Parameter, noticed by dispatch or by its version."""
        with torch._C.DisableTorchFunctionSubclass():
            if self.dirty or parameter.is_inference():
                return self.dirty
            return parameter._version != self.seen
