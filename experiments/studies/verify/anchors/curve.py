"""A5: NeuroSim's label of a nonlinear curve is its largest distance from a line."""

from __future__ import annotations

import math

from devices import Device, NeuroSim
from experiments.lab.run import Run, Stored
from experiments.studies.verify.claims import Anchor, Claim
from experiments.tasks.runs import Response

SOURCE = "MLP+NeuroSim V3.0 manual, labels and curve constants"
PULSES = 200
CONSTANTS = {0.5: 2.520, 1.0: 1.252, 2.0: 0.609, 3.0: 0.387, 4.0: 0.269, 5.0: 0.192, 6.0: 0.136}


class Labels(Anchor):
    """NL = 10.1015 max |f(x) − x| within 0.02, and the curve of the published constant."""

    key = "A5"
    about = "NeuroSim's labels and the shape of the curve"
    exact = True

    def run(self, label: float) -> Response:
        """A cell pulsed from end to end and back."""
        law = NeuroSim(PULSES, PULSES, label, -label)
        return Response(Device(1e-6, 50e-6, update=law), PULSES, cells=2)

    def runs(self) -> list[Run]:  # noqa: D102
        return [self.run(label) for label in CONSTANTS]

    def claims(self, store: Stored) -> list[Claim]:  # noqa: D102
        rows = []
        for label, a in CONSTANTS.items():
            curve = store[self.run(label)].curves["mean"][: PULSES + 1]
            own = [(g - curve[0]) / (curve[-1] - curve[0]) for g in curve]
            bent = max(f - n / PULSES for n, f in enumerate(own))
            want = [math.expm1(-n / PULSES / a) / math.expm1(-1 / a) for n in range(PULSES + 1)]
            apart = max(abs(f - w) for f, w in zip(own, want, strict=True))
            rows += [
                Claim(SOURCE, f"10.1015 × largest distance from the line, label {label:g}", "NL",
                      f"{label:g}", [10.1015 * bent], label - 0.02, label + 0.02, exact=True),
                Claim(SOURCE, f"distance from the curve of A = {a:g}", "of the range", "0", [apart],
                      high=0.005, exact=True, note="constants are told to three digits"),
            ]  # fmt: skip
        return rows
