"""Bits that are enough, and what a bit is worth: arrays as integer arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import crossbar as xb
from devices import Device, GaussianRead

F64 = torch.float64
FREE = Device(2.0**-20, 2.0**-16)
V_MAX = 0.25


def enough(rows: int, m_w: int, m_in: int) -> int:
    """Signed bits that hold every sum of `rows` products of codes up to m_w and m_in."""
    return (rows * m_w * m_in).bit_length() + 1


def integer_chip(
    widths: tuple[int, ...], in_bits: int, in_width: int, bits: int, tile: int | None = None
) -> tuple[xb.Chip, float]:
    """A chip one ADC step of which is an integer share of every slice's unit product.

    Also the logical product, of weights and inputs up to 1, that one unit of the whole integers
    Σ w x stands for.
    """
    common = math.lcm(*(2**width - 1 for width in widths))
    digit, top = 2**in_width - 1, 2 ** (in_bits - 1) - 1
    step = V_MAX * FREE.window.span / (common * digit)
    adc = xb.ADC(bits, range=xb.Fixed(step * (2 ** (bits - 1) - 1)))
    dac = xb.SerialDAC(in_bits, V_MAX, xb.Fixed(1.0), width=in_width)
    if in_width == in_bits - 1:
        dac = xb.DAC(in_bits, V_MAX, xb.Fixed(1.0))
    chip = xb.Chip(
        FREE,
        xb.Slices(widths, w_max=1.0),
        forward=xb.Periphery(dac, adc),
        tile=None if tile is None else (tile, 1000),
    )
    return chip, 1 / ((2 ** sum(widths) - 1) * top)


def product(chip: xb.Chip, w: np.ndarray, x: np.ndarray, top_w: int, top_x: int) -> torch.Tensor:
    A = xb.matrix(torch.tensor(w / top_w, dtype=F64), chip, seed=0)
    return A @ torch.tensor(x / top_x, dtype=F64)


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple),
    in_bits=st.integers(2, 8),
    in_width=st.integers(1, 7),
    rows=st.integers(1, 40),
    tile=st.sampled_from([None, 7]),
    seed=st.integers(0, 2**31),
)
def test_any_slicing_is_the_integer_product(widths, in_bits, in_width, rows, tile, seed):
    check_integers(widths, in_bits, min(in_width, in_bits - 1), rows, tile, seed)


@pytest.mark.parametrize("in_width", [1, 3, 7])
@pytest.mark.parametrize("widths", [(1, 1, 2, 2, 2), (1, 1, 2, 4), (8,), (1,) * 8])
def test_the_slice_lists_of_the_field_are_the_integer_product(widths, in_width):
    check_integers(widths, 8, in_width, 64, None, 5)


def check_integers(widths, in_bits, in_width, rows, tile, seed):
    """y in units of the integers is Python's Σ w x, of any integers."""
    common = math.lcm(*(2**width - 1 for width in widths))
    m_in = 2**in_width - 1
    chip, unit = integer_chip(widths, in_bits, in_width, enough(rows, common, m_in), tile)
    top_w, top_x = 2 ** sum(widths) - 1, 2 ** (in_bits - 1) - 1
    rng = np.random.default_rng(seed)
    w = rng.integers(-top_w, top_w + 1, (3, rows))
    x = rng.integers(-top_x, top_x + 1, rows)
    got = (product(chip, w, x, top_w, top_x) / unit).tolist()
    for y, row in zip(got, w.tolist(), strict=True):
        want = sum(a * b for a, b in zip(row, x.tolist(), strict=True))
        assert round(y) == want and abs(y - want) < 1e-6


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 6), in_bits=st.integers(2, 8), rows=st.integers(1, 64))
def test_one_bit_fewer_than_enough_clips(width, in_bits, rows):
    """All codes maximal, one slice, one step a unit: lossless, and cut with one bit fewer."""
    m_w, m_in = 2**width - 1, 2 ** (in_bits - 1) - 1
    bits = enough(rows, m_w, m_in)
    w, x = np.full((1, rows), m_w), np.full(rows, m_in)
    for fewer, right in ((0, True), (1, False)):
        if bits - fewer < 2:
            continue
        chip, unit = integer_chip((width,), in_bits, in_bits - 1, bits - fewer)
        A = xb.matrix(torch.tensor(w / m_w, dtype=F64), chip, seed=0)
        with xb.observe(A, xb.Tally(A)) as tally:
            y = float(A @ torch.tensor(x / m_in, dtype=F64)) / unit
        assert (abs(y - rows * m_w * m_in) < 1e-6) == right
        assert right or tally["matrix"].clipped == 1


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 50), seed=st.integers(0, 2**31), floor=st.integers(0, 3))
def test_an_offset_column_cancels_to_the_last_bit(rows, seed, floor):
    """Dyadic weights, inputs and windows leave nothing to round: equality, not nearness."""
    rng = np.random.default_rng(seed)
    w = torch.tensor(rng.integers(-64, 65, (4, rows)) / 64, dtype=F64)
    x = torch.tensor(rng.integers(-64, 65, rows) / 64, dtype=F64)
    device = Device(floor * 2.0**-18, floor * 2.0**-18 + 2.0**-16)
    for mapping in (xb.OffsetColumn(w_max=1.0), xb.SingleCell(w_max=1.0)):
        A = xb.matrix(w, xb.Chip(device, mapping), seed=0)
        assert torch.equal(A @ x, w @ x) and torch.equal(A.T @ w[:, 0], w.T @ w[:, 0])


def test_a_bit_is_worth_6_decibels_until_something_else_limits():
    """SNR against bits: slope 6.02 dB, a floor where read noise is, closed form of both."""
    torch.manual_seed(0)
    w, x = torch.rand(40, 128, dtype=F64) * 2 - 1, torch.randn(128, 500, dtype=F64)
    y = w @ x
    bits, sigma = np.arange(4, 13), 1e-3
    snr: dict[bool, list[float]] = {False: [], True: []}
    for noisy, found in snr.items():
        cell = Device(0.0, 1e-4, read=GaussianRead(sigma) if noisy else None)
        for b in bits:
            adc = xb.ADC(int(b), range=xb.PerVector())
            chip = xb.Chip(cell, xb.Differential(w_max=1.0), forward=xb.Periphery(None, adc))
            found.append(xb.figures(xb.matrix(w, chip, seed=1) @ x, y).snr_db)
    steps = np.log2(2.0 ** (bits - 1) - 1)  # the bits of a mid-tread converter
    assert np.polyfit(steps, snr[False], 1)[0] == pytest.approx(20 * math.log10(2), abs=0.06)
    # two cells a weight, each with σ of the window
    floor = 2 * sigma**2 * float(x.square().sum()) * len(w)
    power = float(y.square().sum())
    quantised = power * 10 ** (-np.array(snr[False]) / 10)
    want = 10 * np.log10(power / (quantised + floor))
    np.testing.assert_allclose(snr[True], want, atol=0.15)
    assert snr[True][-1] - snr[True][-2] < 1 < snr[False][-1] - snr[False][-2]


def test_a_table_of_our_own_wires_predicts_what_they_cost_while_that_is_little():
    """A level table of exact wires, as circuit simulators make it, in place of the wires.

    Digits, 450 test images. Where wires cost 0.7 points the table tells the accuracy within its
    binomial error. Where they cost 8 it tells 2: a wire's error belongs to a column, the same at
    every read, and a table draws it anew.
    """
    from experiments.tasks.data import Digits

    torch.manual_seed(0)
    images = Digits().load()
    x = images.x_train.flatten(1)
    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(20):
        for k in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[k]), images.y_train[k]).backward()
            optimiser.step()
    cell, dac, n = Device(1e-6, 50e-6), xb.DAC(6), 31

    def chips(adcs, wires=None):
        rules = {
            str(k): xb.Chip(cell, forward=xb.Periphery(dac, adc), wires=wires)
            for k, adc in zip((0, 2), adcs, strict=True)
        }
        return xb.convert(net, rules["0"], mode=xb.Programmed(), seed=0, rules=rules)

    def currents(layer, given):
        class Seen(xb.Probe):
            def converted(self, matrix, port, tile, column, i, full):
                self.i = i.detach()

        with xb.observe(layer, Seen()) as seen, torch.no_grad():
            layer(given)
        return seen.i

    def right(model):
        with torch.no_grad():
            found = model(images.x_test.flatten(1)).argmax(-1) == images.y_test
        return float(found.double().mean())

    perfect = chips([xb.ADC(None)] * 2)
    tops = [float(currents(perfect[k], h).abs().amax()) for k, h in ((0, x), (2, hidden(net, x)))]
    ranges = [xb.Fixed(top * 0.2 * cell.window.span) for top in tops]
    plain = [xb.ADC(6, range=r) for r in ranges]
    ideal = chips(plain)
    found = {}
    for ohm in (10.0, 50.0):
        real = chips(plain, xb.Wires(r_wordline=ohm, r_bitline=ohm))
        tables = []
        for k, top, policy in zip((0, 2), tops, ranges, strict=True):
            given = hidden(real, x) if k else x
            level = (currents(ideal[k], given) / top * n).round().clamp(-n, n).flatten().numpy()
            code = (currents(real[k], given) / top * n).round().clamp(-n, n).flatten().numpy()
            rows, at = [], np.unique(level)
            for j in range(-n, n + 1):
                own = code[level == at[np.abs(at - j).argmin()]]  # the nearest level that occurs
                rows.append((j, own.mean(), own.std()))
            tables.append(xb.LevelNoise(tuple(rows), range=policy))
        told = chips(tables)
        found[ohm] = right(real), float(np.mean([right(told) for _ in range(5)]))
    exact, told = found[10.0]
    assert abs(exact - told) < (exact * (1 - exact) / 450) ** 0.5
    exact, told = found[50.0]
    assert exact < 0.92 and told - exact > 0.03 and told < right(ideal) - 0.01


def hidden(net, x):
    with torch.no_grad():
        return torch.tanh(net[0](x))
