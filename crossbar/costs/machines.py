"""Other machines for the same work: processors by their roofline, the brain by its events."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossbar.costs.cost import Cost
from devices._check import between, positive


@dataclass(frozen=True)
class Roofline:
    """A processor: it is as fast as its arithmetic or its memory lets it, at its whole power.

        t = max(2 MACs / (peak · utilisation), bytes / bandwidth),   E = P t

    Args:
        name: of the machine.
        power: [W], > 0.
        peak: operations a second, two a MAC, > 0; dense.
        bandwidth: bytes a second, > 0.
        utilisation: part of the peak that is reached, in (0, 1].
        source: of the numbers.
    """

    name: str
    power: float
    peak: float
    bandwidth: float
    utilisation: float
    source: str

    def __post_init__(self) -> None:
        for name in ("power", "peak", "bandwidth", "utilisation"):
            positive(name, getattr(self, name))
        between("utilisation", self.utilisation, 0, 1)

    def at(self, utilisation: float) -> Roofline:
        """The same, used otherwise."""
        return replace(self, utilisation=utilisation)

    def seconds(self, macs: float, size: float = 0.0) -> float:
        """Of so many multiplications and bytes of memory traffic."""
        return max(2 * macs / (self.peak * self.utilisation), size / self.bandwidth)

    def joules(self, macs: float, size: float = 0.0) -> float:
        """See the class."""
        return self.power * self.seconds(macs, size)


H100 = Roofline(
    *("H100 SXM, BF16", 700.0, 989.4e12, 3.35e12, 0.4),
    "NVIDIA H100 data sheet: 700 W, 989.4 TFLOPS dense BF16, 3.35 TB/s; utilisation assumed",
)
CPU = Roofline(
    *("Xeon Platinum 8380, FP32", 270.0, 5.9e12, 204.8e9, 0.5),
    "Intel ARK: 270 W, 40 cores at 2.3 GHz with two AVX-512 units, 8 channels DDR4-3200; "
    "utilisation assumed",
)


@dataclass(frozen=True)
class Brain:
    """Joules of synaptic events, by two conventions that differ severalfold.

    Args:
        vesicle: of one release.
        event: all power over all events.
    """

    vesicle: Cost
    event: Cost

    def joules(self, events: float) -> dict[str, Cost]:
        """Of so many synaptic events, by both."""
        return {"vesicle": self.vesicle.times(events), "event": self.event.times(events)}


brain = Brain(
    Cost(
        *(13.6e-15, 13.6e-15, 13.6e-15, None),
        "Attwell & Laughlin, J. Cereb. Blood Flow Metab. 21, 1133 (2001): 1.64e5 ATP a vesicle at "
        "50 kJ/mol, rodent",
    ),
    Cost(63e-15, 20e-15, 200e-15, None, "20 W over 1e14 to 1e15 events a second"),
)
