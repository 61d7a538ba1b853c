"""A11: pairs or offsets, kinds of cell errors, on/off ratio and range of the converter."""

from __future__ import annotations

import crossbar as xb
from devices import Device, GaussianWrite, Polynomial, StateWrite
from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.studies.verify.runs import Written
from experiments.tasks.data import Digits
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe

SOURCE = "Xiao et al., IEEE Circuits Syst. Mag. 22(4), 26 (2022)"
NOTE = "64-54-10 on digits, trained digitally and written"
G_MAX, V_MAX = 1e-4, 0.2  # [S], [V]


def even(sigma: float) -> Device:
    """The same error in every state."""
    return Device(0.0, G_MAX, write=GaussianWrite(sigma))


def proportional(share: float, ratio: float = float("inf")) -> Device:
    """σ = share · g in a window of that on/off ratio."""
    floor, g_min = 1 / (ratio - 1), G_MAX / ratio
    return Device(g_min, G_MAX, write=StateWrite(Polynomial((share * floor, share))))


def converted(mapping: xb.Mapping, bits: int, policy: xb.Range) -> xb.Chip:
    """Cells without errors behind converters of so many bits."""
    port = xb.Periphery(xb.DAC(8, V_MAX), xb.ADC(bits, range=policy))
    return xb.Chip(Device(0.0, G_MAX), mapping, forward=port)


WHOLE = xb.Fixed(64 * V_MAX * G_MAX)
CHIPS = {
    "pair, even": xb.Chip(even(0.1)),
    "offset, even": xb.Chip(even(0.1), xb.OffsetColumn()),
    "pair, proportional": xb.Chip(proportional(0.2)),
    "on/off 100": xb.Chip(proportional(0.2, 100)),
    "on/off 10": xb.Chip(proportional(0.2, 10)),
    "on/off 2": xb.Chip(proportional(0.2, 2)),
    "4 bits, calibrated": converted(xb.Differential(), 4, xb.Calibrated()),
    "4 bits, offset": converted(xb.SingleCell(), 4, xb.Calibrated()),
    "6 bits, offset": converted(xb.SingleCell(), 6, xb.Calibrated()),
    "4 bits, worst case": converted(xb.Differential(), 4, WHOLE),
}
CLAIMS = (  # above, below, published, bounds
    ("pair, even", "offset, even", "differential above offset", {"low": 5.0}),
    ("pair, proportional", "pair, even", "proportional above even errors", {"low": 0.0}),
    ("pair, proportional", "on/off 100", "100 as good as endless", {"low": -1.0, "high": 1.0}),
    ("on/off 100", "on/off 10", "high above low on/off", {"low": -0.5}),
    ("on/off 10", "on/off 2", "high above low on/off", {"low": 5.0}),
    ("4 bits, calibrated", "4 bits, offset", "differential needs fewer bits", {"low": 2.0}),
    ("4 bits, calibrated", "6 bits, offset", "some 2 bits fewer", {"low": -2.0, "high": 4.0}),
    ("4 bits, offset", "4 bits, worst case", "calibrated above the whole range", {"low": 5.0}),
)  # fmt: skip


class Mapping(Anchor):
    """One network on ten kinds of chip."""

    key = "A11"
    about = "differential or offset, kinds of errors, on/off ratio, range of the ADC"

    def read(self, name: str, seed: int) -> Written:
        """Of one kind, several chips where cells differ."""
        recipe = Recipe(3 if self.quick else 30, 25, 0.2)
        of = Train(Digits(), MLP((54,)), recipe, seed=seed)
        chip = CHIPS[name]
        alike = chip.device.write is None
        return Written(of, chip, 1 if alike else 2 if self.quick else 5)

    @property
    def seeds(self) -> range:
        """Of networks and batches."""
        return range(1 if self.quick else 5)

    def runs(self) -> list[Run]:  # noqa: D102
        return [self.read(name, seed) for name in CHIPS for seed in self.seeds]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        found = {
            name: [store[self.read(name, seed)].metrics["accuracy"] for seed in self.seeds]
            for name in CHIPS
        }
        return [
            Claim(SOURCE, f"{better} above {worse}", "points", published,
                  [a - b for a, b in zip(found[better], found[worse], strict=True)], **bounds,
                  note=NOTE)
            for better, worse, published, bounds in CLAIMS
        ]  # fmt: skip
