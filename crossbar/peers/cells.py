"""aihwkit's pulsed devices as cells: a weight is one cell of which w = 0 is mid-window."""

from __future__ import annotations

from typing import Any

from crossbar.peers.given import Given
from devices import Device, StuckAt, Update
from devices.read.apparent import ApparentWriteNoise
from devices.update.exp_step import ExpStep
from devices.update.pow_step import PowStep
from devices.update.soft_reference import SoftBoundsReference
from devices.update.stepped import ConstantStep, LinearStep

LOW, SPAN = 1e-6, 98e-6
"""Bottom and width of the window [S]; no result depends on them."""


def cell(device: Given) -> tuple[Device, float]:
    """A cell, and the weight of half its window."""
    laws = {
        "ConstantStepDevice": _constant,
        "LinearStepDevice": _linear,
        "SoftBoundsDevice": _soft,
        "SoftBoundsReferenceDevice": _soft,
        "ExpStepDevice": _exponential,
        "PowStepDevice": _power,
    }
    law, top = device.among(laws)(device)
    noise, stuck = float(device("write_noise_std")), float(device("corrupt_devices_prob"))
    read = ApparentWriteNoise(noise * device("dw_min") / (2 * top)) if noise else None
    faults = StuckAt(p_any=stuck) if stuck else None
    drift = getattr(device.thing, "drift", None)
    device.used.add("drift")
    if any(getattr(drift, name, 0) for name in ("nu", "nu_dtod", "nu_std", "nu_k", "w_noise_std")):
        device.say("drift")
    device.rest()
    return Device(LOW, LOW + SPAN, law, read=read, faults=faults), top


def _ends(device: Given) -> tuple[float, float]:
    """Centre and half of the range of weights."""
    low, high = float(device("w_min")), float(device("w_max"))
    if not low < 0 < high:
        raise ValueError(f"{device.where}w_min, w_max = {low}, {high} must lie on both sides of 0")
    return (low + high) / 2, (high - low) / 2


def _symmetric(device: Given) -> float:
    """Half of a window about w = 0 that holds both bounds."""
    centre, half = _ends(device)
    if centre:
        device.left.append(
            f"{device.where}w_min={device('w_min')}, w_max={device('w_max')}: both are taken to be "
            f"{half + abs(centre):g} away from 0"
        )
    return half + abs(centre)


def _steps(device: Given, top: float, up: float = 1.0, down: float = 1.0) -> dict[str, Any]:
    """Fields of a `NominalStep`; `up` and `down` are what bounds make of the steps at mid-window.

    aihwkit's code shrinks one of the steps by up_down, contrary to its text.
    """
    tilt, low, high = float(device("up_down")), float(device("w_min")), float(device("w_max"))
    up, down = up * (1 + min(tilt, 0.0)), down * (1 - max(tilt, 0.0))
    mean = (up + down) / 2
    return {
        "dg_min": device("dw_min") * mean / (2 * top) * SPAN,
        "up_down": (up - down) / mean,
        "sigma_d2d": device("dw_min_dtod") if not device("dw_min_dtod_log_normal", False) else 0.0,
        "sigma_up_down": device("up_down_dtod") / mean,
        "sigma_bounds": (device("w_min_dtod") * -low / top, device("w_max_dtod") * high / top),
        "sigma_c2c" if device("mult_noise", True) else "sigma_add": device("dw_min_std")
        / (1.0 if device("mult_noise", True) else mean),
    }


def _log_normal(device: Given) -> None:
    if device("dw_min_dtod_log_normal", False):
        device.say("dw_min_dtod_log_normal", ", steps are not spread")


def _constant(device: Given) -> tuple[Update, float]:
    top = _symmetric(device)
    _log_normal(device)
    return ConstantStep(**_steps(device, top)), top


def _linear(device: Given) -> tuple[Update, float]:
    top, low, high = _symmetric(device), float(device("w_min")), float(device("w_max"))
    _log_normal(device)
    gamma = {
        "gamma_up": device("gamma_up") * top / high,
        "gamma_down": device("gamma_down") * top / -low,
    }
    for name, slope in gamma.items():
        if slope > 1:  # steps that would vanish inside the window
            device.say(name, ", 1 at the farther bound is taken")
            gamma[name] = 1.0
    spread = max(device("gamma_up_dtod"), device("gamma_down_dtod"))
    return LinearStep(**_steps(device, top), **gamma, sigma_gamma=spread), top


def _soft(device: Given) -> tuple[Update, float]:
    """Soft bounds wherever they lie: weight zero is the place of the reference."""
    centre, half = _ends(device)
    low, high = float(device("w_min")), float(device("w_max"))
    steps = _steps(device, half, 1 - centre / high, 1 - centre / low)
    log = device("dw_min_dtod") if device("dw_min_dtod_log_normal", False) else 0.0
    subtract = bool(device("subtract_symmetry_point", False))
    shift = float(device("reference_mean", 0.0))
    return (
        SoftBoundsReference(
            **steps,
            sigma_log=log,
            reference=(shift if subtract else shift - centre) / half,
            sigma_reference=device("reference_std", 0.0) / half,
            subtract=subtract,
        ),
        half,
    )


def _exponential(device: Given) -> tuple[Update, float]:
    top = _symmetric(device)
    _log_normal(device)
    names = ("A_up", "A_down", "gamma_up", "gamma_down", "a", "b")
    std, add, slope = device("dw_min_std"), device("dw_min_std_add"), device("dw_min_std_slope")
    steps = _steps(device, top)
    steps["sigma_add"] = std * add / device("dw_min")
    law = ExpStep(**steps, sigma_state=std * slope, **{name: device(name) for name in names})
    if slope:
        device.say("dw_min_std_slope", ", counted from the lower bound")
    return law, top


def _power(device: Given) -> tuple[Update, float]:
    top, gamma, tilt = _symmetric(device), float(device("pow_gamma")), float(device("pow_up_down"))
    _log_normal(device)
    size = 2**-gamma  # of the step at w = 0, in the middle of the bounds
    if tilt or device("pow_up_down_dtod"):
        device.say("pow_up_down")
    steps = _steps(device, top, size, size)
    return PowStep(
        **steps, gamma_up=gamma, gamma_down=gamma, sigma_gamma=device("pow_gamma_dtod")
    ), top
