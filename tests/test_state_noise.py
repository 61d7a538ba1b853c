"""Errors, noise and drift as functions of the state, against NumPy, published figures, moments."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import devices
from devices import (
    Device,
    Draw,
    FiniteLevels,
    FlickerRead,
    GaussianWrite,
    HermesDrift,
    HermesRead,
    HermesWrite,
    PCMDrift,
    PCMRead,
    PCMWrite,
    Polynomial,
    StateDrift,
    StateRead,
    StateWrite,
    Table,
    WanWrite,
    Window,
    presets,
)
from devices.testing import check

UM = 1e-6
WINDOW = Window(2 * UM, 52 * UM)
N = 40000
ERROR = 4 / (2 * N) ** 0.5  # four standard errors of a standard deviation of N normal cells
X = torch.linspace(0, 1, 33, dtype=torch.float64)


@dataclass(frozen=True)
class Bump:
    """A callable of one's own that its repr rebuilds."""

    top: float = 0.1

    def __call__(self, x):
        return 4 * self.top * x * (1 - x)


TABLE = Table((0.0, 0.25, 0.6, 1.0), (0.01, 0.05, 0.02, 0.03))
CURVES = {
    "number": (0.04, lambda x: np.full_like(x, 0.04)),
    "polynomial": (Polynomial((0.01, 0.2, -0.18)), lambda x: np.polyval([-0.18, 0.2, 0.01], x)),
    "table": (TABLE, lambda x: np.interp(x, TABLE.x, TABLE.values)),
    "callable": (Bump(), lambda x: 0.4 * x * (1 - x)),
    "function": (lambda x: 0.1 * x.sqrt(), lambda x: 0.1 * np.sqrt(x)),
}


def written(write, target: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    wanted = torch.full((N,), target, dtype=torch.float64)
    return write.program(WINDOW, wanted, Draw.like(wanted, generator)) - wanted


@pytest.mark.parametrize("curve,oracle", CURVES.values(), ids=CURVES)
@pytest.mark.parametrize("absolute", [False, True])
def test_errors_have_the_size_of_their_curve(curve, oracle, absolute):
    size = UM if absolute else WINDOW.span
    if absolute and not callable(curve):
        curve = curve * UM
    elif absolute:
        one = curve
        curve = lambda x: one(x) * UM  # noqa: E731
    write, read = StateWrite(curve, absolute), StateRead(curve, absolute)
    g = WINDOW.g_min + X * WINDOW.span
    want = oracle(X.numpy()) * size
    for std in (write.std(WINDOW, g), read.std(WINDOW, g, None, torch.zeros(()))):
        assert np.allclose(std.numpy(), want, rtol=1e-9, atol=1e-18)
    for k in (8, 20):
        error = written(write, g[k].item())
        assert error.std().item() == pytest.approx(want[k], rel=ERROR)
        assert abs(error.mean().item()) < 4 * want[k] / N**0.5


@pytest.mark.parametrize("curve", [c for k, (c, _) in CURVES.items() if k != "function"])
def test_curves_of_every_kind_keep_the_contract(curve, monkeypatch):
    monkeypatch.setattr(devices, "Bump", Bump, raising=False)
    for part in (StateWrite(curve), StateRead(curve), FlickerRead(curve), StateDrift(curve, 0.01)):
        check(part)
    check(FiniteLevels(8, StateWrite(curve)))


def test_bases_of_the_named_classes_keep_the_contract():
    for part in (GaussianWrite(0.1), PCMWrite(), WanWrite(), PCMRead(), PCMDrift()):
        check(part)


def test_a_polynomial_of_the_target_is_the_published_class():
    window = Window(0.0, 25 * UM)
    g = X * window.g_max
    own = StateWrite(Polynomial((0.26348, 1.9650, -1.1731)), absolute=True)
    assert torch.allclose(own.std(window, g) * UM, PCMWrite().std(window, g), rtol=1e-12)
    wan = Polynomial((0.348, 16.030, -43.853, 45.393, -16.815))
    std = StateWrite(wan, absolute=True).std(window, g) * UM * 25 / 40
    assert torch.allclose(std, WanWrite().std(window, g), rtol=1e-12, atol=1e-18)


def test_negative_stretches_of_a_curve_make_no_error():
    curve = Polynomial((-0.05, 0.1))
    g = WINDOW.g_min + X * WINDOW.span
    assert bool((StateWrite(curve).std(WINDOW, g)[X <= 0.5] == 0).all())
    assert StateWrite(curve).std(WINDOW, g)[-1] == pytest.approx(0.05 * WINDOW.span)


def test_flicker_read_is_pcm_read_for_its_own_amplitude():
    window = Window(0.0, 25 * UM)
    own = FlickerRead(lambda x: (0.0088 * x.clamp(min=1e-6) ** -0.65).clamp(max=0.2))
    g, age = X * window.g_max, torch.tensor(1e4, dtype=torch.float64)
    draw = Draw.like(g, torch.Generator().manual_seed(0))
    everywhere = torch.ones(g.shape, dtype=torch.bool)
    stds = []
    for part in (own, PCMRead()):
        leaf = part.fabricate(window, tuple(g.shape), draw)
        leaf = part.written(window, g, leaf, everywhere, draw)
        stds.append(part.std(window, 0.5 * g, leaf, age))  # drifted since
    assert torch.allclose(*stds, rtol=1e-12)
    want = 0.5 * 25 * UM * 0.0088 * np.log((1e4 + 20) / 500e-9) ** 0.5
    assert stds[0][-1].item() == pytest.approx(want, rel=1e-6)


def test_drift_exponents_follow_their_curves():
    law = StateDrift(nu=Table((0.0, 1.0), (0.1, 0.04)), sigma=Polynomial((0.02, -0.02)), t0=5.0)
    device = Device(*WINDOW, retention=law)
    generator = torch.Generator().manual_seed(0)
    for x in (0.25, 0.75, 1.0):
        state = device.fabricate((N,), generator=generator, dtype=torch.float64)
        g = torch.full((N,), WINDOW.g_min + x * WINDOW.span, dtype=torch.float64)
        state = device.program(state, g, generator=generator)
        later = device.advance(device.advance(state, 95.0), 400.0)
        nu = -(later.g / g).log() / np.log(505 / 5)
        assert nu.mean().item() == pytest.approx(0.1 - 0.06 * x, abs=4 * 0.02 / N**0.5 + 1e-12)
        assert nu.std().item() == pytest.approx(0.02 * (1 - x), rel=ERROR, abs=1e-12)


def test_bad_curves_are_refused_by_name():
    for wrong, kind, words in [
        (dict(sigma=-0.1), ValueError, "sigma must be >= 0"),
        (dict(sigma="big"), TypeError, "sigma must be a real number"),
        (dict(sigma=Polynomial((-1.0, 0.1))), ValueError, "sigma must be >= 0 somewhere"),
        (dict(sigma=lambda x: x.log()), ValueError, "finite on the window"),
        (dict(sigma=lambda x: 0.1), TypeError, "tensor like its x"),
        (dict(absolute=1), TypeError, "absolute must be True or False"),
    ]:
        for part in (StateWrite, StateRead):
            with pytest.raises(kind, match=words):
                part(**wrong)
    for kind, words, make in [
        (ValueError, "at least one", lambda: Polynomial(())),
        (ValueError, r"coefficients\[1\] must be finite", lambda: Polynomial((0.0, np.inf))),
        (ValueError, "x must increase", lambda: Table((0.0, 0.0), (1.0, 2.0))),
        (ValueError, "at least two points", lambda: Table((0.0, 1.0), (1.0,))),
        (ValueError, "t0 must be >= 2.5e-07 s", lambda: FlickerRead(t0=0.0)),
        (ValueError, "t0 must be > 0 s", lambda: StateDrift(t0=0.0)),
        (ValueError, r"devices must be in \[1, 2\]", lambda: HermesWrite(3)),
        (ValueError, "levels must be >= 2", lambda: FiniteLevels(1)),
        (TypeError, "write must be a Write", lambda: FiniteLevels(4, PCMRead())),
    ]:
        with pytest.raises(kind, match=words):
            make()


# ---- HERMES ------------------------------------------------------------------------------------

HERMES = {  # x: error [µS], mean and spread of ν, Q, from the published fits by hand
    1: {
        0.05: (0.2686857, 0.0977338, 0.0336488, 0.0271667),
        0.2: (0.5416890, 0.0693360, 0.0170133, 0.0192832),
        0.5: (0.8653129, 0.0564000, 0.0120750, 0.0217000),
        1.0: (1.0075671, 0.0174000, 0.0055000, 0.0168000),
    },
    2: {
        0.05: (0.3813190, 0.0977338, 0.0293501, 0.0281501),
        0.2: (0.8079216, 0.0693360, 0.0131305, 0.0154552),
        0.5: (0.9910132, 0.0564000, 0.0090000, 0.0167125),
        1.0: (1.0926986, 0.0174000, 0.0048000, 0.0123000),
    },
}


@pytest.mark.parametrize("n", [1, 2])
def test_hermes_cells_have_their_published_error_drift_and_noise(n):
    device = getattr(presets, f"hermes_{n}")()
    assert device.g_max == pytest.approx((10.35 * n) * UM)
    t0 = {1: 200.0, 2: 300.0}[n]
    generator = torch.Generator().manual_seed(0)
    for x, (error, mean, spread, q) in HERMES[n].items():
        g = torch.full((N,), x * device.g_max, dtype=torch.float64)
        off = device.write.program(device.window, g, Draw.like(g, generator)) - g
        assert off.std().item() / UM == pytest.approx(error, rel=ERROR)
        state = device.fabricate((N,), generator=generator, dtype=torch.float64)
        exact = Device(0.0, device.g_max, read=device.read, retention=device.retention)
        state = exact.advance(exact.program(state, g, generator=generator), 86400.0)
        nu = -(state.g / g).log() / np.log((86400 + t0) / t0)
        assert nu.mean().item() == pytest.approx(mean, abs=4 * spread / N**0.5 + 1e-6)
        assert nu.std().item() == pytest.approx(spread, rel=ERROR + 0.02)
        noise = exact.std(state) / state.g
        want = q * np.log((86400 + t0 + 512e-9) / (2 * 512e-9)) ** 0.5
        assert noise.mean().item() == pytest.approx(want, rel=1e-4)


def test_two_devices_are_written_and_drift_with_less_error_relative_to_the_window():
    one, two = HermesWrite(1), HermesWrite(2)
    windows = Window(0.0, 10.35 * UM), Window(0.0, 20.7 * UM)
    relative = [w.std(v, X * v.g_max) / v.g_max for w, v in zip((one, two), windows, strict=True)]
    assert bool((relative[1] < relative[0]).all())
    check(HermesDrift(1))
    check(HermesRead(1))


# ---- finite levels -----------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 3, 16])
def test_written_cells_stand_on_equal_levels_of_the_window(levels):
    device = Device(*WINDOW, write=FiniteLevels(levels))
    target = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = WINDOW.g_min + target * WINDOW.span
    state = device.fabricate((2000,), dtype=torch.float64)
    got = device.program(state, target).g.numpy()
    ladder = np.linspace(*WINDOW, levels)
    nearest = ladder[np.abs(target.numpy()[:, None] - ladder).argmin(1)]
    assert np.allclose(got, nearest, rtol=1e-12)
    assert len(np.unique(got.round(12))) == levels


def test_the_error_comes_on_top_of_the_level():
    device = Device(*WINDOW, write=FiniteLevels(4, GaussianWrite(0.01)))
    target = torch.full((N,), WINDOW.g_min + 0.4 * WINDOW.span, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    got = device.write.program(WINDOW, target, Draw.like(target, generator))
    assert (got.mean() - WINDOW.g_min) / WINDOW.span == pytest.approx(1 / 3, abs=4 * 0.01 / N**0.5)
    assert got.std() / WINDOW.span == pytest.approx(0.01, rel=ERROR)


def test_gradients_pass_the_rounding():
    device = Device(*WINDOW, write=FiniteLevels(4))
    target = torch.full((3,), 20 * UM, dtype=torch.float64, requires_grad=True)
    g = device.rehearse(target).g
    assert g[0].item() == pytest.approx(WINDOW.g_min + WINDOW.span / 3)
    g.sum().backward()
    assert torch.equal(target.grad, torch.ones_like(target))
