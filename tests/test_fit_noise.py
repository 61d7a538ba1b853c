"""Noise taken apart: what made the reads, from whole ramps, with intervals that hold."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import devices
from devices import ConstantStep, PulseData
from devices.fitting.families import CONSTANT
from devices.fitting.likelihood import KINDS, Levels, Likelihood, around, inverse_root
from devices.fitting.look import sizes
from devices.fitting.result import between_cells
from devices.fitting.shooting import shoot
from devices.fitting.traces import traces_of

STEP, READ = 0.2e-6, 0.1e-6


def ramps(
    seed,
    *,
    traces=10,
    pulses=30,
    step=lambda g, up: STEP if up else -STEP,
    read=READ,
    colour=0.0,
    tau=8.0,
    pulse=0.0,
    cycle=0.0,
    tilt=0.0,
    drift=0.0,
    cells=1,
    cell=0.0,
) -> PulseData:
    """One cell or several, pulse by pulse: every kind of noise by its own definition."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in range(cells):
        own = 1 + cell * rng.standard_normal()
        for t in range(traces):
            common, apart = cycle * rng.standard_normal(), tilt * rng.standard_normal()
            g, slow = 5e-6, colour * rng.standard_normal()
            for k in range(2 * pulses + 1):
                if k:
                    up = k <= pulses
                    size = own * (1 + common + (apart if up else -apart))
                    size *= 1 + drift * (t - (traces - 1) / 2)
                    g += step(g, up) * size * (1 + pulse * rng.standard_normal())
                    slow = np.exp(-1 / tau) * slow
                    slow += colour * np.sqrt(1 - np.exp(-2 / tau)) * rng.standard_normal()
                way = 0 if k == 0 else 1 if k <= pulses else -1
                rows.append((str(c), t, k, way, g + slow + read * rng.standard_normal()))
    label, *columns = zip(*rows, strict=True)
    cycle_, pulse_, way_, g_ = (torch.tensor(x) for x in columns)
    return PulseData(label, cycle_, pulse_, way_, g_.double())


def fitted(data, **options):
    return devices.fit(data, families=[ConstantStep], **options)


def test_likelihood_is_that_of_the_dense_normal() -> None:
    # oracle: covariance written out read by read, and scipy's normal density
    traces = traces_of(ramps(0, traces=3, pulses=4))
    shot = shoot(CONSTANT, traces, CONSTANT.start(sizes(traces)))
    at = around(shot)
    s = Levels(read=0.02, pulse=0.3, colour=0.05, tau=5.0, cycle=0.1, tilt=0.07)
    model = Likelihood(at)
    # the density of the reads, no parameter estimated
    model.data, model.fixed = model.data[..., :1], 1

    n = len(at.r)
    trace = np.cumsum(at.first) - 1
    total = np.cumsum(at.n)
    cov = np.zeros((n, n))
    for a in range(n):
        for b in range(n):
            if trace[a] != trace[b]:
                continue
            cov[a, b] += 1.0  # where a trace starts is not known
            cov[a, b] += s.colour**2 * np.exp(-abs(total[a] - total[b]) / s.tau)
            until = slice(int(np.flatnonzero(at.first)[trace[a]]) + 1, min(a, b) + 1)
            cov[a, b] += s.pulse**2 * np.sum(at.n[until] * at.v[until] ** 2)

            def drive(i, sign):
                run = slice(int(np.flatnonzero(at.first)[trace[i]]) + 1, i + 1)
                return np.sum(at.n[run] * at.v[run] * (np.where(at.up[run], 1, -1) if sign else 1))

            cov[a, b] += s.cycle**2 * drive(a, 0) * drive(b, 0)
            cov[a, b] += s.tilt**2 * drive(a, 1) * drive(b, 1)
    cov += s.read**2 * np.eye(n)
    want = multivariate_normal(np.zeros(n), cov).logpdf(at.r) + n / 2 * np.log(2 * np.pi)
    assert -model(s).loss == pytest.approx(want, abs=0.02)


@pytest.mark.parametrize("cells", [1, 3])
def test_slopes_of_the_likelihood_are_those_of_differences(cells: int) -> None:
    # oracle: central differences of the loss by σ² of every kind and by log τ
    traces = traces_of(ramps(0, traces=4, pulses=11, cells=cells, cell=0.1))
    shot = shoot(CONSTANT, traces, CONSTANT.start(sizes(traces)), cells=cells > 1)
    model = Likelihood(around(shot))
    s = Levels(read=0.02, pulse=0.3, colour=0.05, tau=5.0, cycle=0.1, tilt=0.07)

    def apart(one: Levels, other: Levels) -> float:
        return model(one).loss - model(other).loss

    want, by = [], 1e-4
    for kind in KINDS:
        own = getattr(s, kind) ** 2
        ends = [s._replace(**{kind: (own * (1 + side * by)) ** 0.5}) for side in (1, -1)]
        want.append(apart(*ends) / (2 * own * by))
    ends = [s._replace(tau=s.tau * np.exp(side * by)) for side in (1, -1)]
    want.append(apart(*ends) / (2 * by))
    value = model(s)
    assert value.slope == pytest.approx(np.array(want), rel=1e-4)
    assert np.linalg.eigvalsh(value.bends).min() > 0


def test_inverses_of_triangles_in_halves() -> None:
    roots = np.tril(np.random.default_rng(0).standard_normal((3, 61, 61))) + 9 * np.eye(61)
    assert inverse_root(roots) @ roots == pytest.approx(np.tile(np.eye(61), (3, 1, 1)), abs=1e-12)


def test_every_kind_is_found_as_what_it_is() -> None:
    found = fitted(ramps(1, colour=0.15e-6, pulse=0.3, cycle=0.05, tilt=0.03, traces=20))
    noise = found.noise
    truth = {
        "read": READ,
        "coloured read": 0.15e-6,
        "pulse": 0.3,
        "ramp to ramp": 0.05,
        "up against down": 0.03,
    }
    for name, want in truth.items():
        assert noise[name].low <= want <= noise[name].high, (name, noise[name])
    assert found.parameters["dg_min"].covers(STEP)


@pytest.mark.parametrize(
    ("kind", "other"),
    [({"colour": 0.3e-6, "tau": 10.0}, "coloured read"), ({"cycle": 0.15}, "ramp to ramp")],
)
def test_no_noise_of_pulses_is_invented(kind, other) -> None:
    found = fitted(ramps(2, traces=16, pulses=60, **kind))
    assert found.noise["pulse"].low == 0
    assert found.device.update.sigma_c2c < 0.2
    assert found.noise[other].low > 0
    assert found.noise["read"].covers(READ)
    assert any("not in the device" in words and other in words for words in found.sentences)


def test_drift_over_cycles_is_told_from_their_spread() -> None:
    found = fitted(ramps(10, traces=16, cycle=0.03, drift=0.02))
    drift = found.noise["drift over cycles"]
    assert drift.covers(0.02) and drift.low > 0.01
    assert found.noise["ramp to ramp"].covers(0.03)  # 16 cycles of 2 % scatter by 9 % and more
    assert any("not in the device" in w and "drift" in w for w in found.sentences)
    still = fitted(ramps(9, traces=16, cycle=0.03)).noise["drift over cycles"]
    assert still.covers(0)


def test_what_these_data_cannot_tell_is_said() -> None:
    one = " ".join(fitted(ramps(3, traces=1)).sentences)
    assert "if ramps share their step" in one and "one cell" in one
    five = " ".join(fitted(ramps(3, traces=5)).sentences)
    assert "5 traces" in five and "factor 2" in five
    long = fitted(ramps(4, traces=12, pulses=20, colour=0.4e-6, tau=40.0))
    assert any("more than a quarter of a ramp" in words for words in long.sentences)
    # a law that misfits: reads on a curve that no constant step follows
    curved = ramps(5, step=lambda g, up: 0.06 * ((20e-6 - g) if up else -(g - 2e-6)), read=1e-8)
    bad = fitted(curved)
    assert any("the law misfits" in words for words in bad.sentences)
    assert 0.6e-8 < bad.noise["read"].value < 1.5e-8


def test_cells_that_differ() -> None:
    found = fitted(ramps(6, traces=3, cells=9, cell=0.2))
    d2d = found.parameters["sigma_d2d"]
    assert d2d.covers(0.2) and d2d.low > 0.1
    assert found.noise["pulse"].low == 0
    alike = fitted(ramps(7, traces=2, pulses=20, cells=8))
    assert alike.parameters["sigma_d2d"].low == 0 and alike.parameters["sigma_d2d"].value < 0.02


@pytest.mark.parametrize("seed", [3, 14])
def test_wandering_cells_have_no_curve_of_their_own(seed) -> None:
    """Six ramps that pulse noise leads astray: a curve that bends predicts none of them better.

    It did from starts that it could move, and took the noise of pulses for its own and slow reads'.
    """
    steady = ramps(seed, traces=6, pulses=40, step=lambda g, up: 1e-6 if up else -1e-6,
                   pulse=0.4, read=0.4e-6)  # fmt: skip
    found = devices.fit(steady)
    assert found.candidates[0].parameters == 2
    assert found.noise["pulse"].high > 0.25


@pytest.mark.parametrize("up", [True, False])
def test_cells_of_one_direction(up) -> None:
    """Their spread is that of the step; what only the other direction could show is 0 and named."""
    whole = ramps(6, traces=3, cells=9, cell=0.2)
    keep = (whole.pulse <= 30 if up else whole.pulse >= 30).nonzero()[:, 0]
    columns = (c[keep] for c in (whole.cycle, whole.pulse, whole.polarity, whole.g))
    found = fitted(PulseData(tuple(whole.cell[k] for k in keep), *columns))
    d2d, step = found.parameters["sigma_d2d"], found.parameters["dg_min"]
    assert d2d.covers(0.2) and d2d.low > 0.1
    assert found.parameters["sigma_up_down"] == found.parameters["sigma_up_down"].__class__(0, 0, 0)
    assert step.covers(STEP) and step.high < 1.5 * STEP
    assert any("sigma_up_down" in words for words in found.sentences)
    for seed in range(5):  # the other direction of a device that these data allow mirrors this one
        update = found.drawn(seed).update
        assert abs(update.up_down) < 1e-3 and step.low / 2 < update.dg_min < 2 * step.high


def test_errors_that_all_cells_share_are_no_spread() -> None:
    # how well the mean cell is known says nothing of how cells differ
    cell = 0.1 * np.random.default_rng(0).standard_normal((9, 4))
    shot = SimpleNamespace(theta=np.zeros(2), cell=cell)
    cov = np.zeros((38, 38))
    cov[2:, 2:] = 25.0
    found = between_cells(shot, cov)
    assert found.size.value == pytest.approx(cell[:, :2].mean(1).std(ddof=1))
    own = cov + np.diag(np.r_[0.0, 0.0, np.full(36, 0.05**2)])
    apart = between_cells(shot, own).size
    want = cell[:, :2].mean(1).var(ddof=1) - 0.05**2 / 2
    assert apart.value**2 == pytest.approx(want) and apart.high > apart.value
