"""What a write pulse is at the terminals of a cell."""

from __future__ import annotations

from dataclasses import dataclass

from devices._check import positive


@dataclass(frozen=True)
class WritePulse:
    """Voltage and length of the pulses that move a cell, for what they cost.

    A pulse dissipates V² G t in an ohmic cell of conductance G; up and down pulses differ.

    Args:
        v_up: size of the voltage of a potentiating pulse, > 0 [V].
        v_down: of a depressing one, > 0 [V].
        t_up: length of a potentiating pulse, > 0 [s].
        t_down: of a depressing one, > 0 [s].
        source: where the numbers are from.

    Raises:
        TypeError, ValueError: a number out of range; no source.
    """

    v_up: float
    v_down: float
    t_up: float
    t_down: float
    source: str

    def __post_init__(self) -> None:
        for name, unit in (("v_up", "V"), ("v_down", "V"), ("t_up", "s"), ("t_down", "s")):
            positive(name, getattr(self, name), unit)
        if not isinstance(self.source, str) or not self.source:
            raise ValueError(f"source must say where the numbers are from, got {self.source!r}")

    @property
    def up(self) -> float:
        """V² t of a potentiating pulse [J/S]."""
        return self.v_up**2 * self.t_up

    @property
    def down(self) -> float:
        """V² t of a depressing pulse [J/S]."""
        return self.v_down**2 * self.t_down
