"""The affine laws against their published equations, pulse by pulse in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import (
    ConstantStep,
    Device,
    LinearStep,
    NeuroSim,
    Pulses,
    SoftBounds,
    SoftBoundsReference,
)

G_MIN, G_MAX = 2e-6, 52e-6
SPAN = G_MAX - G_MIN


def constant(g, up, dg=0.4e-6, u=0.3):
    return np.clip(g + dg * (1 + u / 2) if up else g - dg * (1 - u / 2), G_MIN, G_MAX)


def soft(g, up, dg=0.5e-6, u=-0.2):
    """Fusi & Abbott 2007: the step shrinks in proportion to the distance from the bound."""
    middle = (G_MIN + G_MAX) / 2
    if up:
        return g + dg * (1 + u / 2) * (G_MAX - g) / (G_MAX - middle)
    return g - dg * (1 - u / 2) * (g - G_MIN) / (middle - G_MIN)


def linear(g, up, dg=0.5e-6, gamma=(0.6, 0.25)):
    """aihwkit's LinearStep in conductances: step · (1 ∓ γ x), x = ±1 at the bounds."""
    x = (g - (G_MIN + G_MAX) / 2) / (SPAN / 2)
    moved = g + dg * (1 - gamma[0] * x) if up else g - dg * (1 + gamma[1] * x)
    return np.clip(moved, G_MIN, G_MAX)


LAWS = {
    "constant": (ConstantStep(0.4e-6, up_down=0.3), constant),
    "soft": (SoftBounds(0.5e-6, up_down=-0.2), soft),
    "linear": (LinearStep(0.5e-6, gamma_up=0.6, gamma_down=0.25), linear),
}


def cells(law, g):
    device = Device(G_MIN, G_MAX, update=law)
    state = device.fabricate(tuple(g.shape), dtype=torch.float64)
    return device, state._replace(g=torch.as_tensor(g, dtype=torch.float64))


def pulses(g, up, down):
    return Pulses(
        torch.full(g.shape, float(up)).double(), torch.full(g.shape, float(down)).double()
    )


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("up", [True, False])
def test_curve_is_the_published_equation(name, up):
    """One pulse at a time, and many at once where the law has a closed form: 1e-6 of the range."""
    law, step = LAWS[name]
    start = np.linspace(G_MIN, G_MAX, 23)
    device, state = cells(law, start)
    single, want = state, start
    for count in range(1, 301):
        want = step(want, up)
        single = device.pulse(single, pulses(start, up, not up))
        assert np.abs(single.g.numpy() - want).max() <= 1e-6 * SPAN
        if count in (2, 17, 300):
            many = device.pulse(state, pulses(start, count * up, count * (not up)))
            assert np.abs(many.g.numpy() - want).max() <= 1e-6 * SPAN


@pytest.mark.parametrize("labels", [(2.4, -4.88), (1.75, 1.46), (0.5, -0.5), (0.0, 0.0), (-2, 3)])
def test_neurosim_curves(labels):
    """G = g_min + B(1 − e^{−P/A}) in the two labels' own A (table values of the protocol)."""
    a_of = {
        2.4: 0.49918,
        4.88: 0.20030,
        1.75: 0.70208,
        1.46: 0.84868,
        0.5: 2.5199,
        2: 0.60904,
        3: 0.38683,
    }
    states = (97, 80)
    device, state = cells(NeuroSim(*states, *labels), np.array([G_MIN, G_MAX]))
    for direction, label, n in ((0, labels[0], states[0]), (1, labels[1], states[1])):
        p = np.arange(n + 1)
        if label == 0:
            curve = p / n
        else:
            big_a = math.copysign(a_of[abs(label)] * n, label)
            curve = (1 - np.exp(-p / big_a)) / (1 - np.exp(-n / big_a))
        if direction == 1:
            curve = curve[::-1]  # depression runs its curve backwards from g_max
        for count in (1, 2, n // 3, n):
            up, down = (count, 0) if direction == 0 else (0, count)
            got = (device.pulse(state, pulses(state.g, up, down)).g - G_MIN) / SPAN
            # five published digits of A
            assert float(got[direction]) == pytest.approx(curve[count], abs=2e-4)


@settings(max_examples=60, deadline=None)
@given(
    law=st.sampled_from(
        [
            ConstantStep(0.4e-6, 0.3, sigma_c2c=0.5, sigma_d2d=0.5, sigma_bounds=0.3),
            SoftBounds(0.05e-6, -0.5, sigma_c2c=0.5, sigma_d2d=1.0, sigma_bounds=0.5),
            LinearStep(3e-6, gamma_up=0.9, gamma_down=0.2, sigma_gamma=0.3, sigma_c2c=1.0),
            NeuroSim(40, 64, 4.0, -4.0, sigma_c2c=0.05, sigma_d2d=0.5),
        ]
    ),
    up=st.one_of(st.just(0.0), st.floats(0, 1e7)),
    down=st.one_of(st.just(0.0), st.floats(0, 1e7)),
    moments=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_never_leaves_its_bounds(law, up, down, moments, dtype):
    device = Device(G_MIN, G_MAX, update=law)
    generator = torch.Generator().manual_seed(0)
    state = device.fabricate((3, 50), generator=generator, dtype=dtype)
    low, high = law.bounds(device.window, state.update)
    low, high = torch.as_tensor(low).expand(3, 50), torch.as_tensor(high).expand(3, 50)
    places = torch.linspace(0, 1, 150, dtype=dtype).view(3, 50)
    state = state._replace(g=torch.lerp(low.to(dtype), high.to(dtype), places))
    counts = [torch.full((3, 50), c, dtype=dtype) for c in (up, down)]
    given = Pulses(*counts, *(counts if moments else (None, None)))
    g = device.pulse(state, given, generator=generator).g
    assert g.dtype == dtype and bool(g.isfinite().all())
    assert bool((g >= low * (1 - 1e-6)).all() and (g <= high * (1 + 1e-6)).all())


def test_a_drifted_cell_is_not_pulled_in():
    """The move is clipped, not the cell: below g_min it may rise but not fall."""
    device, state = cells(ConstantStep(0.5e-6), np.array([1e-6, 1e-6]))
    up_first = Pulses(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0]))
    g = device.pulse(state, up_first).g
    assert float(g[0]) == pytest.approx(1.5e-6) and float(g[1]) == pytest.approx(1e-6)


@pytest.mark.parametrize("law", [ConstantStep, SoftBounds, LinearStep])
def test_spread_has_the_declared_sigma(law):
    """Steps at mid-window over 40 000 cells: mean and standard deviation, 5 standard errors."""
    n = 40_000
    device = Device(G_MIN, G_MAX, update=law(0.1e-6, up_down=0.2, sigma_d2d=0.2, sigma_up_down=0.1))
    state = device.fabricate((n,), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    middle = (G_MIN + G_MAX) / 2
    state = state._replace(g=torch.full((n,), middle, dtype=torch.float64))
    one, none = torch.ones(n).double(), torch.zeros(n).double()
    up = (device.pulse(state, Pulses(one, none)).g - middle) / 0.1e-6
    down = (middle - device.pulse(state, Pulses(none, one)).g) / 0.1e-6
    size, tilt = (up + down) / 2, (up - down) / (up + down)
    for got, mean, sigma in ((size, 1.0, 0.2), (tilt, 0.1, 0.1)):
        assert float(got.mean()) == pytest.approx(mean, abs=5 * sigma / n**0.5 + 1e-3)
        assert float(got.std()) == pytest.approx(sigma, rel=5 / (2 * n) ** 0.5 + 2e-3)
    assert abs(float(torch.corrcoef(torch.stack([size, tilt]))[0, 1])) < 5 / n**0.5


@pytest.mark.parametrize(
    ("law", "count", "want"),
    [
        (ConstantStep(0.1e-6, sigma_c2c=0.4), 1, 0.4 * 0.1e-6),
        (ConstantStep(0.1e-6, sigma_c2c=0.4), 9, 0.4 * 0.1e-6 * 3),
        (SoftBounds(0.1e-6, sigma_c2c=0.4), 1, 0.4 * 0.1e-6),
        (SoftBounds(5e-6, sigma_c2c=0.1), 1, 0.1 * 5e-6),  # ten states
        (SoftBounds(0.1e-6, sigma_add=0.4), 1, 0.4 * 0.1e-6),
        (NeuroSim(50, 50, sigma_c2c=0.01), 4, 0.01 * SPAN * 2),
    ],
)
def test_cycle_noise_has_the_declared_sigma(law, count, want):
    n = 40_000
    middle = np.full(n, (G_MIN + G_MAX) / 2)
    device, state = cells(law, middle)
    generator = torch.Generator().manual_seed(2)
    g = device.pulse(state, pulses(middle, count, 0), generator=generator).g
    assert float(g.std()) == pytest.approx(want, rel=5 / (2 * n) ** 0.5 + 1e-3)


def test_bounds_spread():
    n = 40_000
    device = Device(G_MIN, G_MAX, update=ConstantStep(1e-6, sigma_bounds=0.1))
    state = device.fabricate((n,), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    full = Pulses(torch.full((n,), 1e6).double(), torch.zeros(n).double())
    top = (device.pulse(state, full).g - (G_MIN + G_MAX) / 2) / (SPAN / 2)
    assert float(top.mean()) == pytest.approx(1.0, abs=5 * 0.1 / n**0.5)
    assert float(top.std()) == pytest.approx(0.1, rel=5 / (2 * n) ** 0.5)


def test_states_set_the_step():
    law = SoftBounds.with_states(500, G_MIN, G_MAX, sigma_c2c=0.1)
    assert law.dg_min == pytest.approx(SPAN / 500) and law.sigma_c2c == 0.1


def test_adding_a_part_leaves_the_chip_as_it_was():
    from devices import GaussianRead, PowerLawDrift

    bare = Device(G_MIN, G_MAX, update=SoftBounds(0.1e-6, sigma_d2d=0.3))
    rich = Device(
        G_MIN, G_MAX, bare.update, read=GaussianRead(0.1), retention=PowerLawDrift(0.05, 0.3)
    )
    a, b = (d.fabricate((9,), generator=torch.Generator().manual_seed(4)) for d in (bare, rich))
    assert torch.equal(a.update.k, b.update.k)


def test_large_arrays_are_walked_in_blocks_of_the_same_law():
    law = SoftBounds(0.1e-6, sigma_d2d=0.3)
    device = Device(G_MIN, G_MAX, update=law)
    state = device.fabricate((700, 600), generator=torch.Generator().manual_seed(0))
    up = torch.rand(700, 600, generator=torch.Generator().manual_seed(1)) * 5
    whole = device.pulse(state, Pulses(up, up / 2)).g
    rows = [
        device.pulse(
            state._replace(
                g=state.g[i],
                update=type(state.update)(
                    *(t if t is None or not t.dim() else t[i] for t in state.update)
                ),
            ),
            Pulses(up[i], up[i] / 2),
        ).g
        for i in range(0, 700, 50)
    ]
    torch.testing.assert_close(whole[::50], torch.stack(rows), rtol=0, atol=1e-6 * SPAN)


@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("reference", [0.0, -0.3])
def test_the_step_of_a_referenced_cell_is_that_of_weight_zero(subtract, reference):
    """Where the symmetry point is subtracted, mid-window is not where dg_min is stated."""
    law = SoftBoundsReference(0.1e-6, up_down=0.8, reference=reference, subtract=subtract)
    device, state = cells(law, np.array([(G_MIN + G_MAX) / 2]))
    up, down = (device.pulse(state, pulses(state.g, n, 1 - n)).g - state.g for n in (1, 0))
    assert law.step(device.window) == pytest.approx((up - down).item() / 2, rel=1e-9)
