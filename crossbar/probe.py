"""What is told of everything that happens on the arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from torch import Tensor

from crossbar.converters import Digit
from crossbar.planes import Planes
from crossbar.port import Port
from devices import Pulses


class Probe:
    """What happens on the arrays, told as it happens; each verb is a no-op by default.

    Use it as `with xb.observe(model, probe):`; `matrix` is the `Matrix` it happened to. Tensors are
    those in use: do not write them.
    """

    currents: ClassVar[bool] = True
    """Whether it is told every current before its converter (`converted`), for which reads are
    taken apart that need not be."""

    def used(self, call: Any, digits: Sequence[Digit], planes: Planes) -> None:
        """A read (a `read.Call`) begins: `digits` drive its lines, `planes` is what it sees."""

    def struck(
        self,
        matrix: Any,
        at: Tensor | None,
        rounds: Sequence[Pulses],
        lines: Callable[[], Any] | None,
        phase: str,
    ) -> None:
        """Weights are about to be given rounds of pulses; see `pulses.Parcel`.

        `phase` is "update" or "program".
        """

    def wrote(self, matrix: Any, written: Any) -> None:
        """Cells were written, see `programming.Written`."""

    def advanced(self, matrix: Any, dt: float) -> None:
        """Time passed [s]."""

    def worked(self, matrix: Any, work: Any, phase: str) -> None:
        """Digital logic worked beside the matrix: a NamedTuple of events, as `rules.Work` is.

        `phase` is "update" (a step of a rule) or "forward".
        """

    def encoded(
        self, matrix: Any, port: Port, x: Tensor, scale: Tensor | None, digits: Sequence[Digit]
    ) -> None:
        """An input x was encoded; `scale` is the logical input at v_max (None: 1)."""

    def converted(
        self,
        matrix: Any,
        port: Port,
        tile: int,
        column: int,
        i: Tensor,
        full: Tensor | float | None,
    ) -> None:
        """Currents i of one tile and layout column reached their converters.

        In units of v_max · ΔG, as is their full scale; None: there is no converter.
        """

    def repeated(self, matrix: Any, port: Port, n: Tensor) -> None:
        """A managed range made n conversions, in all of one tile and column, once more."""

    def finished(self, matrix: Any, op: Any, x: Tensor, y: Tensor) -> None:
        """A use of the matrix, x to y by the operation, ended; compensation included."""

    def pulsed(self, matrix: Any, given: tuple[Pulses | None, ...]) -> None:
        """Each device of every weight was given pulses (None: none)."""

    def programmed(self, matrix: Any, target: Tensor) -> None:
        """Cells were written to target conductances (K, ..., rows, cols) [S]."""

    def driven(self, matrix: Any, v: Tensor, dt: float) -> None:
        """Voltages [V] lay across the cells for dt [s]."""

    def stepped(self, matrix: Any, lr: float) -> None:
        """An optimiser's step updated the matrix."""

    def untold(self, matrix: Any, why: str) -> None:
        """The cells were used in a way that no verb tells, which `why` names."""

    # ---- beside what happens -----------------------------------------------------------------

    def paused(self) -> AbstractContextManager[None]:
        """What runs within asks the emulator something, and happens on no hardware."""
        return nullcontext()

    def follows(self, model: Any, copy: Any) -> AbstractContextManager[Probe | None]:
        """Who is told of a copy that stands for the model within; None: nobody."""
        return nullcontext()
