"""The shape of current–voltage curves from sweeps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares
from scipy.stats import t

from devices.fitting.parts import PartFit, deviations, table
from devices.fitting.result import Parameter
from devices.fitting.traces import Array
from devices.iv.cubic import CubicIV
from devices.iv.sinh import SinhIV
from devices.part import Part

OPEN = 0.1
"""Part by which the legs of a sweep may differ in the median."""


def fit_iv(v: ArrayLike, i: ArrayLike, *, law: str | None = None) -> PartFit:
    """The shape of current–voltage curves, `SinhIV` or `CubicIV`.

    Every sweep has its own conductance; the shape is common. Currents are weighted alike relative
    to their sweep's largest. Points without a current are left out.

    Args:
        v: voltages [V], (points,) or (sweeps, points).
        i: currents [A] at these voltages, (sweeps, points) or (points,).
        law: "SinhIV" or "CubicIV"; None: the better one, by n log(error²) + p log n.

    Raises:
        ValueError: shapes that do not match, fewer than four points, currents that fall with the
            voltage so that no law holds them, or a sweep that returns on another curve: its cell
            switched.
    """
    y = table("i", i)
    x = np.broadcast_to(np.asarray(v, dtype=np.float64), y.shape)
    whole = (np.isfinite(x) & np.isfinite(y)).all(0)
    x, y = x[:, whole], y[:, whole]
    if y.shape[1] < 4:
        raise ValueError(f"i must have at least four points a sweep, got {y.shape[1]}")
    if law not in (None, "SinhIV", "CubicIV"):
        raise ValueError(f"law must be SinhIV or CubicIV, got {law!r}")
    unit = np.abs(y).max(1, keepdims=True)
    if not (unit > 0).all():
        raise ValueError("i has a sweep of zeros")
    for volts, currents in zip(x, y, strict=True):
        _one_curve(volts, currents)
    y = y / unit

    def apart(shape: Callable[[Array], Array]) -> Callable[[Array], Array]:
        def residual(p: Array) -> Array:
            own = shape(p)
            g = (own * y).sum(1) / (own * own).sum(1)
            return (g[:, None] * own - y).ravel()

        return residual

    top = float(np.abs(x).max())
    sinh = least_squares(
        apart(lambda p: np.exp(p[0]) * np.sinh(np.clip(x / np.exp(p[0]), -80, 80))),
        [np.log(top / 2)],
        bounds=([np.log(top / 60)], [np.log(top * 100)]),
    )
    cubic = least_squares(apart(lambda p: x * (1 + x * (p[0] + p[1] * x))), [0.0, 0.1 / top**2])
    reach = float(t.ppf(0.975, max(y.size - len(y) - 2, 1)))
    found: dict[str, tuple[Part, dict[str, Parameter], Array]] = {}
    v0, error = float(np.exp(sinh.x[0])), deviations(sinh.jac, sinh.fun, len(y))[0]
    ends = (v0 * float(np.exp(-reach * error)), v0 * float(np.exp(reach * error)))
    found["SinhIV"] = SinhIV(v0), {"v0": Parameter(v0, *ends, "V")}, sinh.fun
    a, b = (float(p) for p in cubic.x)
    errors = deviations(cubic.jac, cubic.fun, len(y))
    said = []
    if b > a * a / 3:
        pair = {
            name: Parameter(p, p - reach * e, p + reach * e, u)
            for name, p, e, u in zip("ab", (a, b), errors, ("1/V", "1/V²"), strict=True)
        }
        found["CubicIV"] = CubicIV(a, b), pair, cubic.fun
    else:
        said.append(f"CubicIV: a={a:.3g}, b={b:.3g} would make the current fall with the voltage")
    if law is not None and law not in found:
        raise ValueError(said[0])
    n = y.size
    score = {
        name: n * float(np.log(np.mean(fun**2) + 1e-30)) + len(p) * float(np.log(n))
        for name, (_, p, fun) in found.items()
    }
    best = law or min(score, key=lambda name: score[name])
    part, parameters, fun = found[best]
    said += [f"{name}: error {np.sqrt(np.mean(f[2] ** 2)):.2%}" for name, f in found.items()]
    rms = float(np.sqrt(np.mean(y**2)))
    return PartFit(part, parameters, float(np.sqrt(np.mean(fun**2))) / rms, tuple(said))


def _one_curve(v: Array, i: Array) -> None:
    """Refuse a sweep whose legs, between the turns of the voltage, are several curves."""
    moves = np.sign(np.diff(v))
    turns = [k + 1 for k in range(len(moves) - 1) if moves[k] * moves[k + 1] < 0]
    ends = [0, *turns, len(v) - 1]
    # up to the turn and back: legs that end and begin there
    for first, turn, last in zip(ends, ends[1:], ends[2:], strict=False):
        there, back = np.argsort(v[first : turn + 1]), np.argsort(v[turn : last + 1])
        ahead, behind = v[first : turn + 1][there], v[turn : last + 1][back]
        shared = ahead[(ahead >= behind[0]) & (ahead <= behind[-1])]
        if len(shared) < 4:
            continue
        one = np.interp(shared, ahead, i[first : turn + 1][there])
        other = np.interp(shared, behind, i[turn : last + 1][back])
        size = (np.abs(one) + np.abs(other)) / 2
        large = size > 0.01 * np.abs(i).max()
        if large.sum() < 4:
            continue
        open_by = float(np.median(np.abs(one - other)[large] / size[large]))
        if open_by > OPEN:
            raise ValueError(
                f"a sweep comes back from {v[turn]:g} V on another curve (currents differ by "
                f"{open_by:.0%} in the median): the cell switched. Give sweeps below its "
                "threshold, or one leg of them"
            )
