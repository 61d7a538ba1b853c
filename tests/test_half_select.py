"""Half-selected cells in training, against a loop over pulses written from the line voltages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crossbar as xb
from crossbar.operations import Conv, Matmul
from crossbar.pulses import aggregated, exact, sequential
from crossbar.quantise import balanced
from crossbar.windows import Window
from crossbar.wires import tiled_write_shares
from devices import VTEAM, AbruptReset, ConstantStep, Device, PowerLawDrift, SoftBounds
from tests._analog import cells_of, update
from tests.circuit_cases import dense

STEP, LOW, HIGH = 0.02e-6, 1e-6, 100e-6
V, V0 = 1.2, 0.2
Part = Callable[[np.ndarray], np.ndarray]  # of a whole step at each cell's voltage, 0 … V


def sinh_law(u: np.ndarray) -> np.ndarray:
    return np.sinh(u / V0) / math.sinh(V / V0)


def voltages(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Of every cell, wordline minus bitline, on ideal lines."""
    return rows[:, None] - cols[None, :]


def played(
    g: np.ndarray,
    bits_x: np.ndarray,  # (slots, rows) signed
    bits_d: np.ndarray,  # (slots, cols) signed
    signs: tuple[np.ndarray, np.ndarray],  # of the vector that the bits stand for
    step: Callable[[np.ndarray, float], np.ndarray],
    cells: Callable[[np.ndarray, np.ndarray], np.ndarray] = voltages,
    part: Part = sinh_law,
) -> np.ndarray:
    """One device after one vector's trains: slot by slot, phase by phase, from line voltages."""
    g = g.copy()
    for bx, bd in zip(bits_x, bits_d, strict=True):
        for sx, sd in itertools.product((1, -1), (-1, 1)):
            if not (signs[0] == sx).any() or not (signs[1] == sd).any():
                continue  # nothing to fire in this phase
            direction = -sx * sd  # +1 potentiates
            rows = direction * V / 2 * (bx == sx)
            cols = -direction * V / 2 * (bd == sd)
            u = direction * cells(rows, cols)
            assert (u > -1e-12).all()
            g = g + direction * part(np.maximum(u, 0)) * step(g, direction)
    return g


def constant(g: np.ndarray, direction: float) -> np.ndarray:
    return np.full_like(g, STEP)


def soft(g: np.ndarray, direction: float) -> np.ndarray:
    """Linear bounds; STEP at mid-window in both directions."""
    room = HIGH - g if direction > 0 else g - LOW
    return 2 * STEP * room / (HIGH - LOW)


def model(
    scheme: xb.Scheme,
    write: xb.ParallelWrite | None,
    route: xb.Route | None = None,
    update: Any = None,
    shape: tuple[int, int] = (5, 4),
    **settings: Any,
) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(*shape, bias=False, dtype=torch.float64)
    nn.init.uniform_(layer.weight, -0.3, 0.3)
    device = settings.pop("device", None) or Device(LOW, HIGH, update or ConstantStep(STEP))
    mapping = xb.Differential(route or xb.PushPull(), w_max=0.5)
    chip = xb.Chip(device, mapping, write=write, **settings)
    return xb.convert(nn.Sequential(layer), chip, mode=xb.InSitu(scheme), seed=0)


def rate_to_lr(array: Any, rate: float) -> float:
    """Learning rate of `rate` coincidences per unit of |x δ|."""
    route, window = array.chip.mapping.route, array.chip.device.window
    return rate * STEP / window.span * route.gain / route.span * float(array.w_max)


HALF = xb.ParallelWrite(V, V0, half_select=True)
TERNARY_X = torch.tensor(
    [[1, 0, 1, -1, 0], [1, 1, 0, 0, 1], [0, -1, -1, 0, 0], [0, 1, 0, 0, 1]], dtype=torch.float64
)
TERNARY_D = torch.tensor(
    [[1, -1, 0, 0], [-1, 0, 1, 1], [1, 1, 0, -1], [0, 0, 0, 1]], dtype=torch.float64
)
SCHEMES = [
    xb.Expected(),
    xb.Aggregated(bl=8),
    xb.ExactBits(bl=8),
    xb.Sequential(xb.ExactBits(bl=8)),
    xb.Sequential(xb.Aggregated(bl=8)),
]


def sequence(array: Tensor, route: xb.Route, trains: Any, **laws: Any) -> np.ndarray:
    """Both devices of every pair after the trains, each in an array of its own."""
    g = array.numpy().copy()
    for bits_x, bits_d, x, d in trains:
        signs = (np.sign(x), np.sign(d))
        if isinstance(route, xb.OneSided):
            # each device is only ever raised: its depression phases are not played
            for k, sign in enumerate((1, -1)):
                g[k] = raised(g[k], bits_x, sign * bits_d, (signs[0], sign * signs[1]), **laws)
            continue
        g[0] = played(g[0], bits_x, bits_d, signs, **laws)
        if isinstance(route, xb.PushPull):
            g[1] = played(g[1], bits_x, -bits_d, (signs[0], -signs[1]), **laws)
    return g


def raised(g: np.ndarray, bits_x: np.ndarray, bits_d: np.ndarray, signs: Any, step: Any) -> Any:
    """`played` with the phases of potentiation alone."""
    return played(g, bits_x, bits_d, signs, lambda g, way: step(g, way) * (way > 0))


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("route", [xb.PushPull(), xb.Reference(), xb.OneSided(None)], ids=repr)
def test_every_scheme_is_the_pulses_themselves_where_no_bit_is_random(
    scheme: xb.Scheme, route: xb.Route
) -> None:
    """Inputs and errors of −1, 0, 1 at three slots each: every bit is certain."""
    net = model(scheme, HALF, route)
    array, before = cells_of(net[0]), cells_of(net[0]).g.clone()  # type: ignore[index]
    update(net[0], TERNARY_X, TERNARY_D, rate_to_lr(array, 3.0))  # type: ignore[index]
    trains = [
        (np.tile(x, (3, 1)), np.tile(d, (3, 1)), x, d)
        for x, d in zip(TERNARY_X.numpy(), TERNARY_D.numpy(), strict=True)
    ]
    wanted = sequence(before, route, trains, step=constant)
    assert np.allclose(array.g.numpy(), wanted, rtol=0, atol=1e-6 * STEP)
    moved = np.abs(wanted - before.numpy())
    disturbed = (moved > 0) & (moved < 0.9 * STEP)
    assert disturbed.any(), "some cell is moved by disturb pulses alone"


def test_the_order_of_pulses_matters_little_on_soft_bounds() -> None:
    """A state-dependent law, one vector after another, to 1 % of a step."""
    net = model(xb.Sequential(xb.ExactBits(bl=8)), HALF, update=SoftBounds(STEP))
    array, before = cells_of(net[0]), cells_of(net[0]).g.clone()  # type: ignore[index]
    update(net[0], TERNARY_X, TERNARY_D, rate_to_lr(array, 3.0))  # type: ignore[index]
    trains = [
        (np.tile(x, (3, 1)), np.tile(d, (3, 1)), x, d)
        for x, d in zip(TERNARY_X.numpy(), TERNARY_D.numpy(), strict=True)
    ]
    wanted = sequence(before, xb.PushPull(), trains, step=soft)
    assert np.allclose(array.g.numpy(), wanted, rtol=0, atol=0.01 * STEP)


ERRORS = np.array([0.8, -0.5, 0.3, -0.02])
INPUTS = np.array([0.9, -0.4, 0.05, 0.0, 0.6])


@pytest.mark.parametrize(
    "scheme",
    [pytest.param(xb.Aggregated(bl=12), marks=pytest.mark.slow), xb.ExactBits(bl=12)],
    ids=repr,
)
def test_mean_and_spread_of_random_trains(scheme: xb.Scheme) -> None:
    """Against 800 updates of NumPy's own random bits; 5.2 standard errors (2e-4 in 1000)."""
    x, d, rate, trials = INPUTS, ERRORS, 9.0, 800
    slots = math.ceil(rate * 0.9 * 0.8)
    root = math.sqrt(rate * 0.9 * 0.8 / slots)
    draw = np.random.default_rng(5)
    net = model(scheme, HALF, xb.Reference())
    array = cells_of(net[0])  # type: ignore[index]
    start, lr = array.g.clone(), rate_to_lr(array, rate)
    moves, theirs = [], []
    for _ in range(trials):
        array.g.copy_(start)
        update(net[0], torch.from_numpy(x)[None], torch.from_numpy(d)[None], lr)  # type: ignore[index]
        moves.append((array.g - start)[0].numpy() / STEP)
        bits_x = np.sign(x) * (draw.random((slots, 5)) < np.abs(x) / 0.9 * root)
        bits_d = np.sign(d) * (draw.random((slots, 4)) < np.abs(d) / 0.8 * root)
        signs = (np.sign(x), np.sign(d))
        theirs.append(played(np.zeros((5, 4)), bits_x, bits_d, signs, constant) / STEP)
    mine, loop = np.array(moves), np.array(theirs)
    error = np.sqrt((mine.var(0) + loop.var(0)) / trials)
    assert (np.abs(mine.mean(0) - loop.mean(0)) <= 5.2 * error + 1e-12).all()
    fourth = ((loop - loop.mean(0)) ** 4).mean(0)
    error = np.sqrt(np.maximum(fourth - loop.var(0) ** 2, 0) * 2 / trials)
    assert (np.abs(mine.var(0) - loop.var(0)) <= 5.2 * error + 0.01 * loop.var(0) + 1e-12).all()


def test_expected_counts_are_their_closed_form() -> None:
    """With phases of both signs disturbs cancel but for the coincidences, which are none."""
    rate, half = 9.0, float(sinh_law(np.array(V / 2)))
    x, d = torch.from_numpy(INPUTS)[None], torch.from_numpy(ERRORS)[None]
    net = model(xb.Expected(), HALF, xb.Reference())
    array, before = cells_of(net[0]), cells_of(net[0]).g.clone()  # type: ignore[index]
    update(net[0], x, d, rate_to_lr(array, rate))  # type: ignore[index]
    wanted = -rate * (x.mT @ d) * (1 - 2 * half)
    assert torch.allclose((array.g - before)[0] / STEP, wanted, rtol=1e-9, atol=1e-9)
    # inputs of one sign: a column's one phase disturbs the row it is not in coincidence with
    array.g.copy_(before)
    x = x.abs()
    update(net[0], x, d, rate_to_lr(array, rate))  # type: ignore[index]
    # rows fire up and down, columns once
    one_sided = -rate * (x.mT @ d) * (1 - 2 * half) - half * rate * d * float(x.max())
    assert torch.allclose((array.g - before)[0] / STEP, one_sided, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_no_disturb_at_half_voltage_is_the_undisturbed_update_to_the_bit(
    scheme: xb.Scheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    # disturbed cells are pulsed vector by vector, and all together
    monkeypatch.setattr(sequential, "ROUNDS", 0)
    monkeypatch.setattr(sequential, "TURN", 0)
    monkeypatch.setattr(exact, "EVENTS", 0)
    monkeypatch.setattr(exact, "HITS", 0)
    monkeypatch.setattr(aggregated, "few_bits", lambda drive: False)
    x, d = torch.randn(6, 5).double(), torch.randn(6, 4).double()
    after = []
    for write in (None, xb.ParallelWrite(V, V / 4000, half_select=True)):
        net = model(scheme, write, update=SoftBounds(STEP, sigma_c2c=0.3, sigma_d2d=0.3))
        # pulses so many that all cells are pulsed together, as disturbed ones always are
        update(net[0], x, d, rate_to_lr(cells_of(net[0]), 2.0))  # type: ignore[index]
        after.append(cells_of(net[0]).g)  # type: ignore[index]
    assert torch.equal(*after)


@pytest.mark.parametrize("scheme", [xb.Aggregated(bl=8), xb.ExactBits(bl=8)], ids=repr)
def test_wires_leave_far_cells_less_to_be_disturbed_by(scheme: xb.Scheme) -> None:
    """Whole lines at once, as the option states it: dense nodal voltages in the same loop."""
    wires, tile, shape = xb.Wires(60.0, 90.0), (3, 4), (5, 4)
    net = model(scheme, HALF, shape=shape, wires=wires, tile=tile)
    array, before = cells_of(net[0]), cells_of(net[0]).g.clone()  # type: ignore[index]
    update(net[0], TERNARY_X, TERNARY_D, rate_to_lr(array, 3.0))  # type: ignore[index]
    parts = np.zeros((2, 2, 5, 4))  # rows alone, columns alone; device; cells
    for k, (a, b) in itertools.product(range(2), balanced(5, 3)):
        cells = before[k, a:b]
        up, down = torch.ones(b - a).double() * V / 2, -torch.ones(4).double() * V / 2
        parts[0, k, a:b] = dense(cells, wires, up, 0 * down)[1]
        parts[1, k, a:b] = dense(cells, wires, 0 * up, down)[1]
    wanted = before.numpy().copy()
    for k, sign in enumerate((1, -1)):

        def cells_see(rows: np.ndarray, cols: np.ndarray, k: int = k) -> np.ndarray:
            return (  # the sag of all lines at once, for whichever fire
                rows[:, None] / (V / 2) * parts[0, k] - cols[None, :] / (V / 2) * parts[1, k]
            )

        for x, d in zip(TERNARY_X.numpy(), sign * TERNARY_D.numpy(), strict=True):
            trains = (np.tile(x, (3, 1)), np.tile(d, (3, 1)))
            signs = (np.sign(x), np.sign(d))
            wanted[k] = played(wanted[k], *trains, signs, constant, cells_see)
    assert np.allclose(array.g.numpy(), wanted, rtol=0, atol=1e-6 * STEP)
    plain = model(scheme, HALF, shape=shape)
    update(plain[0], TERNARY_X, TERNARY_D, rate_to_lr(array, 3.0))  # type: ignore[index]
    assert not torch.allclose(cells_of(plain[0]).g, array.g, rtol=0, atol=0.01 * STEP)  # type: ignore[index]


def test_a_threshold_above_half_the_voltage_protects() -> None:
    """VTEAM's own law: nothing below the threshold, (u/v_on − 1)^α above it."""
    x, d = torch.ones(1, 5).double(), torch.tensor([[-1.0, 0, 0, 0]]).double()
    half = xb.ParallelWrite(1.0, half_select=True)
    for v_on, moves in ((0.6, False), (0.3, True)):
        law = VTEAM(k_on=2e4, k_off=2e4, v_on=v_on, v_off=-v_on)
        after = []
        for write in (None, half):
            net = model(xb.ExactBits(bl=8), write, xb.Reference(), law)
            array, before = cells_of(net[0]), cells_of(net[0]).g.clone()  # type: ignore[index]
            window = array.chip.device.window
            dw = law.step(window) / window.span / 0.5 * float(array.w_max)
            update(net[0], x, d, 4 * dw)  # type: ignore[index]
            after.append(array.g.clone())
        assert torch.equal(*after) is not moves
        if not moves:
            continue
        # columns 1 to 3 see four row pulses of half the voltage, held by `drive`
        state = array.chip.device.fabricate((5, 3), dtype=torch.float64)
        state = state._replace(g=before[0, :, 1:].clone())
        for _ in range(4):
            state = array.chip.device.drive(state, torch.full((5, 3), 0.5).double(), law.width)
        moved = (state.g - before[0, :, 1:]).abs()
        assert float(moved.min()) > 0
        assert torch.allclose(after[1][0, :, 1:], state.g, rtol=0, atol=1e-3 * float(moved.min()))


def test_a_disturbed_cell_does_not_start_a_new_life() -> None:
    device = Device(LOW, HIGH, ConstantStep(STEP), retention=PowerLawDrift(0.05))
    net = model(xb.ExactBits(bl=8), HALF, xb.Reference(), device=device)
    array = cells_of(net[0])  # type: ignore[index]
    xb.advance(net, 100.0)
    before = array.g.clone()
    x, d = torch.ones(1, 5).double(), torch.tensor([[-1.0, 0, 0, 0]]).double()
    update(net[0], x, d, rate_to_lr(array, 3.0))  # type: ignore[index]
    assert (array.age[0, :, 0] == 0).all() and (array.age[0, :, 1:] == 100).all()
    assert (array.g[0, :, 1:] > before[0, :, 1:]).all()


def test_a_convolution_counts_its_patches() -> None:
    torch.manual_seed(0)
    op = Conv(Window((3, 3), (1, 1), (1, 1), (1, 1), groups=2))
    x, d = torch.randn(3, 4, 5, 5).double(), torch.randn(3, 6, 5, 5).double()
    flat = op.vectors(x, d)
    generator = torch.Generator()
    for scheme in (xb.Expected(), xb.Aggregated(bl=31)):
        pulses, fired = scheme.driven(op, x, d, 0.7, generator=generator)
        bare = scheme.pulses(op, x, d, 0.7, generator=generator)
        assert torch.equal(pulses.up, bare.up) and fired.rows.up.shape == (2, 18, 1)
        assert fired.cols.down.shape == (2, 1, 3)
        # no line fires less often than it coincides
        for name in ("up", "down"):
            count = getattr(pulses, name)
            for lines in fired:
                assert bool((getattr(lines, name) >= count * (1 - 1e-9)).all())
    # one train length an image: with equal peaks everywhere patches are plain vectors
    x, d = x.sign(), d.sign()
    for scheme in (xb.Expected(), xb.Aggregated(bl=31)):
        image = scheme.driven(op, x, d, 0.7, generator=generator)[1]
        for group in range(2):
            vector = scheme.driven(
                Matmul(), flat[0].sign()[:, group], flat[1].sign()[:, group], 0.7, generator=None
            )[1]
            assert torch.allclose(image.rows.up[group], vector.rows.up)
            assert torch.allclose(image.cols.down[group], vector.cols.down)


def test_what_is_refused() -> None:
    cell = Device(LOW, HIGH, ConstantStep(STEP))
    with pytest.raises(ValueError, match="needs wires or half_select=True"):
        xb.Chip(cell, write=xb.ParallelWrite(V, V0))
    with pytest.raises(ValueError, match="interleaved"):
        xb.Chip(cell, write=HALF, wires=xb.Wires(1.0, 1.0, interleaved=True))
    with pytest.raises(TypeError, match="ConstantStep says nothing of other voltages"):
        xb.Chip(cell, write=xb.ParallelWrite(V, half_select=True))
    with pytest.raises(TypeError, match="AbruptReset needs whole pulses"):
        xb.Chip(Device(LOW, HIGH, AbruptReset(ConstantStep(STEP))), write=HALF)
    with pytest.raises(TypeError, match="Deterministic does not pulse whole lines"):
        model(xb.Deterministic(), HALF)
    with pytest.raises(TypeError, match="half_select must be True or False"):
        xb.ParallelWrite(V, V0, half_select=1)  # type: ignore[arg-type]
    assert eval(repr(HALF), vars(xb)) == HALF


def test_interleaved_pairs_share_the_drop_of_their_wordlines() -> None:
    """Voltages of a write in tiles of alternating bitlines, by the dense nodal solution."""
    g = torch.stack([torch.rand(5, 4).double() * 1e-4 for _ in range(2)])
    wires = xb.Wires(60.0, 90.0, interleaved=True)
    shares = tiled_write_shares(g, wires, (3, 2))
    for a, b in balanced(5, 3):
        for c, d in balanced(4, 2):
            woven = g[:, a:b, c:d].movedim(0, -1).flatten(-2)
            x, y = torch.ones(b - a).double() / 2, -torch.ones(2 * (d - c)).double() / 2
            for k, ends in enumerate(((x, 0 * y), (0 * x, y))):
                wanted = dense(woven, wires, *ends)[1].unflatten(-1, (-1, 2)).movedim(-1, 0)
                assert torch.allclose(shares[k, :, a:b, c:d], wanted, rtol=1e-9)


def test_disturbs_scatter_like_the_part_of_a_pulse_they_are() -> None:
    """ε of a pulse's hops: mean ε and variance ε σ² of a step each; 5 standard errors."""
    sigma, count, cols = 0.3, 40.0, 6000
    law, half = ConstantStep(STEP, sigma_c2c=sigma), float(sinh_law(np.array(V / 2)))
    net = model(xb.ExactBits(bl=64), HALF, xb.Reference(), law, shape=(1, cols))
    array, before = cells_of(net[0]), cells_of(net[0]).g.clone()  # type: ignore[index]
    d = torch.zeros(1, cols).double()
    d[0, 0] = -1
    update(net[0], torch.ones(1, 1).double(), d, rate_to_lr(array, count))  # type: ignore[index]
    moved = ((array.g - before)[0, 0, 1:] / STEP).numpy()
    mean, variance = count * half, count * half * sigma**2
    assert abs(moved.mean() - mean) < 5 * math.sqrt(variance / cols)
    assert abs(moved.var() / variance - 1) < 5 * math.sqrt(2 / cols)
