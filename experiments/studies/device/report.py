"""Sections, tables, pictures and claims of the report on a fitted device."""

from __future__ import annotations

import math

import numpy as np

from devices import Device, Fit
from devices.fitting import PartFit
from experiments.lab.plots import COLOURS, Line, Panel, panels
from experiments.lab.report import Check, Picture, Section, Table
from experiments.studies.device.fit import Both


def states(found: Fit) -> float:
    """Steps that fit into the window."""
    assert found.device.update is not None
    return found.device.window.span / found.device.update.step(found.device.window)


def part_sections(parts: dict[str, PartFit]) -> list[Section]:
    """What the other measurements say."""
    out = []
    for name, fit in parts.items():
        rows = [
            [field, *(f"{v:.4g}" for v in (p.value, p.low, p.high)), p.unit or "—"]
            for field, p in fit.parameters.items()
        ]
        title = f"From --{name}: {type(fit.part).__name__}"
        table = Table(["Parameter", "estimate", "from", "to", "unit"], rows)
        out.append(Section(title, list(fit.sentences), [table]))
    return out


def device_section(found: Fit, device: Device) -> Section:
    """The device as text that makes it."""
    if not found.parameters:
        return Section("The device", ["`devices.lookup_device(path)` makes it from the same file."])
    text = "This text evaluates to the device (import devices)."
    return Section("The device", [f"`{device!r}`", text])


def parameters(found: Fit) -> Table:
    """Every parameter with its interval."""
    rows = []
    for name, p in found.parameters.items():
        rows.append([name, f"{p.value:.4g}", f"{p.low:.4g}", f"{p.high:.4g}", p.unit or "—"])
    return Table(["Parameter", "estimate", "from", "to", "unit"], rows)


def intervals(found: Fit) -> Section:
    """The same, with what the names mean."""
    return Section(
        "Parameters",
        [
            "95 % confidence intervals. `read` is in parts of the window g_max − g_min, "
            "`sigma_c2c` is noise of a pulse in parts of its step, `sigma_d2d` the spread of the "
            "step from cell to cell in parts of the mean; g_min and g_max without an interval "
            "are the range that the reads explored."
        ],
        [parameters(found)],
    )


def laws(found: Fit) -> Section:
    """The laws that were compared."""
    rows = []
    for c in found.candidates:
        error = f"{100 * c.error:.3g}" if math.isfinite(c.error) else "—"
        verdict = "; ".join(filter(None, ["as good as the best" if c.equivalent else "", c.reason]))
        rows.append([c.name, str(c.parameters), error, verdict])
    rows[0][3] = "; ".join(filter(None, ["chosen", found.candidates[0].reason]))
    how = (
        "Each curve predicts ramps that its fit did not see, from their start on."
        if found.candidates[0].held_out
        else "Fewer than three traces: no ramp can be held out, so the number of parameters is "
        "weighed against the error over all reads (BIC with the reads that correlation leaves)."
    )
    return Section(
        "Which law",
        [f"{how} Of the curves as good as the best, the one with the fewest numbers is taken."],
        [Table(["Law", "numbers", "error of ramps [% of the range]", ""], rows)],
    )


def split(found: Fit) -> list[Table]:
    """Every kind of noise with its interval."""
    if not found.noise:
        return []
    rows = []
    for name, p in found.noise.items():
        scale, unit = (1e6, "µS") if p.unit else (1.0, "of the step")
        value, low, high = (f"{scale * v:.3g}" for v in (p.value, p.low, p.high))
        told = math.isfinite(p.high)
        rows.append([name, *((value, low, high) if told else ("not told", "—", "—")), unit])
    return [Table(["Noise", "estimate", "from", "to", "unit"], rows)]


def pictures(seen: Both) -> list[Picture]:
    """Whole cycles and residuals."""
    blue, red, green, *_ = COLOURS
    first = seen.trace == seen.trace[0]
    last = seen.trace == seen.trace.max()
    curves = []
    for own, name in ((first, "first trace"), (last, "last trace")):
        x = seen.pulse[own].tolist()
        lines = [
            Line("measured", x, seen.measured[own].tolist(), colour=blue, marker=False),
            Line(
                "simulated",
                x,
                seen.mean[own].tolist(),
                seen.low[own].tolist(),
                seen.high[own].tolist(),
                red,
                True,
                False,
            ),
        ]
        curves.append(Panel(name, "pulses", "conductance [µS]", lines))
    if first.sum() == last.sum() == len(seen.trace):
        curves.pop()
    rest = []
    for title, x, label in (
        ("Residuals against conductance", seen.mean, "conductance [µS]"),
        ("Residuals against pulse number", seen.pulse, "pulses of the trace"),
    ):
        lines = []
        for way, word, colour in ((True, "up", green), (False, "down", COLOURS[3])):
            own = seen.up == way
            if own.any():
                at, mean, low, high = _binned(x[own], seen.residual[own])
                lines.append(Line(word, at, mean, low, high, colour))
        rest.append(Panel(title, label, "measured − simulated [% of the range]", lines))
    return [
        Picture(
            "fit",
            panels(curves),
            f"Whole traces, both directions. The device is given the same pulses from the same "
            f"first read: mean and central 90 % of what 100 cells read. Over all {len(seen.trace)} "
            f"reads shown the error is {seen.rmse():.2g} % of the range.",
        ),
        Picture(
            "residuals",
            panels(rest),
            "What the mean of the device leaves of the reads: mean and central 80 % in bins. A "
            "curve that follows the data scatters around 0.",
        ),
    ]


def _binned(x: np.ndarray, y: np.ndarray) -> tuple[list[float], ...]:
    order = np.argsort(x, kind="stable")
    rows = []
    for part in np.array_split(order, min(16, max(1, len(order) // 6))):
        own = y[part]
        rows.append((float(x[part].mean()), float(own.mean()), *np.quantile(own, [0.1, 0.9])))
    return tuple([float(v) for v in column] for column in zip(*rows, strict=True))


def checks(seen: Both) -> list[Check]:
    """Claims that the reads could prove wrong."""
    out = []
    for way, word in ((True, "potentiation"), (False, "depression")):
        own = seen.up == way
        if own.any():
            share = seen.inside(own)
            out.append(
                Check(
                    f"{word}: reads lie in the central 90 % of what the device reads",
                    "at least eight of ten",
                    f"{share:.0%}, error {seen.rmse(own):.2g} % of the range",
                    share >= 0.8,
                )
            )
    for k, word in ((0, "up"), (1, "down")):
        measured, drawn = seen.scatter["measured"][k], seen.scatter["simulated"][k]
        if math.isfinite(measured) and math.isfinite(drawn):
            ratio = drawn / measured if measured else math.inf
            out.append(
                Check(
                    f"scatter of a read about the mean of its neighbours, {word}",
                    "within a factor 1.5 of the measured one",
                    f"{measured:.3g} µS measured, {drawn:.3g} µS simulated",
                    1 / 1.5 <= ratio <= 1.5,
                )
            )
    return out
