"""Parts fitted from their own measurements: the truth of the part that made them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from devices import (
    CubicIV,
    Device,
    Endurance,
    FlickerRead,
    GaussianRead,
    GaussianWrite,
    Leak,
    LogRelaxation,
    PowerLawDrift,
    ProportionalRead,
    SinhIV,
    SoftBounds,
    StateDrift,
    StateRead,
    StateWrite,
    StuckAt,
    TelegraphRead,
    fit_endurance,
    fit_iv,
    fit_read,
    fit_retention,
    fit_stuck,
    fit_write,
)

WINDOW = (1e-6, 51e-6)
SPAN = 50e-6


def aged(part, times, cells=40, g=30e-6):
    """What a device with that retention shows at some times after a write."""
    device = Device(*WINDOW, retention=part)
    generator = torch.Generator().manual_seed(1)
    state = device.fabricate((cells,), generator=generator, dtype=torch.float64)
    state = device.program(state, torch.linspace(10e-6, g, cells).double(), generator=generator)
    out, before = [], 0.0
    for t in times:
        state = device.advance(state, t - before, generator=generator)
        before = t
        out.append(state.g)
    return torch.stack(out, 1).numpy()


TIMES = np.logspace(0, 5, 25)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (PowerLawDrift(nu=0.05, sigma_d2d=0.2, t0=1.0), ("nu", "sigma_d2d")),
        (LogRelaxation(mean=-0.09e-6, std=0.05e-6, std_first=0.0, t0=1.0), ("mean", "std")),
        (Leak(tau=2e4, rest=0.1), ("tau", "rest")),
    ],
    ids=lambda v: type(v).__name__,
)
def test_retention(part, names) -> None:
    rng = np.random.default_rng(0)
    g = aged(part, TIMES)
    g = g * (1 + 1e-3 * rng.standard_normal(g.shape))
    found = fit_retention(TIMES, g, window=WINDOW, t0=1.0)
    assert type(found.part) is type(part), found.sentences
    for name in names:
        assert found.parameters[name].covers(getattr(part, name)), (name, found.parameters[name])
    assert found.rmse < 0.002
    # and the part goes into a device whose curve is that of the data
    again = aged(found.part, TIMES).mean(0)
    np.testing.assert_allclose(again, g.mean(0), rtol=0.03)


def test_retention_intervals_cover() -> None:
    # oracle: 200 trials of 12 cells with known spread
    rng, inside = np.random.default_rng(1), 0
    for _ in range(200):
        nu = 0.05 * (1 + 0.2 * rng.standard_normal(12))
        g = 20e-6 * TIMES ** -nu[:, None] * (1 + 2e-3 * rng.standard_normal((12, 25)))
        found = fit_retention(TIMES, g, window=WINDOW, t0=1e-9, law="PowerLawDrift")
        inside += found.parameters["nu"].covers(0.05)
    assert 183 <= inside <= 198


def test_one_cell_tells_no_spread_of_retention() -> None:
    found = fit_retention(TIMES, 2e-5 * TIMES**-0.05, window=WINDOW, t0=1e-9)
    assert found.parameters["sigma_d2d"].value == 0
    assert any("within a factor 2" in words for words in found.sentences)


@pytest.mark.parametrize("part", [SinhIV(0.3), CubicIV(0.4, 0.9)], ids=lambda p: type(p).__name__)
def test_curves_of_current(part) -> None:
    rng, v = np.random.default_rng(2), np.linspace(-0.5, 0.8, 40)
    g = torch.tensor([[5e-6], [20e-6], [45e-6]], dtype=torch.float64)
    i = part.current(g, torch.tensor(v)).numpy()
    i = i + 2e-3 * np.abs(i).max(1, keepdims=True) * rng.standard_normal(i.shape)
    found = fit_iv(v, i)
    assert type(found.part) is type(part), found.sentences
    for name, parameter in found.parameters.items():
        assert parameter.covers(getattr(part, name))
        assert parameter.high - parameter.low < 0.2 * abs(parameter.value)


def test_endurance_with_cells_that_live() -> None:
    rng = np.random.default_rng(3)
    n_fail = 10 ** (6 + 0.4 * rng.standard_normal(300))
    ended = 2e6
    failed = n_fail < ended
    found = fit_endurance(np.minimum(n_fail, ended), failed, law=SoftBounds(1e-7))
    assert isinstance(found.part, Endurance)
    assert found.parameters["pulses"].covers(1e6)
    assert found.parameters["sigma_log10"].covers(0.4)
    # cells that live must not count as dead: the median would lie far below
    wrong = fit_endurance(np.minimum(n_fail, ended), law=SoftBounds(1e-7))
    assert wrong.parameters["pulses"].high < found.parameters["pulses"].value


def test_stuck_cells_from_two_maps() -> None:
    device = Device(*WINDOW, faults=StuckAt(p_off=0.05, p_on=0.02, p_any=0.03))
    state = device.fabricate((100, 100), generator=torch.Generator().manual_seed(4))
    maps = [device.program(state, torch.tensor(g)).g.numpy() for g in WINDOW]
    found = fit_stuck(*maps, window=WINDOW)
    at = device.faults.stuck(state.faults)
    assert f"{int((~at.isnan()).sum())} of 10000 cells are stuck" in found.sentences[0]
    for name in ("p_off", "p_on", "p_any"):
        # a cell stuck anywhere is at times stuck near an end
        assert abs(found.parameters[name].value - getattr(device.faults, name)) < 0.02
    total = sum(found.parameters[n].value for n in ("p_off", "p_on", "p_any"))
    assert total == pytest.approx(0.1, abs=0.01)


def test_write_errors() -> None:
    rng = np.random.default_rng(5)
    want = rng.uniform(*WINDOW, 2000)
    even = fit_write(want, want + 0.03 * SPAN * rng.standard_normal(2000), window=WINDOW)
    assert isinstance(even.part, GaussianWrite) and even.parameters["sigma"].covers(0.03)
    assert "a bias" not in even.sentences[0]
    x = (want - WINDOW[0]) / SPAN
    sloped = want + (0.01 + 0.05 * x) * SPAN * rng.standard_normal(2000) + 0.5e-6
    found = fit_write(want, sloped, window=WINDOW)
    assert isinstance(found.part, StateWrite) and "a bias" in found.sentences[0]
    sigma = found.part.sigma(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    np.testing.assert_allclose(sigma, [0.015, 0.035, 0.055], rtol=0.15)


CELLS, READS = 48, 400
LEVELS = np.linspace(5e-6, 50e-6, CELLS)[:, None]


def white(std):
    return LEVELS + std * np.random.default_rng(6).standard_normal((CELLS, READS))


def test_white_read_noise_of_every_kind() -> None:
    even = fit_read(white(0.5e-6), window=WINDOW)
    assert isinstance(even.part, GaussianRead) and even.parameters["sigma"].covers(0.01)
    share = fit_read(white(0.02 * LEVELS), window=WINDOW)
    assert isinstance(share.part, ProportionalRead) and share.parameters["sigma"].covers(0.02)
    humped = 0.2e-6 + 1e-6 * np.exp(-(((LEVELS - 25e-6) / 8e-6) ** 2))
    bell = fit_read(white(humped), window=WINDOW)
    assert isinstance(bell.part, StateRead)
    top = bell.part.sigma(torch.tensor([0.48], dtype=torch.float64)) * SPAN
    assert float(top) == pytest.approx(1.15e-6, rel=0.15)


def test_telegraph_noise_and_its_times() -> None:
    rng, dt, tau = np.random.default_rng(7), 1e-3, (20e-3, 10e-3)
    g = np.full((8, 4000), 20e-6)
    for row in g[:6]:
        up = True
        for k in range(len(row)):
            if rng.random() < dt / tau[0 if up else 1]:
                up = not up
            row[k] *= 1.03 if up else 0.97
    g = g + 0.05e-6 * rng.standard_normal(g.shape)
    found = fit_read(g, window=WINDOW, dt=dt)
    assert isinstance(found.part, TelegraphRead) and found.part.share == 0.75
    for name, want in zip(("tau_high", "tau_low"), tau, strict=True):
        assert found.parameters[name].covers(want), found.parameters[name]
    assert found.part.amplitude == pytest.approx(0.06, rel=0.03)
    assert found.parameters["white"].covers(0.05e-6 / SPAN)
    with pytest.raises(ValueError, match="give dt"):
        fit_read(g, window=WINDOW)


def test_coloured_reads_are_not_called_white() -> None:
    rng, x, rows = np.random.default_rng(8), np.zeros(CELLS), []
    for _ in range(READS):
        x = 0.97 * x + np.sqrt(1 - 0.97**2) * rng.standard_normal(CELLS)
        rows.append(x)
    g = LEVELS * (1 + 0.01 * np.array(rows).T)
    with pytest.raises(ValueError, match="not white"):
        fit_read(g, window=WINDOW)
    found = fit_read(g, window=WINDOW, dt=0.1)
    assert isinstance(found.part, FlickerRead)
    # right after the start of such a series the part reads with the scatter of the series
    device = Device(*WINDOW, read=found.part)
    state = device.fabricate((1,), dtype=torch.float64)
    state = device.program(state, torch.tensor([20e-6], dtype=torch.float64))
    std = float(device.std(state)) / 20e-6
    assert std == pytest.approx(float((g / LEVELS).std()), rel=0.15)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit_retention([1, 2, 2, 3], [1e-6] * 4, window=WINDOW), "increasing"),
        (lambda: fit_retention([1, 2, 3, 4], [1e-6, 0, 1e-6, 1e-6], window=WINDOW), "above 0"),
        (lambda: fit_iv([0, 1], [1, 2]), "four points"),
        (lambda: fit_write([1e-6], [1e-6, 2e-6], window=WINDOW), "must match"),
        (lambda: fit_read([1e-6] * 5, window=WINDOW), "16 reads"),
        (lambda: fit_endurance([1e6, 2e6], [True, False], law=SoftBounds(1e-7)), "two cells"),
        (lambda: fit_stuck([1e-6], [1e-6, 2e-6], window=WINDOW), "one shape"),
    ],
)
def test_what_cannot_be_fitted_is_refused(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_an_exponent_that_depends_on_the_state_is_a_table_of_it() -> None:
    rng = np.random.default_rng(12)
    g0 = rng.uniform(5e-6, 45e-6, 160)
    nu = 0.08 - 0.06 * (g0 - WINDOW[0]) / SPAN
    nu_own = nu * (1 + 0.1 * rng.standard_normal(160))
    g = g0[:, None] * ((TIMES + 1.0) / 1.0) ** -nu_own[:, None]
    g = g * (1 + 1e-3 * rng.standard_normal(g.shape))
    found = fit_retention(TIMES, g, window=WINDOW, t0=1.0)
    assert isinstance(found.part, StateDrift)
    x = torch.linspace(0.15, 0.8, 5, dtype=torch.float64)
    np.testing.assert_allclose(found.part.nu(x), 0.08 - 0.06 * x, atol=0.004)
    middle = (found.part.nu.x[0] + found.part.nu.x[-1]) / 2
    near = min(found.part.nu.x, key=lambda v: abs(v - middle))
    assert found.parameters[f"nu at {near:.2f}"].low < 0.08 - 0.06 * near + 0.004
    # cells that drift alike keep one exponent, in 19 of 20 data sets and more
    alike = 0
    for seed in range(20):
        own = 0.05 * (1 + 0.1 * np.random.default_rng(seed).standard_normal(160))
        flat = g0[:, None] * (TIMES + 1.0) ** -own[:, None]
        alike += type(fit_retention(TIMES, flat, window=WINDOW, t0=1.0).part) is PowerLawDrift
    assert alike >= 18
