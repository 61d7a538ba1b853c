"""aihwkit's periphery, trains and changes of weights as ours."""

from __future__ import annotations

import math
from collections.abc import Callable

from crossbar.clipping import Clip
from crossbar.converters import ADC, DAC
from crossbar.modifiers import (
    AdditiveNoise,
    DropConnect,
    Modifier,
    MultiplicativeNoise,
    PolynomialNoise,
)
from crossbar.peers.given import Given
from crossbar.port import Periphery
from crossbar.pulses import ExactBits, Expected, Scheme
from crossbar.ranges import Fixed, Managed, PerVector, Range


def _bits(io: Given, name: str) -> int | None:
    """Of a resolution, which is a part of the range or a number of steps; <= 0: none."""
    res = float(io(name))
    if res <= 0:
        return None
    steps = round(res if res > 1 else 1 / res)
    bits = math.log2(steps + 2)
    if not bits.is_integer():
        io.say(name, f", {steps} steps are taken for {round(bits)} bits")
    return max(round(bits), 1)


def _halvings(io: Given) -> int:
    """How often aihwkit halves inputs at most: past max_bm_factor, or max_bm_res of its levels."""
    limit, res = float(io("max_bm_factor", 1000)), float(io("inp_res"))
    part = float(io("max_bm_res", 0.25))
    if res > 0:
        steps = res if res > 1 else 1 / res  # of a range of two bounds
        limit = min(limit, part * steps / (2 * float(io("inp_bound"))))
    return min(math.floor(math.log2(limit)) + 1, 20) if limit >= 1 else 0


def periphery(io: Given, per_weight: float, *, back: bool = False) -> Periphery:
    """Converters, of cells that a weight of 1 moves by `per_weight` [S].

    `back`: of backward reads, whose bounds aihwkit does not manage.
    """
    if io("is_perfect"):
        return Periphery()
    bits, scale = _bits(io, "inp_res"), io("noise_management")
    bound = float(io("inp_bound"))
    fixed = {"NONE": bound, "CONSTANT": bound * (float(io("nm_thres")) or 1.0)}
    if scale != "ABS_MAX" and scale not in fixed:
        raise ValueError(f"{io.where}noise_management={scale} has no counterpart; use ABS_MAX")
    if scale == "ABS_MAX" and bound != 1.0:
        io.say("inp_bound", ", 1 is taken")
    inputs = 1.0 if scale == "ABS_MAX" else fixed[scale]
    spread: Range = PerVector() if scale == "ABS_MAX" else Fixed(inputs)
    passes = io("mv_type", "ONE_PASS")
    if passes not in ("ONE_PASS", "POS_NEG_SEPARATE_DIGITAL_SUM"):
        io.say("mv_type")
    signs = passes == "POS_NEG_SEPARATE_DIGITAL_SUM"
    dac = DAC(bits, range=spread, noise=float(io("inp_noise")), passes=signs)
    limit, managed = float(io("out_bound")), io("bound_management")
    full = limit * dac.v_max / inputs * per_weight if limit > 0 else None
    if managed not in ("NONE", "ITERATIVE") and not back:
        io.say("bound_management", ", ITERATIVE is taken")
    halvings = 0 if managed == "NONE" or back else _halvings(io)
    across: Range = Fixed(full)
    if full is not None and halvings:
        across = Managed(full, halvings, inputs=True)
    noise = float(io("out_noise")) / limit if limit > 0 else 0.0
    adc = ADC(_bits(io, "out_res"), range=across, noise=noise)
    if float(io("w_noise")) and io("w_noise_type") != "NONE":
        io.say("w_noise")
    io("w_noise_type")
    io.rest()
    return Periphery(dac, adc)


def scheme(update: Given) -> Scheme:
    """How trains are made."""
    kind, bl = update("pulse_type"), int(update("desired_bl", 31))
    managed = bool(update("update_management")), bool(update("update_bl_management"))
    if kind not in ("STOCHASTIC", "STOCHASTIC_COMPRESSED", "MEAN_COUNT"):
        raise ValueError(f"{update.where}pulse_type={kind} has no counterpart; those that do: "
                         "STOCHASTIC_COMPRESSED, STOCHASTIC, MEAN_COUNT")  # fmt: skip
    update.rest()
    if kind == "MEAN_COUNT":
        return Expected()
    return ExactBits(bl, update_management=managed[0] or managed[1], bl_management=managed[1])


def modifiers(modifier: Given) -> tuple[Modifier, ...]:
    """What hardware-aware training does to weights."""
    kind, size = modifier("type", "NONE"), float(modifier("std_dev"))
    p = float(modifier("pdrop"))
    made: dict[str, Callable[[], Modifier]] = {
        "ADD_NORMAL": lambda: AdditiveNoise(size),
        "MULT_NORMAL": lambda: MultiplicativeNoise(size),
        "POLY": lambda: PolynomialNoise(tuple(modifier("coeffs")), size),
    }
    if kind not in (*made, "NONE", "COPY", "DROP_CONNECT"):
        modifier.say("type")
    modifier.used |= {"coeffs", "per_batch_sample"}
    modifier.rest()
    found = [made[kind]()] if kind in made and size else []
    return (*found, DropConnect(p)) if p else tuple(found)


def clipping(clip: Given) -> Clip | None:
    """What is done to them after a step."""
    kind = clip("type", "NONE")
    if kind == "FIXED_VALUE" and clip("fixed_value") > 0:
        return Clip(limit=clip("fixed_value"))
    if kind == "LAYER_GAUSSIAN":
        return Clip(sigmas=clip("sigma"))
    if kind != "NONE":
        clip.say("type")
    return None
