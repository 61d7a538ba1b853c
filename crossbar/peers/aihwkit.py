"""aihwkit's settings as a chip and a mode of ours.

Objects are read by the names of their classes and fields (those of aihwkit 1.2); nothing of aihwkit
is imported.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, NamedTuple

from crossbar.chip import Chip
from crossbar.clipping import Clip
from crossbar.drift import ColumnCompensation, Compensation, TileCompensation
from crossbar.mappings import (
    Arbitrated,
    Devices,
    Differential,
    Mapping,
    OffsetColumn,
    OneSided,
    Reference,
)
from crossbar.modes import HardwareAware, InSitu, Mode
from crossbar.peers.cells import SPAN, cell
from crossbar.peers.given import Given
from crossbar.peers.periphery import clipping, modifiers, periphery, scheme
from crossbar.peers.rules import COMPOUNDS
from crossbar.rules import MixedPrecision
from devices import Device, presets

WITHOUT_LIMIT = 1 << 20
"""Lines of a tile where aihwkit has no limit."""


class Counterpart(NamedTuple):
    """What `from_aihwkit` found.

    `xb.convert(model, found.chip, mode=found.mode)` is the model; `clip.after(optimizer, model)`
    and `compensation` are to be used where they are not None.
    """

    chip: Chip
    mode: Mode
    clip: Clip | None
    compensation: Compensation | None
    left: tuple[str, ...]  # settings without a counterpart


def from_aihwkit(rpu_config: Any) -> Counterpart:
    """The chip and mode that aihwkit's configuration describes.

    Args:
        rpu_config: a SingleRPUConfig, UnitCellRPUConfig, DigitalRankUpdateRPUConfig or
            InferenceRPUConfig (its torch twin too), presets included.

    Returns:
        See `Counterpart`. Settings that have no counterpart and do something are listed in `left`
        and said in one warning: a chip without them is what you get.

    Raises:
        TypeError: a configuration, device, compound or noise model that has none at all, by name.
        ValueError: a field whose value has none and without which nothing would be alike.
    """
    left: list[str] = []
    config = Given(rpu_config, "", left)
    makers = {
        "SingleRPUConfig": _single,
        "UnitCellRPUConfig": _unit_cell,
        "DigitalRankUpdateRPUConfig": _mixed,
        "InferenceRPUConfig": _inference,
        "TorchInferenceRPUConfig": _inference,
    }
    chip, mode, clip, compensation = config.among(makers)(config)
    if left:
        warnings.warn(
            f"{config.kind}: {len(left)} settings have no counterpart and are left out: "
            + "; ".join(left),
            stacklevel=2,
        )
    return Counterpart(chip, mode, clip, compensation, tuple(left))


Made = tuple[Chip, Mode, Clip | None, Compensation | None]


def _single(config: Given) -> Made:
    chip, headroom = _chip(config, _array(config.part("device")))
    return chip, InSitu(scheme(config.part("update")), headroom=headroom), None, None


def _unit_cell(config: Given) -> Made:
    unit = config.part("device")
    if not {"OneSidedUnitCell", "VectorUnitCell"}.isdisjoint(unit.kinds):
        return _single(config)
    inner = unit.parts("unit_cell_devices")
    if unit.kind not in COMPOUNDS or len(inner) != 2:
        raise TypeError(
            f"{unit.kind} of {len(inner)} devices has no counterpart; those that do, of two "
            f"devices: {', '.join(COMPOUNDS)}"
        )
    fast, slow = (_array(device) for device in inner)
    chip, headroom = _chip(config, slow)
    read = periphery(unit.part("transfer_forward"), fast.per_weight)
    array = Chip(fast.device, fast.mapping, read)
    update = config.part("update")
    rule = COMPOUNDS[unit.kind](unit, array, scheme(update), scheme(unit.part("transfer_update")))
    unit.rest()
    return chip, InSitu(rule=rule, headroom=headroom), None, None


def _mixed(config: Given) -> Made:
    compound = config.part("device")
    if compound.kind != "MixedPrecisionCompound":
        raise TypeError(f"{compound.kind} has no counterpart; MixedPrecisionCompound has")
    chip, headroom = _chip(config, _array(compound.part("device")))
    bl = int(config.part("update")("desired_bl", 31))
    rule = MixedPrecision(every=int(compound("transfer_every", 1)), bl=bl)
    compound("transfer_lr")
    compound.rest()
    return chip, InSitu(rule=rule, headroom=headroom), None, None


def _inference(config: Given) -> Made:
    model = config.part("noise_model")
    cells = {
        "PCMLikeNoiseModel": presets.pcm,
        "ReRamWan2022NoiseModel": presets.rram_wan,
        "ReRamCMONoiseModel": presets.cmo_hfox,
        "HermesNoiseModel": presets.hermes_1 if model("num_devices", 2) == 1 else presets.hermes_2,
    }
    if model.kind not in cells:  # those that derive from one have other physics
        raise TypeError(f"{model.kind} has no counterpart; those that do: {', '.join(cells)}")
    device = cells[model.kind]()
    ours = {"prog_noise_scale": 1.0, "read_noise_scale": 1.0, "drift_scale": 1.0}
    ours["g_max"] = device.window.g_max * 1e6
    if model.kind == "PCMLikeNoiseModel":
        ours |= {"t_0": 20.0, "t_read": 250e-9}
    for name, value in ours.items():
        if not math.isclose(model(name, value), value, rel_tol=1e-6):
            model.say(name, f", {value:g} is taken")
    chip = _pairs(config, device)
    drift = getattr(config.thing, "drift_compensation", None)
    compensation: dict[str, Compensation] = {
        "GlobalDriftCompensation": TileCompensation(),
        "GlobalDriftCompensationWithExactReference": TileCompensation(),
        "PerColumnDriftCompensation": ColumnCompensation(),
    }
    if drift is not None and type(drift).__name__ not in compensation:
        config.say("drift_compensation")
    mode = HardwareAware(modifiers=modifiers(config.part("modifier")))
    return chip, mode, clipping(config.part("clip")), compensation.get(type(drift).__name__)


def _tile(scaling: Given) -> tuple[int, int]:
    lines = [int(scaling(f"max_{end}_size", 512)) or WITHOUT_LIMIT for end in ("input", "output")]
    scaling.rest()
    return lines[0], lines[1]


class Array(NamedTuple):
    """Cells of a weight."""

    device: Device
    mapping: Mapping
    top: float  # largest weight
    per_weight: float  # [S] of a weight of 1 at the converter


def _array(unit: Given) -> Array:
    """One cell a weight, several that add up, or a pair of which each is only set."""
    if "OneSidedUnitCell" in unit.kinds:
        inner = unit.parts("unit_cell_devices")[0]
        if inner.kind != "PCMPresetDevice":
            raise TypeError(
                f"{unit.kind} of {inner.kind} has no counterpart; of PCMPresetDevice it has"
            )
        every, pcm = int(unit("refresh_every")), presets.pcm_onesided()
        route = OneSided(every or None, unit("refresh_upper_thres"), unit("refresh_lower_thres"))
        unit("units_in_mbatch")
        unit.rest()
        top = float(inner("w_max"))
        return Array(pcm, Differential(route, w_max=top), top, pcm.window.span / top)
    if "VectorUnitCell" not in unit.kinds:
        device, top = cell(unit)
        return Array(device, OffsetColumn(w_max=top), top, SPAN / (2 * top))
    inside = unit.parts("unit_cell_devices")
    device, top = cell(inside[0])
    deals = {"ALL": Devices, "SINGLE_SEQUENTIAL": Arbitrated, "SINGLE_RANDOM": Arbitrated}
    policy = unit("update_policy")
    if policy not in deals or len({repr(one.thing) for one in inside}) > 1:
        raise TypeError(
            f"{unit.kind} with update_policy {policy} has no counterpart; of equal devices "
            f"{', '.join(deals)} do"
        )
    if policy == "SINGLE_RANDOM":
        unit.say("update_policy", ", devices are pulsed in turn")
    unit.rest()
    whole = len(inside) * top
    mapping = deals[policy](Reference(), count=len(inside), w_max=whole)
    return Array(device, mapping, whole, SPAN / (2 * top))


def _chip(config: Given, array: Array) -> tuple[Chip, float]:
    """The chip, and the headroom of weights that are scaled to a part of the window."""
    scaling = config.part("mapping")
    omega, by_column = scaling("weight_scaling_omega"), scaling("weight_scaling_columnwise")
    mapping = array.mapping
    if omega:
        mapping = replace(mapping, w_max=None, per_column=bool(by_column))
    ports = [
        periphery(config.part(way), array.per_weight, back=way == "backward")
        for way in ("forward", "backward")
    ]
    chip = Chip(array.device, mapping, ports[0], ports[1], tile=_tile(scaling))
    return chip, max(array.top / omega, 1.0) if omega else 1.0


def _pairs(config: Given, device: Device) -> Chip:
    """Pairs of which one cell rests; the largest weight of a tensor or column fills the window."""
    scaling = config.part("mapping")
    omega, by_column = scaling("weight_scaling_omega"), scaling("weight_scaling_columnwise")
    mapping = Differential(OneSided(None), per_column=bool(by_column))
    if not omega:
        config.left.append("mapping.weight_scaling_omega=0, the ADC's range is that of 1")
    per_weight = device.window.span / (omega or 1.0)
    return Chip(device, mapping, periphery(config.part("forward"), per_weight), tile=_tile(scaling))
