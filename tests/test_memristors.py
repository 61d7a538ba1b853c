"""Voltage-driven memristors against SciPy's integrator, in equations of the sources' own."""

import numpy as np
import pytest
import torch
from _laws import WINDOW, counts, one_by_one, same_moments, start
from scipy.integrate import solve_ivp

from devices import Device, IonDrift, Pulses, SinhIV, StanfordRRAM, Yakopcic

LOW, HIGH = WINDOW
SPAN = HIGH - LOW


def ion_drift(law, g):
    """Strukov et al.: the doped width w [m] of the film; x = w/D."""
    on, off = 1 / HIGH, 1 / LOW
    d, mu = law.thickness, law.mobility

    def window(x, i):
        if law.boundary == "joglekar":
            return 1 - (2 * x - 1) ** (2 * law.p)
        if law.boundary == "biolek":
            return 1 - (x - (1.0 if i < 0 else 0.0)) ** (2 * law.p)
        if law.boundary == "prodromakis":
            return 1 - ((x - 0.5) ** 2 + 0.75) ** law.p
        return 1.0

    def slope(v, w):
        x = min(max(w / d, 0.0), 1.0)
        i = v / (on * x + off * (1 - x))
        return mu * on / d * i * window(x, i)

    return slope, (off - 1 / g) / (off - on) * d, d, lambda w: 1 / (off - (off - on) * w / d)


def yakopcic(law, g):
    def slope(v, x):
        x = min(max(x, 0.0), 1.0)
        if v > law.v_p:
            weight = (law.x_p - x) / (1 - law.x_p) + 1
            f = np.exp(-law.alpha_p * (x - law.x_p)) * weight if x >= law.x_p else 1.0
            return law.a_p * (np.exp(v) - np.exp(law.v_p)) * f
        if v < -law.v_n:
            f = np.exp(law.alpha_n * (x + law.x_n - 1)) * x / (1 - law.x_n)
            return -law.a_n * (np.exp(-v) - np.exp(law.v_n)) * (f if x <= 1 - law.x_n else 1.0)
        return 0.0

    return slope, (g - LOW) / SPAN, 1.0, lambda x: LOW + SPAN * x


def stanford(law, g):
    """The gap [nm], between 0.2 nm at g_max and what g_min makes of it."""
    k_b, q = 1.380649e-23, 1.602176634e-19
    near, decay = law.gap_min * 1e9, law.g_0 * 1e9
    i_0 = HIGH * law.v_0 * np.exp(near / decay)

    def slope(v, gap):
        gamma = law.gamma_0 - law.beta * gap**3
        if gamma * abs(v) / law.oxide < law.f_min:
            return 0.0
        current = i_0 * np.exp(-gap / decay) * np.sinh(v / law.v_0)
        t = law.t_0 + law.r_th * abs(v * current)
        pull = np.sinh(gamma * law.a_0 / law.oxide * q * v / (k_b * t))
        return -1e9 * law.velocity * np.exp(-q * law.e_a / (k_b * t)) * pull

    back = lambda gap: i_0 / law.v_0 * np.exp(-gap / decay)  # noqa: E731
    return slope, near + decay * np.log(HIGH / g), (near, near + decay * np.log(HIGH / LOW)), back


LAWS = {  # law, its oracle, amplitude [V], duration of a period [s]
    "ion none": (IonDrift(boundary="none"), ion_drift, 1.0, 0.03),
    "ion joglekar": (IonDrift(boundary="joglekar", p=2), ion_drift, 1.0, 0.4),
    "ion biolek": (IonDrift(p=3), ion_drift, 1.0, 0.3),
    "ion prodromakis": (IonDrift(boundary="prodromakis", p=4), ion_drift, 1.0, 0.6),
    "yakopcic": (Yakopcic(), yakopcic, 0.5, 2e-3),
    "stanford": (StanfordRRAM(), stanford, 1.4, 1e-7),
}
SHAPES = {
    "triangle": lambda s: 1 - abs(4 * ((s + 0.25) % 1) - 2),
    "sine": lambda s: np.sin(2 * np.pi * s),
    "pulses": lambda s: np.array([0.8, 0.0, 0.9, -0.8, 0.1, -1.0])[int(6 * s)],
}
STEPS = 24


def waveform(shape, amplitude):
    """A staircase, so that both sides integrate the same voltage."""
    return [amplitude * float(SHAPES[shape]((k + 0.5) / STEPS)) for k in range(STEPS)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("law,oracle,volt,period", LAWS.values(), ids=LAWS)
def test_memristors_follow_their_equation(law, oracle, volt, period, shape):
    device, state, _ = start(law, 0.3, 1)
    slope, y, ends, conductance = oracle(law, LOW + 0.3 * SPAN)
    low, high = ends if isinstance(ends, tuple) else (0.0, ends)
    farthest = 0.0
    for v in waveform(shape, volt):
        state = device.drive(state, torch.full((1,), v, dtype=torch.float64), period / STEPS)
        done = solve_ivp(
            lambda _, y, v=v: [slope(v, min(max(y[0], low), high))],
            (0, period / STEPS),
            [y],
            rtol=1e-9,
            atol=1e-12 * (high - low),
            method="LSODA",
        )
        y = float(np.clip(done.y[0, -1], low, high))
        assert abs(state.g.item() - conductance(y)) < 1e-6 * SPAN
        farthest = max(farthest, abs(state.g.item() - LOW - 0.3 * SPAN))
    assert farthest > 0.02 * SPAN  # it was worth integrating


@pytest.mark.parametrize("law,oracle,volt,period", LAWS.values(), ids=LAWS)
def test_the_loop_is_pinched_at_the_origin(law, oracle, volt, period):
    """I(V) of one sine: two branches apart at half the amplitude, none where V = 0."""
    device, state, _ = start(law, 0.3, 1)
    iv, branches = SinhIV(), []
    for v in waveform("sine", volt):
        held = torch.full((1,), v, dtype=torch.float64)
        state = device.drive(state, held, period / STEPS)
        branches.append(iv.current(state.g, held).item())
    up, down = branches[1], branches[10]  # the same voltage, rising and falling
    assert waveform("sine", volt)[1] == pytest.approx(waveform("sine", volt)[10])
    assert abs(down - up) > 0.02 * abs(up)
    still = device.drive(state, torch.zeros(1, dtype=torch.float64), 1e3)
    assert torch.equal(still.g, state.g)
    assert iv.current(still.g, torch.zeros(1, dtype=torch.float64)).item() == 0


PULSED = [IonDrift(), Yakopcic(), StanfordRRAM()]
IDS = [type(law).__name__ for law in PULSED]


@pytest.mark.parametrize("law", PULSED, ids=IDS)
def test_pulses_are_their_voltage_held(law):
    device, state, _ = start(law, 0.4, 1)
    for n in (1, 5, 300):
        for up, volt in ((1, law.v_set), (0, law.v_reset)):
            held = torch.full((1,), volt, dtype=torch.float64)
            driven = device.drive(state, held, n * law.width).g
            pulsed = device.pulse(state, counts(1, n * up, n * (1 - up))).g
            assert abs(pulsed - driven).item() < 2e-4 * SPAN
            assert abs(driven - state.g).item() > 1e-3 * SPAN


@pytest.mark.parametrize("law", PULSED, ids=IDS)
def test_many_mixed_noisy_pulses_are_many_single_ones(law):
    n = 2000
    law = type(law)(sigma_c2c=0.3, width=law.width / 10)
    device, state, generator = start(law, 0.4, n)
    given = counts(n, 25, 10)
    many = device.pulse(state, given, generator=generator).g
    single = one_by_one(device, state, given.up, given.down, generator)
    same_moments(many, single, state.g[0].item(), step=law.step(device.window))


@pytest.mark.parametrize("shared", [False, True])
def test_random_counts_move_as_drawn_ones(shared):
    """Poisson counts of small and of large mean, of a pulse of a hundredth of the window."""
    n, law = 20000, IonDrift(width=1e-4)
    device, state, generator = start(law, 0.4, n)
    for mean in (0.3, 2.0):
        drawn = torch.poisson(torch.full((n,), mean, dtype=torch.float64), generator=generator)
        want = device.pulse(state, Pulses(drawn, torch.zeros_like(drawn))).g - state.g
        given = counts(n, mean, 0, poisson=True)
        if shared:
            z = torch.randn(n, generator=generator, dtype=torch.float64)
            given = given._replace(z=z)
        got = device.pulse(state, given, generator=generator).g - state.g
        error = 4 * want.std().item() * (2 / n) ** 0.5
        assert got.mean().item() == pytest.approx(want.mean().item(), rel=0.03, abs=error)
        assert got.std().item() == pytest.approx(want.std().item(), rel=0.12)
        if shared:
            again = device.pulse(state, given, generator=torch.Generator().manual_seed(9))
            assert torch.equal(again.g - state.g, got)  # the counts hang on the shared normal alone


@pytest.mark.parametrize("law", PULSED, ids=IDS)
def test_spread_cells_move_at_their_own_pace(law):
    law = type(law)(sigma_d2d=0.2, width=law.width / 50)
    device, state, _ = start(law, 0.4, 20000)
    moved = device.pulse(state, counts(20000, 1, 0)).g - state.g
    assert (moved.std() / moved.mean()).item() == pytest.approx(0.2, rel=0.05)


def test_half_a_voltage_does_its_part():
    law = Yakopcic()
    device, state, _ = start(law, 0.6, 1)
    share = torch.tensor([0.8], dtype=torch.float64)
    up, down = law.partial(state.update, share)
    for part, volt in ((up, law.v_set), (down, law.v_reset)):
        weak, full = (
            device.drive(state, torch.full((1,), v, dtype=torch.float64), 1e-9).g - state.g
            for v in (0.8 * volt, volt)
        )
        assert (weak / full).item() == pytest.approx(part.item(), rel=1e-4)
    assert law.partial(state.update, 0.3 * share)[0].item() == 0  # below the threshold
    assert torch.equal(IonDrift().partial(state.update, share)[0], share)


def test_stanford_gap_stands_still_below_its_least_field():
    device, state, _ = start(StanfordRRAM(), 0.4, 3)
    v = torch.tensor([1.0, -1.0, 1.2], dtype=torch.float64)
    moved = device.drive(state, v, 1e-6).g
    assert torch.equal(moved[:2], state.g[:2]) and moved[2] > state.g[2]


def test_bad_settings_are_refused_by_name():
    for words, make in [
        ("boundary must be one of", lambda: IonDrift(boundary="square")),
        ("mobility must be > 0", lambda: IonDrift(mobility=0.0)),
        ("v_set must be above v_p", lambda: Yakopcic(v_set=0.1)),
        (r"x_p must be in \[0, 0.999\]", lambda: Yakopcic(x_p=1.0)),
        ("e_a must be > 0 eV", lambda: StanfordRRAM(e_a=-1.0)),
        ("-v_reset must be > 0 V", lambda: StanfordRRAM(v_reset=1.0)),
        ("needs g_min > 0", lambda: Device(0.0, 1e-5, update=IonDrift()).fabricate((2,))),
        ("needs g_min > 0", lambda: Device(0.0, 1e-5, update=StanfordRRAM()).fabricate((2,))),
        ("beta must be below", lambda: Device(1e-12, 1e-3, update=StanfordRRAM()).fabricate((2,))),
    ]:
        with pytest.raises(ValueError, match=words):
            make()
