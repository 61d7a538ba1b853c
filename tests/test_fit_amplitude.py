"""Amplitude and width of pulses: the law, and fits of it and of VTEAM to sweeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import devices
from devices import VTEAM, AmplitudeStep, ConstantStep, Device, PulseData, Pulses, SoftBounds

WINDOW = (5e-6, 50e-6)  # [S]
SPAN = WINDOW[1] - WINDOW[0]


def law(**fields) -> AmplitudeStep:
    return AmplitudeStep(SoftBounds(dg_min=1e-6, up_down=0.2), v0_up=0.25, v0_down=0.35, **fields)


def worth(v: float, ref: float, v0: float) -> float:
    """The source's s(v), of the reference's."""
    return math.expm1(abs(v) / v0) / math.expm1(ref / v0)


def driven(part: devices.Update, g: float, v: float, dt: float = 1e-6) -> float:
    device = Device(*WINDOW, update=part)
    state = device.fabricate((1,), dtype=torch.float64)
    state = state._replace(g=torch.tensor([g], dtype=torch.float64))
    return float(device.drive(state, torch.tensor([v], dtype=torch.float64), dt).g)


@pytest.mark.parametrize("v", [0.4, 1.0, 1.3, -0.7, -1.2])
@pytest.mark.parametrize("dt", [1e-6, 3e-6])
def test_a_pulse_is_worth_so_many_of_the_reference(v: float, dt: float) -> None:
    # oracle: soft bounds leave (1 − b)^n of the way to their bound, n the source's ratio, and a
    # part of a pulse does that part of its step
    n = worth(v, 1.0, 0.25 if v > 0 else 0.35) * (dt / 1e-6) ** 0.5
    step, end = (1.1e-6, WINDOW[1]) if v > 0 else (0.9e-6, WINDOW[0])
    b = step / (SPAN / 2)
    want = end - (end - 20e-6) * (1 - b) ** int(n) * (1 - b * (n - int(n)))
    assert driven(law(kappa=0.5), 20e-6, v, dt) == pytest.approx(want, rel=1e-9)


def test_no_voltage_no_move_and_the_reference_is_the_law_itself() -> None:
    assert driven(law(), 20e-6, 0.0) == 20e-6
    device = Device(*WINDOW, update=law().law)
    one = torch.ones(1).double()
    state = device.fabricate((1,), dtype=torch.float64)._replace(g=20e-6 * one)
    assert driven(law(), 20e-6, 1.0) == pytest.approx(
        float(device.pulse(state, Pulses(one, 0 * one)).g), rel=1e-9
    )
    # a half-selected cell, behind wires or not: the ratio of what the voltages are worth
    up, down = law().partial(None, torch.tensor([0.5], dtype=torch.float64))
    assert float(up) == pytest.approx(worth(0.5, 1.0, 0.25))
    assert float(down) == pytest.approx(worth(0.5, 1.0, 0.35))


def test_rising_amplitudes_make_saturating_steps_alike() -> None:
    # incremental programming: v so that what a pulse is worth grows as the step shrinks
    device = Device(*WINDOW, update=AmplitudeStep(SoftBounds(dg_min=0.2e-6), v0_up=0.25))
    state = device.fabricate((1,), dtype=torch.float64)
    reads = [float(state.g)]
    for k in range(60):
        target = reads[0] + (k + 1) * SPAN / 75  # the next of equal steps
        left, b = (WINDOW[1] - target) / (WINDOW[1] - reads[-1]), 0.4e-6 / SPAN
        whole = int(math.log(left) / math.log(1 - b))
        n = whole + (1 - left / (1 - b) ** whole) / b
        v = 0.25 * math.log1p(n * math.expm1(1 / 0.25))
        state = device.drive(state, torch.tensor([v], dtype=torch.float64), 1e-6)
        reads.append(float(state.g))
    np.testing.assert_allclose(np.diff(reads), SPAN / 75, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"v_set": 0.0}, "v_set"),
        ({"v_reset": 0.5}, "v_reset"),
        ({"v0_up": -1.0}, "v0_up"),
        ({"kappa": -0.1}, "kappa"),
        ({"law": devices.AbruptReset(SoftBounds(dg_min=1e-6))}, "whole"),
    ],
)
def test_what_cannot_be_is_refused(fields, words) -> None:
    with pytest.raises(ValueError, match=words):
        AmplitudeStep(**({"law": SoftBounds(dg_min=1e-6)} | fields))


def sweep(part, kind: str, *, seed: int = 0, read: float = 0.004) -> PulseData:
    """Five cycles: a level of amplitude each, or the same rising amplitudes, or widths too."""
    device = Device(*WINDOW, update=part)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    state = device.fabricate((1,), dtype=torch.float64, generator=generator)
    rows = []
    for cycle in range(5):
        state = state._replace(g=torch.full((1,), WINDOW[0] + 0.1 * SPAN, dtype=torch.float64))
        for k in range(61):
            up = k <= 30
            v = 0.8 + 0.1 * cycle if kind != "rising" else 0.7 + 0.02 * ((k - 1) % 30)
            t = 1e-6 * (0.5 + 0.5 * cycle) if kind == "widths" else 1e-6
            if k:
                given = torch.full((1,), v if up else -v, dtype=torch.float64)
                state = device.drive(state, given, t, generator=generator)
            way, v = (0, math.nan) if k == 0 else (1 if up else -1, v)
            rows.append((cycle, k, way, float(state.g) + read * SPAN * rng.standard_normal(), v, t))
    cycle, pulse, way, g, v, t = (torch.tensor(column) for column in zip(*rows, strict=True))
    return PulseData(("A",) * len(g), cycle, pulse, way, g.double(), (), v.double(), t.double())


@pytest.mark.parametrize("kind", ["levels", "rising", "widths"])
def test_a_step_that_depends_on_the_amplitude_is_found(kind: str) -> None:
    fields = {"kappa": 0.6} if kind == "widths" else {}
    found = devices.fit(sweep(law(**fields), kind), families=[AmplitudeStep])
    update = found.device.update
    assert type(update) is AmplitudeStep and type(update.law) is SoftBounds
    assert found.rmse < 0.008  # the read noise, of the range of the reads
    for name, want in {"v0_up": 0.25, "v0_down": 0.35, **fields}.items():
        assert found.parameters[name].covers(want), (name, found.parameters[name])
        assert found.parameters[name].value == pytest.approx(want, rel=0.15)
    # ten pulses of an amplitude of its own
    want, got = 20e-6, 20e-6
    for _ in range(10):
        want, got = driven(law(**fields), want, 0.95), driven(update, got, 0.95)
    assert got == pytest.approx(want, abs=0.01 * SPAN)


@pytest.mark.parametrize("kind", ["levels", "rising"])
def test_vteam_is_found_from_a_sweep_of_amplitudes(kind: str) -> None:
    true = VTEAM(k_on=4e4, k_off=4e4, alpha_on=2.0, alpha_off=3.0, width=1e-6)
    found = devices.fit(sweep(true, kind), families=[VTEAM])
    assert type(found.device.update) is VTEAM
    for name in ("k_on", "k_off", "v_on", "v_off", "alpha_on", "alpha_off"):
        assert found.parameters[name].covers(getattr(true, name)), (name, found.parameters[name])
    # pulses of one amplitude: rate, threshold and exponent make up for one another
    want, got = 20e-6, 20e-6
    for _ in range(5):
        want, got = driven(true, want, 0.95), driven(found.device.update, got, 0.95)
    assert got == pytest.approx(want, abs=0.02 * SPAN)
    assert found.device.g_min == pytest.approx(WINDOW[0], rel=0.03)
    assert found.rmse < 0.006


def test_amplitudes_that_vary_are_said_with_what_to_do(tmp_path) -> None:
    path = tmp_path / "sweep.csv"
    data = sweep(law(), "levels")
    data.write_csv(path)
    with pytest.raises(ValueError, match=r"amplitude varies.*--amplitude 0.8.*--law AmplitudeStep"):
        devices.fit(path)
    with pytest.raises(ValueError, match="amplitude varies"):
        devices.lookup_device(path)
    again = PulseData.read_csv(path)
    assert again.amplitude is not None and again.width is not None
    assert float((again.amplitude - data.amplitude).nan_to_num().abs().max()) < 1e-6
    one = PulseData.read_csv(path, amplitude=1.0)
    assert not one.varies
    fitted = devices.fit(one)
    assert fitted.parameters["dg_min"].value == pytest.approx(1e-6, rel=0.05)
    assert any("1 V alone used" in note for note in fitted.notes)


def test_laws_of_amplitudes_need_amplitudes() -> None:
    plain = PulseData.measured(Device(*WINDOW, update=law().law), cells=1, cycles=1, pulses=20)
    with pytest.raises(ValueError, match="no column says it"):
        devices.fit(plain, families=[AmplitudeStep])
    same = PulseData(*(getattr(plain, f) for f in ("cell", "cycle", "pulse", "polarity", "g")))
    flat = torch.ones_like(same.g)
    held = PulseData(same.cell, same.cycle, same.pulse, same.polarity, same.g, (), flat, flat)
    with pytest.raises(ValueError, match="same amplitude and width"):
        devices.fit(held, families=[VTEAM])
    with pytest.raises(ValueError, match="fit them apart"):
        devices.fit(sweep(law(), "levels"), families=[VTEAM, ConstantStep])
