"""Fits of measured pulses: curves against SciPy and the truth, refusals, the device returned."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

import devices
from devices import (
    AbruptReset,
    ConstantStep,
    Device,
    ExpStep,
    GaussianRead,
    LinearStep,
    LookupStep,
    NeuroSim,
    PiecewiseStep,
    PowStep,
    PulseData,
    Pulses,
    QuerliozStep,
    SoftBounds,
    StochasticSwitch,
    Unidentified,
    Update,
)
from devices.fitting.families import OF_LAW
from devices.fitting.shooting import Curve
from devices.fitting.traces import traces_of

WINDOW = {"g_min": 10e-6, "g_max": 60e-6}  # [S]
READ = 0.005
ONE = torch.ones(300, dtype=torch.float64)

LAWS: tuple[Update, ...] = (
    ConstantStep(dg_min=0.8e-6, up_down=0.1),
    LinearStep(dg_min=0.8e-6, up_down=0.2, gamma_up=0.4, gamma_down=0.6),
    SoftBounds(dg_min=1e-6, up_down=0.2),
    PowStep(dg_min=1e-6, up_down=0.2, gamma_up=1.5, gamma_down=2.0),
    QuerliozStep(dg_min=2e-6, up_down=0.2, beta_up=2.0, beta_down=3.0),
    ExpStep(dg_min=1e-6, up_down=0.2, A_up=0.02, gamma_up=8.0, A_down=0.4, gamma_down=8.0),
    NeuroSim(states_up=64, states_down=50, nl_up=2.0, nl_down=-3.0),
    PiecewiseStep(dg_min=1e-6, up=(1.5, 1.5, 0.5, 0.3), down=(0.2, 0.6, 1.4, 1.2)),
)
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)


def measured(law, seed=0, *, cells=1, cycles=1, pulses=50, read=READ, start=None) -> PulseData:
    device = Device(**WINDOW, update=law, read=GaussianRead(read) if read else None)
    generator = torch.Generator().manual_seed(seed)
    return PulseData.measured(
        device, cells=cells, cycles=cycles, pulses=pulses, generator=generator
    )


def truth(data: PulseData, law: Update) -> np.ndarray:
    """The noiseless curve of one cell."""
    quiet = Device(**WINDOW, update=law)
    return followed(quiet, data, quiet.g_min)


def followed(device: Device, data: PulseData, start: float) -> np.ndarray:
    """Mean conductance of many cells given the pulses of a file's first cycle."""
    state = device.fabricate((300,), generator=torch.Generator().manual_seed(0), dtype=ONE.dtype)
    state, out = state._replace(g=start * ONE), [start]
    first = (data.cycle == data.cycle[0]) & torch.tensor([c == data.cell[0] for c in data.cell])
    pulse, sign = data.pulse[first].tolist(), data.polarity[first].tolist()
    for k in range(1, len(pulse)):
        n = float(pulse[k] - pulse[k - 1])
        given = Pulses(n * ONE, 0 * ONE) if sign[k] > 0 else Pulses(0 * ONE, n * ONE)
        state = device.pulse(state, given, generator=torch.Generator().manual_seed(k))
        out.append(float(state.g.mean()))
    return np.array(out)


@each_law
def test_one_ramp_gives_a_device_with_its_curve(law: Update) -> None:
    # the commonest file: one cell, one ramp up and down, every option at its default
    data = measured(law, seed=3)
    found = devices.fit(data)
    want = truth(data, law)
    error = followed(found.device, data, want[0]) - want
    assert np.sqrt(np.mean(error**2)) < 0.004 * np.ptp(want), found.candidates[0]
    assert len(found.candidates) >= 6  # every curve took part
    assert any("one cell" in words for words in found.sentences)
    for spread in ("sigma_d2d", "sigma_up_down"):
        assert getattr(found.device.update, spread, 0.0) == 0


@each_law
def test_the_curve_of_a_family_is_that_of_its_law(law: Update) -> None:
    # flow time against the law itself, pulse by pulse: any number of pulses between reads
    name = type(law).__name__
    data = measured(law, read=0.0, pulses=45)
    traces = traces_of(data)
    family = OF_LAW[name]
    found = devices.fit(data, families=[type(law)])
    assert found.shot is not None
    theta = found.shot.theta
    every = traces.every(7)
    whole = Curve(family, theta, traces)(traces.y[:1])
    part = Curve(family, theta, every)(traces.y[:1])
    kept = np.isin(np.cumsum(traces.n), np.cumsum(every.n))
    np.testing.assert_allclose(part, whole[kept], atol=2e-3)
    want = truth(data, law)
    made = followed(found.device, data, want[0])
    np.testing.assert_allclose(made, traces.conductance(whole), atol=5e-3 * np.ptp(want))
    assert np.abs(made - want).max() < 0.02 * np.ptp(want)


@each_law
def test_parameters_are_recovered(law: Update) -> None:
    given = {} if isinstance(law, SoftBounds | PowStep) else WINDOW
    data = measured(law, seed=5, cycles=2, read=0.002)
    found = devices.fit(data, families=[type(law)], fixed=given)
    for name, parameter in found.parameters.items():
        if not hasattr(law, name) or name.startswith("sigma"):
            continue
        if isinstance(law, PiecewiseStep):  # its unit is a convention
            continue
        want = getattr(law, name)
        wide = 2 * max(parameter.high - parameter.value, parameter.value - parameter.low)
        assert abs(parameter.value - want) < wide + 0.02 * abs(want), (name, parameter)
    assert type(found.device.update) is type(law)
    assert found.parameters["read"].value == pytest.approx(0.002, rel=0.25)


def test_least_squares_is_that_of_scipy() -> None:
    # oracle: the soft-bounds recursion written out, all five numbers by scipy at once
    data = measured(SoftBounds(dg_min=1e-6, up_down=0.2), seed=9)
    y = data.g.numpy() * 1e6

    def ramp(p):
        g, out = p[0], [p[0]]
        for way in data.polarity.tolist()[1:]:
            g += p[1] * (p[2] - g) if way > 0 else -p[3] * (g - p[4])
            out.append(g)
        return np.array(out)

    best = least_squares(lambda p: ramp(p) - y, [y[0], 0.04, 60, 0.03, 10])
    found = devices.fit(data, families=[SoftBounds])
    assert found.rmse * np.ptp(y) == pytest.approx(np.sqrt(np.mean(best.fun**2)), rel=1e-3)
    assert found.parameters["g_max"].value * 1e6 == pytest.approx(best.x[2], abs=0.05)
    assert found.parameters["g_min"].value * 1e6 == pytest.approx(best.x[4], abs=0.05)
    # and its interval is that of the least squares' normal theory
    error = np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac)) * np.mean(best.fun**2))
    width = (found.parameters["g_max"].high - found.parameters["g_max"].low) * 1e6 / 2
    # Student's with six degrees, the noise averaged over what it may be
    assert 1.96 * error[2] < width < 3.5 * 1.96 * error[2]


@pytest.mark.parametrize("every", [11, 25, 100])
def test_any_spacing_of_reads(every: int) -> None:
    law = SoftBounds(dg_min=0.1e-6)
    data = measured(law, pulses=600, cycles=2, read=0.001)
    keep = (data.pulse % every == 0).nonzero().flatten().tolist()
    columns = (c[keep] for c in (data.cycle, data.pulse, data.polarity, data.g))
    found = devices.fit(PulseData(tuple(data.cell[i] for i in keep), *columns))
    state = found.device.fabricate((300,), dtype=ONE.dtype)._replace(g=20e-6 * ONE)
    got = found.device.pulse(state, Pulses(200 * ONE, 0 * ONE)).g.mean() * 1e6
    assert float(got) == pytest.approx(60 - 40 * (1 - 0.1 / 25) ** 200, abs=0.3)
    if 600 % every:
        assert any("changes of polarity" in note for note in found.notes)


def test_steps_far_below_the_read_noise() -> None:
    # 1000 steps of 20 nS under read noise of 4 % of the window: s.e. of a slope 0.4 %
    rng = np.random.default_rng(1)
    steps = 20e-9 * np.r_[np.arange(1001), np.arange(999, -1, -1)]
    g = torch.tensor(6e-6 + steps + 0.8e-6 * rng.standard_normal(2001))
    way = [0] + [1] * 1000 + [-1] * 1000
    data = PulseData(
        ("A",) * 2001, torch.zeros(2001).long(), torch.arange(2001), torch.tensor(way), g
    )
    found = devices.fit(data)
    assert type(found.device.update) is ConstantStep
    assert found.parameters["dg_min"].value == pytest.approx(20e-9, rel=0.03)
    assert found.parameters["dg_min"].covers(20e-9)
    assert found.parameters["read"].covers(0.8e-6 / found.device.window.span)


@pytest.mark.parametrize("low", [0.0, -60e-6])
def test_a_bound_outside_the_physical_range_is_not_moved(low: float) -> None:
    # soft bounds whose steps vanish below 0: a linear step with slopes below 1, the same curve
    g, out = 3e-6, [3e-6]
    for k in range(160):
        g += 0.006 * (100e-6 - g) if k < 80 else -0.0063 * (g - low)
        out.append(g)
    way = [0] + [1] * 80 + [-1] * 80
    noisy = torch.tensor(out) + 0.1e-6 * torch.randn(
        161, generator=torch.Generator().manual_seed(1)
    )
    data = PulseData(
        ("A",) * 161, torch.zeros(161).long(), torch.arange(161), torch.tensor(way), noisy.double()
    )
    found = devices.fit(data, families=[SoftBounds])
    error = followed(found.device, data, out[0]) - np.array(out)
    assert np.sqrt(np.mean(error**2)) < 0.004 * np.ptp(out)
    if low < 0:
        assert type(found.device.update) is LinearStep
        assert any("below 0" in words for words in found.sentences)


def test_steps_that_grow_and_steps_like_a_bell() -> None:
    rng = np.random.default_rng(2)
    for shape, limit in ((lambda x: 0.3 + 3 * x, 0.006), (lambda x: 0.2 + 4 * x * (1 - x), 0.012)):
        g, reads, way = 0.0, [], []
        for k in range(320):
            up = (k // 40) % 2 == 0
            reads.append(g)
            way.append(0 if k == 0 else 1 if (k - 1) // 40 % 2 == 0 else -1)
            g += 0.02 * shape(g) if up else -0.02 * shape(g)
        y = 5e-6 + 20e-6 * (np.array(reads) + 0.003 * rng.standard_normal(320))
        data = PulseData(
            ("A",) * 320,
            torch.zeros(320).long(),
            torch.arange(320),
            torch.tensor(way),
            torch.tensor(y),
        )
        found = devices.fit(data)
        # a slow start magnifies the noise of the first read: from where the fit says it was
        assert found.shot is not None
        start = float(found.shot.traces.conductance(found.shot.start[0]))
        error = followed(found.device, data, start) - y
        assert np.sqrt(np.mean(error**2)) < limit * np.ptp(y), found.candidates[0]


def test_an_abrupt_reset_over_a_gradual_set() -> None:
    rng, rows, noisy = np.random.default_rng(3), [], []
    for _ in range(8):
        g = 1e-6 + 0.2e-6 * abs(rng.standard_normal())
        for _ in range(20):
            g += 0.15 * (25e-6 - g)
            rows.append((1, g))
        rows += [(-1, 1e-6 + 0.2e-6 * abs(rng.standard_normal())) for _ in range(3)]
    noisy = [g + 0.1e-6 * rng.standard_normal() for _, g in rows]
    n = len(rows)
    data = PulseData(
        ("A",) * n,
        torch.zeros(n).long(),
        torch.arange(n),
        torch.tensor([w for w, _ in rows]),
        torch.tensor(noisy).double(),
    )
    found = devices.fit(data)
    law = found.device.update
    assert isinstance(law, AbruptReset)
    assert found.device.g_min == pytest.approx(1e-6, abs=0.3e-6)
    state = found.device.fabricate((300,), dtype=ONE.dtype)._replace(g=20e-6 * ONE)
    down = found.device.pulse(state, Pulses(0 * ONE, ONE), generator=torch.Generator())
    assert float(down.g.mean()) == pytest.approx(1e-6, abs=0.4e-6)
    up = found.device.pulse(down, Pulses(5 * ONE, 0 * ONE), generator=torch.Generator())
    assert float(up.g.mean()) == pytest.approx(25e-6 - 24e-6 * 0.85**5, abs=0.7e-6)


def switching(repeat: int) -> PulseData:
    rng, rows = np.random.default_rng(4), []
    for cell in range(3):
        on = False
        for k in range(100):
            up = k % 2 == 0
            if rng.random() < 0.9:
                on = up
                level = 100e-6 * (1 + 0.05 * rng.standard_normal()) if on else 5e-6
            elif k == 0:
                level = 5e-6
            rows += [
                (str(cell), k, 1 if up else -1, level + 0.4e-6 * rng.standard_normal())
                for _ in range(repeat)
            ]
    cell, pulse, way, g = zip(*rows, strict=True)
    n = len(rows)
    return PulseData(
        cell,
        torch.zeros(n).long(),
        torch.tensor(pulse),
        torch.tensor(way),
        torch.tensor(g).double(),
    )


def test_binary_cells_scatter_in_writing_not_in_reading() -> None:
    twice, once = devices.fit(switching(2)), devices.fit(switching(1))
    assert isinstance(twice.device.update, StochasticSwitch)
    for p in ("p_up", "p_down"):
        assert twice.parameters[p].covers(0.9)
    assert twice.noise["read"].covers(0.4e-6) and twice.noise["read"].high < 0.5e-6
    assert once.device.read is None
    assert any("read noise is unknown" in words for words in once.sentences)
    with pytest.raises(Unidentified, match="binary"):
        devices.fit(switching(1), families=[ConstantStep])


@pytest.mark.parametrize("law", [None, SoftBounds, ConstantStep, NeuroSim, ExpStep])
def test_exchanged_polarities_are_one_clear_error(law) -> None:
    data = measured(LAWS[2], cycles=2)
    other = PulseData(data.cell, data.cycle, data.pulse, -data.polarity, data.g)
    with pytest.raises(ValueError, match="polarity is swapped"):
        devices.fit(other, families=None if law is None else [law])


def signs(ways: list[int], g: list[float] | np.ndarray) -> PulseData:
    n = len(ways)
    return PulseData(
        ("A",) * n,
        torch.zeros(n).long(),
        torch.arange(n),
        torch.tensor(ways),
        torch.tensor(np.array(g)),
    )


def test_what_the_data_cannot_tell_is_named() -> None:
    rng = np.random.default_rng(0)
    way = [0] + [1] * 20 + [-1] * 20
    with pytest.raises(Unidentified, match="dg_min.*same conductance"):
        devices.fit(signs(way, np.full(41, 1e-6)))
    with pytest.raises(Unidentified, match="dg_min.*no more than"):
        devices.fit(signs(way, 1e-6 + 1e-8 * rng.standard_normal(41)))
    with pytest.raises(Unidentified, match="4 reads are too few"):
        devices.fit(signs([0, 1, 1, 1], [1e-6, 2e-6, 3e-6, 4e-6]))
    with pytest.raises(Unidentified, match="no two reads"):
        devices.fit(signs([0], [1e-6]))
    with pytest.raises(ValueError, match="no polarity"):
        devices.fit(signs([0, 0, 1, 1], [1e-6, 2e-6, 3e-6, 4e-6]))
    with pytest.raises(ValueError, match="g_min and g_max"):
        devices.fit(measured(LAWS[0]), fixed={"g_min": 2.0})
    with pytest.raises(ValueError, match="no field gamma_up"):
        devices.fit(measured(LAWS[0]), families=[ConstantStep], fixed={"gamma_up": 0.1})


def test_one_direction_of_a_line_is_a_line_whose_intervals_are_those_of_its_ramp() -> None:
    rng, x = np.random.default_rng(3), 0.05
    g = [x]
    for _ in range(100):
        x += 0.02 * (1 - 0.8 * (x - 0.5))
        g.append(x)
    reads = 30e-6 * (np.array(g) + 0.006 * rng.standard_normal(101))
    found = devices.fit(signs([0] + [1] * 100, reads + 2e-6))
    assert type(found.device.update) is LinearStep
    step = found.parameters["dg_min"]
    middle = (sum(found.device.window) / 2 - 2e-6) / 30e-6
    assert step.covers(30e-6 * 0.02 * (1 - 0.8 * (middle - 0.5)))
    # what up pulses do is known within 2 %, and that down ones mirror them is said
    assert 0.005 < (step.high - step.low) / step.value < 0.06
    ratio = [found.drawn(seed).update.dg_min / step.value for seed in range(20)]
    assert 0.9 < min(ratio) < 1 < max(ratio) < 1.1


def test_a_table_is_not_finer_than_the_steps() -> None:
    rng, x = np.random.default_rng(8), 0.05
    cycle, pulse, way, g = [], [], [], []
    for c in range(12):
        for k in range(17):
            sign = 1 if k <= 8 else -1
            if k:
                move = 0.15 * (1 - 1.2 * sign * (x - 0.5)) * (1 + 0.2 * rng.standard_normal())
                x += sign * move
            cycle.append(c), pulse.append(k), way.append(sign), g.append(x)
    reads = 30e-6 * (np.array(g) + 0.01 * rng.standard_normal(len(g))) + 2e-6
    columns = (torch.tensor(v) for v in (cycle, pulse, way, reads))
    found = devices.fit(PulseData(("a",) * len(g), *columns))
    assert found.noise["pulse"].covers(0.2) and 0.13 < found.noise["pulse"].value < 0.3
    assert found.noise["coloured read"].low == 0
    at = found.candidates[0]
    assert at.parameters <= 6, at


@each_law
@pytest.mark.parametrize("up", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_one_direction_is_fitted_and_the_other_its_mirror(law: Update, up: bool) -> None:
    whole = measured(law, seed=3)
    keep = range(51) if up else range(50, 101)
    columns = (c[list(keep)] for c in (whole.cycle, whole.pulse, whole.polarity, whole.g))
    data = PulseData(tuple(whole.cell[i] for i in keep), *columns)
    found = devices.fit(data)
    word = "down" if up else "up"
    assert any(f"show no {word} pulses" in words for words in found.sentences)
    want = truth(whole, law)[list(keep)]
    error = followed(found.device, data, want[0]) - want
    assert np.sqrt(np.mean(error**2)) < 0.015 * np.ptp(want), found.candidates[0]
    # the mirror: what an up pulse does as far above the middle as a down pulse below it
    low, high = found.device.window
    at = torch.tensor([low + 0.3 * (high - low), high - 0.3 * (high - low)], dtype=ONE.dtype)
    g = at[:, None].repeat(1, 4000)  # the mean of many: pulses and cells may be noisy
    one, draw = torch.ones_like(g), torch.Generator().manual_seed(0)
    state = found.device.fabricate(tuple(g.shape), generator=draw, dtype=g.dtype)._replace(g=g)
    rise, fall = (
        (found.device.pulse(state, Pulses(*n), generator=draw).g - g).mean(1)
        for n in ((one, 0 * one), (0 * one, one))
    )
    assert float(rise[0]) == pytest.approx(-float(fall[1]), rel=0.35)


@pytest.mark.parametrize("seed", range(6))
def test_bad_data_end_in_an_answer_or_in_one_error_of_ours(seed: int) -> None:
    # saturated ends, one ramp, few reads, repeats, gaps, outliers: never another's error text
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 60))
    way = rng.choice([1, -1], size=n, p=[0.7, 0.3]) if seed % 2 else np.r_[0, np.ones(n - 1)]
    g = np.clip(np.cumsum(0.5e-6 * way) + 10e-6, 5e-6, 12e-6)
    g = g + 0.05e-6 * rng.standard_normal(n) * (seed % 3)
    g[rng.random(n) < 0.1] = np.nan
    g[0] = 1e-5
    pulse = np.cumsum(rng.integers(0, 4, n))
    data = PulseData(
        ("A",) * n,
        torch.zeros(n).long(),
        torch.tensor(pulse),
        torch.tensor(way).long(),
        torch.tensor(g),
    )
    try:
        found = devices.fit(data)
    except ValueError as error:
        assert not any(word in str(error) for word in ("torch", "index", "dimension", "array"))
    else:
        assert math.isfinite(found.device.g_max)


def test_outliers_are_left_out_and_counted() -> None:
    clean = measured(LAWS[2], seed=6, cycles=2)
    rng = np.random.default_rng(7)
    bad = (rng.random(len(clean)) < 0.02) & (clean.pulse.numpy() > 0)
    g = torch.where(
        torch.tensor(bad), clean.g * torch.tensor(rng.uniform(1.3, 3, len(bad))), clean.g
    )
    bad_data = PulseData(clean.cell, clean.cycle, clean.pulse, clean.polarity, g)
    found, own = (devices.fit(data, families=[SoftBounds]) for data in (bad_data, clean))
    assert 0.5 * bad.sum() <= found.left_out <= 1.5 * bad.sum() and own.left_out <= 1
    for name in ("dg_min", "g_max"):
        width = own.parameters[name].high - own.parameters[name].low
        assert abs(found.parameters[name].value - own.parameters[name].value) < width


def test_known_fields_stay() -> None:
    data = measured(LAWS[2], seed=8, cycles=2)
    found = devices.fit(data, families=[SoftBounds], fixed={"g_max": 61e-6, "sigma_c2c": 0.25})
    assert found.parameters["g_max"].value == pytest.approx(61e-6, rel=1e-3)
    assert found.device.update.sigma_c2c == 0.25


def test_the_lookup_device_takes_part_and_can_be_asked_for() -> None:
    data = measured(LAWS[2], seed=8, cycles=2)
    found = devices.fit(data)
    assert "LookupStep" in [c.name for c in found.candidates]
    assert not isinstance(found.device.update, LookupStep)
    asked = devices.fit(data, families=[LookupStep])
    assert isinstance(asked.device.update, LookupStep) and not asked.parameters
    want = truth(data, LAWS[2])
    error = followed(asked.device, data, want[0]) - want
    assert np.sqrt(np.mean(error**2)) < 0.05 * np.ptp(want)
    index = (data.polarity >= 0).nonzero().flatten()
    columns = (c[index] for c in (data.cycle, data.pulse, data.polarity, data.g))
    with pytest.raises(Unidentified, match="no down pulse"):
        devices.lookup_device(PulseData(("A",) * len(index), *columns))


@pytest.mark.slow
def test_a_million_reads_in_a_minute() -> None:
    law = SoftBounds(dg_min=1e-6, up_down=0.2, sigma_c2c=0.3, sigma_d2d=0.2)
    data = measured(law, seed=4, cells=100, cycles=20, pulses=250)
    assert len(data) > 1_000_000
    begin = time.process_time()  # others may use the machine too
    found = devices.fit(data)
    assert time.process_time() - begin < 60
    assert found.candidates[0].name == "SoftBounds"
    assert any("reads" in note and "used" in note for note in found.notes)
    assert found.parameters["dg_min"].covers(1e-6)


@pytest.mark.slow
def test_thirteen_thousand_reads_of_one_cell_in_a_minute() -> None:
    law = SoftBounds(dg_min=0.4e-6, up_down=0.2, sigma_c2c=0.3)
    data = measured(law, seed=4, cycles=39, pulses=170, read=0.001)
    assert len(data) > 13_000
    begin = time.process_time()
    found = devices.fit(data)
    assert time.process_time() - begin < 60
    assert type(found.device.update) is SoftBounds
    assert found.parameters["sigma_c2c"].value == pytest.approx(0.3, rel=0.1)
