"""JART VCM v1b against SciPy in equations of its own, and against a fit that others published."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from devices import JART, Device, Pulses

WINDOW = (20e-6, 500e-6)
Q, K, H, EPS, M = 1.602176634e-19, 1.380649e-23, 6.62607015e-34, 8.8541878128e-12, 9.1093837015e-31
DENSITIES = (0.008, 0.06, 0.2, 0.5, 1.99, 5.0, 20.0)  # [1e26/m³]


class Cell:
    """The source's circuit with the source's polarity, one cell."""

    def __init__(self, r=45e-9, disc=0.4e-9, n_min=0.008e26, n_max=20e26):
        self.r, self.disc, self.n_min, self.n_max = r, disc, n_min, n_max
        self.area = np.pi * r**2
        self.plug = 2.6e-9 if disc == 0.4e-9 else 3e-9 - disc
        self.r_plug = self.plug / (20e26 * 2 * Q * 4e-6 * self.area)

    def through(self, i, v, n):
        disc = self.disc / (n * 2 * Q * 4e-6 * self.area)
        lines = 650 + 719.244 * (1 + 719.244 * 3.92e-3 * i**2 * 90471.47)
        contact = v - i * (disc + self.r_plug + lines)
        r_th = 15.72e6 * (45e-9 / self.r) ** 2 * (0.27 if v > 0 else 1.0)
        return disc, contact, 293 + i * (contact + i * (disc + self.r_plug)) * r_th

    def schottky(self, v, n, t):
        psi = 0.18 - 0.1 - v
        phi = 0.18
        if psi > 0:
            phi -= (Q**3 * 2 * n * psi / (8 * np.pi**2 * (5.5 * EPS) ** 3)) ** 0.25
        phi = max(phi, 0.0)
        if v >= 0:
            out, back = np.exp(Q * (v - phi) / K / t), np.exp(-Q * phi / K / t)
            return self.area * 6.01e5 * t**2 * (out - back)
        w = Q * H / (4 * np.pi) * np.sqrt(2 * n / (M * 17 * EPS))
        u = w / K / t
        shape = np.sqrt(np.pi * w * Q * (-v + phi / np.cosh(u) ** 2))
        e = w / (u - np.tanh(u))
        tunnelled = np.exp(-Q * phi * np.tanh(u) / w) * np.expm1(-Q * v / e)
        return -self.area * 6.01e5 * t / K * shape * tunnelled

    def current(self, v, n):
        """The largest of the currents that balance a RESET, the least of a SET."""

        def over(i):
            _, contact, t = self.through(i, v, n)
            return self.schottky(contact, n, t) - i

        most = v / (650 + 719.244)
        tried = np.linspace(most, 0.0, 201)[1:-1]
        tried = tried if v > 0 else tried[::-1]
        with np.errstate(over="ignore"):  # far from the balance
            signs = np.sign([over(i) for i in tried])
            first = int(np.flatnonzero(signs[1:] != signs[:-1])[0])
            return brentq(over, tried[first], tried[first + 1], xtol=1e-20, rtol=1e-14)

    def slope(self, v, n):
        """dN/dt under v of the source's polarity."""
        i = self.current(v, n)
        disc, contact, t = self.through(i, v, n)
        if v > 0:
            field, near = (contact + i * (disc + self.r_plug)) / 3e-9, 1 - (self.n_min / n) ** 10
        else:
            field, near = i * disc / self.disc, 1 - (n / self.n_max) ** 10
        gamma = 2 * 0.25e-9 * field / (np.pi * 1.35)
        even = np.sqrt(1 - gamma**2) + gamma * np.arcsin(gamma)
        forth, back = (1.35 * Q * (even - s * gamma * np.pi / 2) for s in (1, -1))
        jumps = np.exp(-forth / K / t) - np.exp(-back / K / t)
        ion = 2 * Q * (20e26 + n) / 2 * 0.25e-9 * 2e13 * self.area * jumps * near
        return -ion / (self.area * self.disc * Q * 2)

    def conductance(self, n):
        return self.current(-0.2, n) / -0.2


def cells(law, at):
    device = Device(*WINDOW, update=law)
    state = device.fabricate((len(at),), dtype=torch.float64)
    return device, state._replace(g=torch.tensor(at, dtype=torch.float64))


@pytest.mark.parametrize("v", [0.05, 0.2, 0.7, -0.05, -0.2, -0.342, -1.0])
def test_the_circuit_is_balanced_as_scipy_balances_it(v):
    law, cell = JART(), Cell()
    n = 1e26 * torch.tensor(DENSITIES, dtype=torch.float64)
    found = law._point(torch.tensor(v, dtype=torch.float64), n, law._nominal()).current
    for own, density in zip(found.tolist(), DENSITIES, strict=True):
        assert own == pytest.approx(cell.current(v, density * 1e26), rel=1e-9, abs=0)


def test_reads_are_those_of_a_fit_that_others_made_of_the_model():
    """Read current at 0.2 V of the RESET polarity as aihwkit's pull request 501 fitted it."""
    law, v = JART(), 0.2
    for density in DENSITIES:
        curve = 5.548 + 6.8648 * v + 51.586 * np.exp(-0.36 * v)
        curve *= (density / 0.008) ** -1.054
        fit = -4.84e-3 * np.expm1(-0.1353 * v) / (1 + curve) ** (1 / 1.0526)
        n = torch.tensor([density * 1e26], dtype=torch.float64)
        own = law._point(torch.tensor(v, dtype=torch.float64), n, law._nominal()).current.item()
        assert own == pytest.approx(fit, rel=0.08)


@pytest.mark.parametrize("volts", [(0.342,) * 2, (-0.7065,) * 2, (0.5, -0.8)])
def test_it_follows_its_equation(volts):
    law, cell, g, seconds = JART(), Cell(), 120e-6, 2e-8
    device, state = cells(law, [g])
    n = brentq(lambda n: cell.conductance(n) - g, 0.008e26, 20e26, xtol=1e12, rtol=1e-14)
    for v in volts:
        state = device.drive(state, torch.full((1,), v, dtype=torch.float64), seconds)
        done = solve_ivp(
            lambda _, y, v=v: [cell.slope(-v, np.exp(y[0])) / np.exp(y[0])],
            (0, seconds),
            [np.log(n)],
            rtol=1e-9,
            method="LSODA",
        )
        n = float(np.exp(done.y[0, -1]))
        assert state.g.item() == pytest.approx(cell.conductance(n), abs=5e-6 * 480e-6)
    assert abs(state.g.item() - g) > 1e-9


def test_pulses_go_both_ways_and_saturate():
    device, state = cells(JART(), [150e-6, 200e-6, 450e-6])
    many = torch.full((3,), 30.0, dtype=torch.float64)
    up = device.pulse(state, Pulses(many, 0 * many)).g
    down = device.pulse(state, Pulses(0 * many, many)).g
    assert bool((up > state.g + 1e-6).all()) and bool((down < state.g - 1e-6).all())
    assert bool((up <= WINDOW[1]).all()) and bool((down >= WINDOW[0]).all())


def test_the_table_of_alike_cells_is_the_equation():
    law, p = JART(), JART()._nominal()
    window = Device(*WINDOW, update=law).window
    x = torch.rand(2000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for v in (law.v_set, law.v_reset):
        volts = torch.tensor(v, dtype=torch.float64)
        own = law._speed(window, x, volts, p)
        off = (law._flow(window, volts, p)(x) / own - 1).abs()
        assert off.median() < 1e-8 and off.max() < 1e-3  # a RESET has a kink


def test_cells_differ_in_what_the_source_varies():
    law = JART(sigma_radius=0.1, sigma_disc=0.1, sigma_n_min=0.2, sigma_n_max=0.05)
    device = Device(*WINDOW, update=law)
    p = device.fabricate((4000,), generator=torch.Generator().manual_seed(0)).update
    for field, nominal, sigma in (
        ("radius", 45e-9, 0.1),
        ("disc", 0.4e-9, 0.1),
        ("n_min", 0.008e26, 0.2),
        ("n_max", 20e26, 0.05),
    ):
        drawn = getattr(p, field) / nominal
        # σ/√(2n) of a standard deviation, σ/√n of a mean: within four of them, less 1.3 % for 3 σ
        assert drawn.std().item() == pytest.approx(0.987 * sigma, rel=0.05)
        assert drawn.mean().item() == pytest.approx(1.0, abs=4 * sigma / 4000**0.5)
        assert (drawn - 1).abs().max().item() <= 3 * sigma * (1 + 1e-6)
    few = type(p)(*(t[:3].double() if t.dim() else t.double() for t in p))
    x = law._state(device.window, torch.full((3,), 2e-4, dtype=torch.float64), few)
    slopes = law._speed(device.window, x, torch.tensor(0.342, dtype=torch.float64), few)
    for k in range(3):
        own = Cell(*(float(t[k]) for t in few[1:]))
        n = brentq(lambda n, own=own: own.conductance(n) - 2e-4, own.n_min, own.n_max, rtol=1e-13)
        wide = np.log(own.n_max / own.n_min)
        assert float(x[k]) == pytest.approx(np.log(n / own.n_min) / wide, abs=1e-8)
        assert float(slopes[k]) == pytest.approx(own.slope(-0.342, n) / n / wide, rel=1e-5)


@pytest.mark.parametrize(
    "words,make",
    [
        ("n_min must be below n_max", lambda: JART(n_min=30e26)),
        ("disc must be below cell", lambda: JART(disc=4e-9)),
        ("fermi must be below barrier", lambda: JART(fermi=0.3)),
        ("reset_share must be in", lambda: JART(reset_share=2.0)),
        ("r_series", lambda: JART(r_series=0.0, r_line=0.0)),
        ("sigma_disc must be >= 0", lambda: JART(sigma_disc=-0.1)),
        ("radius must be > 0 m", lambda: JART(radius=0.0)),
        ("JART reaches 9.5", lambda: Device(1e-6, 5e-4, update=JART()).fabricate((2,))),
    ],
)
def test_what_cannot_be_is_refused(words, make):
    with pytest.raises(ValueError, match=words):
        make()
