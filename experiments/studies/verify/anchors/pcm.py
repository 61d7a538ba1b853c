"""A3: constants of phase-change memory, as a table of golden values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from scipy.stats import foldnorm

from devices import Device, PCMDrift, PCMRead, PCMWrite
from experiments.lab.run import Outcome, Run, Stored
from experiments.studies.verify.claims import Anchor, Claim

SOURCE = "Nandakumar et al., ICECS 2019; Joshi et al., Nat. Commun. 11:2473 (2020)"
STATES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # of 25 µS
HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
WRITE = (0.3588, 0.4482, 0.6814, 0.9527, 1.0774, 1.0554)  # [µS]
MU = (0.0708, 0.0601, 0.049, 0.049, 0.049, 0.049)
SD = (0.0315, 0.0229, 0.0114, 0.008, 0.008, 0.008)
DRIFT = {  # G over what was programmed, at the mean exponent
    HOUR: (0.6920, 0.7317, *[0.7751] * 4),
    DAY: (0.5527, 0.6047, *[0.6635] * 4),
    YEAR: (0.3639, 0.4242, *[0.4969] * 4),
}
READ = {  # standard deviation of a read over G
    1.0: (0.2584, 0.1647, 0.0908, 0.0579, 0.0444, 0.0369),
    DAY: (0.3138, 0.2000, 0.1102, 0.0702, 0.0540, 0.0448),
    YEAR: (0.3477, 0.2216, 0.1221, 0.0778, 0.0598, 0.0496),
}


@dataclass(frozen=True)
class Cells(Run):
    """So many cells of each state, written, read and left to drift."""

    cells: int = 200_000

    def label(self) -> str:  # noqa: D102
        return "phase-change cells"

    def execute(self, store: Stored) -> Outcome:  # noqa: D102
        device = Device(0.0, 25e-6, read=PCMRead(), write=PCMWrite(), retention=PCMDrift())
        draw = torch.Generator().manual_seed(0)
        target = 25e-6 * torch.tensor(STATES, dtype=torch.float64)
        many = target[:, None].expand(-1, self.cells)
        state = device.fabricate(tuple(many.shape), dtype=torch.float64, generator=draw)
        written = device.program(state, many, generator=draw)
        exact = Device(0.0, 25e-6, read=PCMRead(), retention=PCMDrift())
        one = exact.fabricate((len(STATES), self.cells), dtype=torch.float64, generator=draw)
        one = exact.program(one, many, generator=draw)
        nu = one.retention.nu
        found = {
            "write": PCMWrite().std(device.window, target) * 1e6,
            "write, sampled": (written.g - many)[2:5].std(1) * 1e6,  # others are cut
            "nu": nu.mean(1),
            "nu spread": nu.std(1),
        }
        drift = one.retention._replace(nu=nu.new_tensor(MU)[:, None].expand_as(nu))
        one, now = one._replace(retention=drift), 0.0
        for time in sorted({*DRIFT, *READ}):
            one, now = exact.advance(one, time - now), time
            found[f"drift {time:g}"] = one.g[:, 0] / target
            found[f"read {time:g}"] = (exact.std(one) / one.g)[:, 0]
        return Outcome({}, {name: values.tolist() for name, values in found.items()})


class Constants(Anchor):
    """Every golden value to 1e-3 and its last digit; moments of draws to 1 %."""

    key = "A3"
    about = "constants of phase-change memory"
    exact = True

    def runs(self) -> list[Run]:  # noqa: D102
        return [Cells()]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        curves = store[Cells()].curves
        folded = [foldnorm(mu / sd, scale=sd) for mu, sd in zip(MU, SD, strict=True)]

        def row(
            what: str, name: str, golden: Iterable[float], most: float = 1e-3, digit: float = 5e-5
        ) -> Claim:
            values = list(golden)
            worst = max(
                max(abs(own - value) - digit, 0.0) / value
                for own, value in zip(curves[name], values, strict=True)
            )
            told = f"{values[0]:.4f} … {values[-1]:.4f}"
            return Claim(SOURCE, f"{what}, {len(values)} states", "largest error", told, [worst],
                         high=most, exact=True)  # fmt: skip

        return [
            row("write error [µS]", "write", WRITE),
            row("the same of 200,000 draws", "write, sampled", WRITE[2:5], 0.01),
            row("mean exponent of draws", "nu", [f.mean() for f in folded], 0.01),
            row("spread of exponents", "nu spread", [f.std() for f in folded], 0.01),
            *(row(f"drift, {t:g} s", f"drift {t:g}", DRIFT[t]) for t in DRIFT),
            *(row(f"read noise over G, {t:g} s", f"read {t:g}", READ[t]) for t in READ),
        ]
