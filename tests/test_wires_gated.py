"""1T1R arrays with source lines: reads, row scans and training, against dense nodal solutions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

import crossbar as xb
from crossbar import spice
from crossbar.quantise import balanced
from devices import Device, GaussianRead, SinhIV, SoftBounds
from tests._analog import cells_of, per_siemens
from tests.circuit_cases import cells, volts

V = 0.2
CELL = Device(1e-6, 100e-6, update=SoftBounds(0.1e-6))
LINES = [
    xb.Wires(0.0, 60.0, 0.0, 40.0, source=xb.SourceLine(V, 50.0, 30.0)),
    xb.Wires(0.0, 60.0, 0.0, 40.0, both_senses=True, source=xb.SourceLine(V, 50.0, opposite=True)),
    xb.Wires(0.0, 60.0, 0.0, 40.0, end_segments=False, source=xb.SourceLine(V, 50.0, 30.0)),
]


def columns(g: np.ndarray, wires: xb.Wires, gates: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Output currents of every column by itself, from Kirchhoff's current law at its nodes.

    Nodes: the source line above, the bitline below; `gates` (rows,) conduct in part, v (cols,).
    """
    source = wires.source
    assert source is not None
    _, r_bit, _, r_sense = wires.ohms
    m, n = g.shape
    out = np.zeros(n)
    tiny = 1e-9  # [ohm] for a wire of none
    for j in range(n):
        a, b = np.zeros((2 * m, 2 * m)), np.zeros(2 * m)

        def link(
            p: int, q: int | None, s: float, level: float = 0.0, a: Any = a, b: Any = b
        ) -> None:
            a[p, p] += s
            if q is None:
                b[p] += s * level
            else:
                a[q, q] += s
                a[p, q] -= s
                a[q, p] -= s

        extra = source.r_segment if wires.end_segments else 0.0
        link(m - 1 if not source.opposite else 0, None, 1 / (source.r_driver + extra + tiny), v[j])
        ends = [m - 1, 0] if wires.both_senses else [m - 1]
        s_end = 1 / (r_sense + (r_bit if wires.end_segments else 0.0) + tiny)
        for end in ends:
            link(m + end, None, s_end)
        for i in range(m):
            link(i, m + i, g[i, j] * gates[i])
            if i:
                link(i - 1, i, 1 / (source.r_segment + tiny))
                link(m + i - 1, m + i, 1 / (r_bit + tiny))
        nodes = np.linalg.solve(a, b)
        out[j] = sum(nodes[m + end] * s_end for end in ends)
    return out


def digits(x: np.ndarray, top: int) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """(weight, gates of positive codes, gates of negative codes) of every binary digit."""
    code = np.rint(x / V * top).astype(int)
    size = np.abs(code)
    found = []
    for n in range(top.bit_length()):
        on = (size // 2**n) % 2
        found.append((2**n / top, on * (code > 0), on * (code < 0)))
    return found


def serial(g: np.ndarray, wires: xb.Wires, x: np.ndarray, top: int) -> np.ndarray:
    """A read digit by digit."""
    level = np.full(g.shape[1], V)
    return sum(
        weight * (columns(g, wires, up, level) - columns(g, wires, down, level))
        for weight, up, down in digits(x, top)
    )


@pytest.mark.parametrize("wires", LINES, ids=["same end", "opposite", "no end segments"])
def test_the_transposed_read_opens_one_row_after_another(wires: xb.Wires) -> None:
    g, d = cells(6, 4, 3).clamp(max=200e-6), volts(4, 1)
    network = xb.prepare(g, wires)
    wanted = [columns(g.numpy(), wires, row, d.numpy()).sum() for row in np.eye(6)]
    assert np.allclose(network.mv_t(d), wanted, rtol=1e-6, atol=0)
    assert torch.allclose(
        network.matrix_t, torch.stack([network.mv_t(e) for e in torch.eye(4).double()], -1)
    )
    stack = xb.prepare(torch.stack([g, 2 * g]), wires).mv_t(torch.stack([d, -d, d]))
    assert torch.allclose(stack[0, 1], -network.mv_t(d))
    # without wires it is the transpose
    ideal = xb.Wires(0.0, 0.0, source=xb.SourceLine(V))
    assert torch.allclose(xb.prepare(g, ideal).mv_t(d), g @ d, rtol=1e-14)
    leaf, levels = (g.clamp(min=1e-6) * 1e3).requires_grad_(), d.clone().requires_grad_()

    def scan(g: Tensor, d: Tensor, r: Tensor) -> Tensor:
        return 1e4 * xb.prepare(g * 1e-3, replace(wires, r_bitline=r * 200)).mv_t(d)

    assert gradcheck(scan, (leaf, levels, torch.tensor(0.3).double().requires_grad_()), atol=1e-7)


def test_input_gradients_go_straight_through_the_gates() -> None:
    """Against the dense circuit with gates that conduct in part, by central differences."""
    wires, g = LINES[0], cells(6, 4, 3).clamp(max=200e-6)
    x = V * torch.tensor([1.0, 0, -1, 1, 0, -1]).double()
    y = volts(4, 2)
    found = xb.prepare(g, wires).vjp(x, y).x.numpy()
    up, down, level = (x.numpy() > 0) * 1.0, (x.numpy() < 0) * 1.0, np.full(4, V)
    for i, step in enumerate(1e-4 * np.eye(6)):
        on, sign = (down, -1) if x[i] < 0 else (up, 1)
        change = columns(g.numpy(), wires, on + step, level)
        change = change - columns(g.numpy(), wires, on - step, level)
        # a larger input opens a positive gate and closes a negative one
        wanted = float(change @ y.numpy()) / 2e-4 / V
        assert found[i] == pytest.approx(wanted, rel=1e-5), sign


def chip(wires: xb.Wires, device: Device = CELL, bits: int = 4, **settings: Any) -> xb.Chip:
    periphery = xb.Periphery(xb.DAC(bits, v_max=V, range=xb.Fixed(1.0)), None)
    clean = xb.Periphery(xb.DAC(None, v_max=V), None)
    mapping = xb.Differential(w_max=0.5)
    return xb.Chip(device, mapping, periphery, clean, wires=wires, **settings)


def linear(mode: xb.Mode, shape: tuple[int, int] = (9, 6), **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(*shape, bias=False, dtype=torch.float64)
    nn.init.uniform_(layer.weight, -0.45, 0.45)
    return xb.convert(nn.Sequential(layer), chip(LINES[0], **settings), mode=mode, seed=0)


def test_layers_read_digit_by_digit_and_back_row_by_row() -> None:
    tile = (5, 4)
    model = linear(xb.InSitu(), tile=tile)
    layer = model[0]  # type: ignore[index]
    x = torch.round(torch.rand(3, 9).double() * 14 - 7) / 7
    x.requires_grad_()
    out = model(x)
    g, scale = cells_of(layer).g.numpy(), per_siemens(layer) / V
    wanted = np.zeros((3, 6))
    for k, (a, b) in ((k, r) for k in range(3) for r in balanced(9, 5)):
        for c, d in balanced(6, 4):
            v = x.detach().numpy()[k, a:b] * V
            plus, minus = (serial(part[a:b, c:d], LINES[0], v, 7) for part in g)
            wanted[k, c:d] += (plus - minus) * scale
    assert np.allclose(out.detach(), wanted, rtol=1e-6, atol=1e-9)
    assert (
        float((out - x @ xb.to_digital(layer).weight.mT).detach().abs().max()) > 0.02
    )  # the wires are felt
    delta = torch.rand(3, 6).double() - 0.5
    (grad,) = torch.autograd.grad(out, x, delta)
    back = np.zeros((3, 9))
    for k, i in ((k, i) for k in range(3) for i in range(9)):
        (a, b) = next((a, b) for a, b in balanced(9, 5) if a <= i < b)
        for c, d in balanced(6, 4):
            row = (np.arange(a, b) == i) * 1.0
            v = delta.numpy()[k, c:d]
            plus, minus = (columns(part[a:b, c:d], LINES[0], row, v) for part in g)
            back[k, i] += (plus - minus).sum() * scale * V
    assert np.allclose(grad, back, rtol=1e-6, atol=1e-9)


def test_hardware_aware_gradients_are_those_of_the_gated_forward() -> None:
    model = linear(xb.HardwareAware(), (7, 5), tile=(4, 5))
    x = torch.round(torch.rand(3, 7).double() * 14 - 7) / 7

    def read(w: Tensor) -> Tensor:
        return torch.func.functional_call(model, {"0.weight": w}, (x,))

    w = model[0].weight.detach().clone().requires_grad_()  # type: ignore[index]
    assert gradcheck(read, (w,), atol=1e-8, rtol=1e-6)


def test_training_lowers_the_loss_and_convolutions_work() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(24, 9, generator=draw, dtype=torch.float64) - 0.5
    goal = x @ (0.4 * torch.rand(9, 6, generator=draw, dtype=torch.float64) - 0.2)
    for mode in (xb.InSitu(xb.Expected()), xb.HardwareAware()):
        model = linear(mode, bits=7)
        opt = xb.InSituSGD(model, lr=1.0)
        before = float((model(x).detach() - goal).square().mean())
        for _ in range(40):
            opt.zero_grad()
            ((model(x) - goal).square().mean() * 6).backward()
            opt.step()
        assert float((model(x).detach() - goal).square().mean()) < 0.1 * before
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2, bias=False, dtype=torch.float64))
    image = torch.rand(2, 2, 4, 4, dtype=torch.float64, generator=draw).requires_grad_()
    weak = xb.Wires(0.0, 1e-3, source=xb.SourceLine(V, 1e-3))
    for mode in (xb.InSitu(), xb.HardwareAware()):
        gated = xb.convert(conv, chip(weak, bits=16), mode=mode, seed=0)
        out = gated(image)
        delta = torch.rand(out.shape, generator=draw, dtype=torch.float64)
        (grad,) = torch.autograd.grad(out, image, delta)
        ideal = conv(image)
        (wanted,) = torch.autograd.grad(ideal, image, delta)
        assert torch.allclose(out, ideal, rtol=0, atol=1e-4 * float(ideal.detach().abs().max()))
        assert torch.allclose(grad, wanted, rtol=0, atol=1e-4 * float(wanted.detach().abs().max()))


def test_read_noise_of_digits_adds_up() -> None:
    """Each digit is a read of its own: Σ (2ⁿ/T)² of σ² v²; 5 standard errors of 4000 reads."""
    noisy = replace(CELL, read=GaussianRead(0.02))
    weak = xb.Wires(0.0, 1e-6, source=xb.SourceLine(V))
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(9, 6, bias=False, dtype=torch.float64))
    model = xb.convert(layer, chip(weak, noisy), mode=xb.InSitu(), seed=0)
    x = torch.tensor([1, -3, 7, 0, 5, -6, 2, 0, 4]).double() / 7
    with torch.no_grad():
        reads = model(x.expand(4000, 9))
    power = sum(w**2 * (up + down).sum() for w, up, down in digits(x.numpy() * V, 7))
    wanted = 2 * power * (0.02 * 0.5) ** 2  # of a pair, in weights at w_max 0.5
    assert torch.all((reads.var(0) / wanted - 1).abs() < 5 * (2 / 4000) ** 0.5)
    back = cells_of(model[0]).planes().tiles.variance_t(torch.ones(1, 6).double(), 0, 6)
    assert torch.allclose(back, torch.tensor(12 * (0.02 * CELL.window.span) ** 2).double())


def test_what_is_refused() -> None:
    wires = LINES[0]
    for bad in (None, xb.DAC(None, v_max=V), xb.DAC(8, v_max=V, noise=0.01)):
        with pytest.raises(ValueError, match="open gates bit by bit"):
            xb.Chip(CELL, forward=xb.Periphery(bad, None), wires=wires)
    with pytest.raises(ValueError, match="must be the voltage of the source lines, 0.2 V, got 0.3"):
        xb.Chip(CELL, forward=xb.Periphery(xb.DAC(8, v_max=0.3), None), wires=wires)
    with pytest.raises(TypeError, match="ohmic cells and solver=None"):
        chip(wires, replace(CELL, iv=SinhIV(1.0)))
    with pytest.raises(ValueError, match="leave write=None"):
        chip(wires, write=xb.ParallelWrite(1.0, 0.1))
    with pytest.raises(TypeError, match=r"source lines \(1T1R\) have no effective matrix"):
        xb.reorder(linear(xb.InSitu()))


@pytest.mark.skipif(not spice.available(), reason="ngspice is not installed")
@pytest.mark.parametrize("wires", LINES, ids=["same end", "opposite", "no end segments"])
def test_ngspice_agrees_on_layers_and_row_scans(wires: xb.Wires) -> None:
    g = cells(6, 4, 3).clamp(max=200e-6)
    found = [spice.simulate(g, wires, V * row).output.sum() for row in torch.eye(6).double()]
    scan = xb.prepare(g, wires).mv_t(V * torch.ones(4).double())
    assert torch.allclose(scan, torch.stack(found), rtol=1e-9)
    # inputs at full scale open the gates of every digit alike: one deck a tile and device
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(9, 6, bias=False, dtype=torch.float64))
    layer = xb.convert(net, chip(wires, tile=(5, 4)), mode=xb.InSitu(), seed=0)[0]  # type: ignore[index]
    x = torch.tensor([1, 0, 1, 1, 0, 1, 0, 1, 1]).double()
    total = torch.zeros(6, dtype=torch.float64)
    for name, deck in spice.decks(layer, V * x).items():
        answer, c = spice.run(deck), int(name.split("_")[2])
        count = sum(key.startswith("i(vs_") for key in answer)
        i = torch.tensor([answer[f"i(vs_{j})"] for j in range(count)], dtype=torch.float64)
        total[c : c + count] += -i if name.endswith("minus") else i
    scale = per_siemens(layer) / V
    with torch.no_grad():
        assert torch.allclose(layer(x), total * scale, rtol=1e-9, atol=1e-12)
