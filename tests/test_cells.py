"""Layers whose cells have a current–voltage law."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import crossbar as xb
from crossbar.wires import CellTiles, GatedTiles
from devices import Device, GaussianRead, SinhIV, SoftBounds
from tests._analog import cells_of, weight_of
from tests.circuit_cases import cells, volts

V0 = 0.1
WINDOW = (1e-6, 50e-6)
DAC = xb.Periphery(dac=xb.DAC(bits=None, v_max=0.2))


LAW = SinhIV(V0)


def chip(iv=LAW, wires=None, tile=None, forward=DAC, read=None):
    device = Device(*WINDOW, update=SoftBounds(1e-8), iv=iv, read=read)
    return xb.Chip(device, xb.Differential(w_max=1.0), forward=forward, tile=tile, wires=wires)


def curve(v):
    return V0 * torch.sinh(v / V0)


@pytest.mark.parametrize("tile", [None, (5, 4)])
def test_linear_layer_sums_the_law_over_its_cells(tile):
    """I_j = Σ_i g_ij v₀ sinh(v_i/v₀), read both ways; closed form for ideal lines."""
    torch.manual_seed(0)
    digital = nn.Linear(12, 7, bias=False, dtype=torch.float64)
    layer = xb.convert(digital, chip(tile=tile), mode=xb.Programmed(), seed=0)
    g = (cells_of(layer).g[0] - cells_of(layer).g[1]) / (WINDOW[1] - WINDOW[0])
    x = torch.randn(3, 2, 12, dtype=torch.float64)
    scale = x.abs().amax(-1, keepdim=True)
    want = curve(x / scale * 0.2) / 0.2 @ g * scale
    torch.testing.assert_close(layer(x), want, rtol=1e-9, atol=1e-12)
    ohmic = (x @ g - want).norm() / want.norm()
    assert float(ohmic) > 0.05  # the law matters at these voltages
    z = x.clone().requires_grad_()
    d = torch.randn(3, 2, 7, dtype=torch.float64)
    (back,) = torch.autograd.grad(layer(z), z, d)
    scale = d.abs().amax(-1, keepdim=True)
    want = curve(d / scale * 0.2) / 0.2 @ g.mT * scale
    torch.testing.assert_close(back, want, rtol=1e-9, atol=1e-12)


def test_convolution_sums_the_law_over_receptive_fields():
    torch.manual_seed(0)
    digital = nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2, bias=False).double()
    layer = xb.convert(digital, chip(tile=(7, 2)), mode=xb.Programmed(), seed=0)
    g = (cells_of(layer).g[0] - cells_of(layer).g[1]) / (WINDOW[1] - WINDOW[0])
    x = torch.randn(3, 4, 7, 8, dtype=torch.float64)
    scale = x.abs().amax((1, 2, 3), keepdim=True)
    settings = {"stride": 2, "padding": 1, "groups": 2}
    weight = weight_of(layer).form.weight(g, digital.weight.shape)
    want = nn.functional.conv2d(curve(x / scale * 0.2) / 0.2, weight, **settings) * scale
    torch.testing.assert_close(layer(x), want, rtol=1e-9, atol=1e-12)
    z = x.clone().requires_grad_()
    y = layer(z)
    d = torch.randn_like(y)
    (back,) = torch.autograd.grad(y, z, d)
    scale = d.abs().amax((1, 2, 3), keepdim=True)
    bent = curve(d / scale * 0.2) / 0.2
    want = torch.nn.grad.conv2d_input(x.shape, weight, bent, **settings) * scale
    torch.testing.assert_close(back, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("wires", [None, xb.Wires(20.0, 30.0, r_driver=100.0)])
@pytest.mark.parametrize("make", ["linear", "conv"])
def test_hardware_aware_gradients_are_finite_differences_of_the_read(make, wires):
    torch.manual_seed(0)
    fixed = xb.Periphery(dac=xb.DAC(bits=None, v_max=0.3, range=xb.Fixed(3.0)))
    if make == "linear":
        digital, x = nn.Linear(5, 3, bias=False).double(), torch.randn(2, 5).double()
    else:
        digital = nn.Conv2d(2, 2, 2, bias=False).double()
        x = torch.randn(1, 2, 3, 3).double()
    layer = xb.convert(digital, chip(wires=wires, forward=fixed), seed=0)
    with torch.no_grad():
        layer.weight.mul_(0.5)

    def loss(x, weight):
        return torch.func.functional_call(layer, {"weight": weight}, (x,)).sin().sum()

    assert torch.autograd.gradcheck(
        loss, (x.requires_grad_(), layer.weight.detach().clone().requires_grad_()), atol=1e-7
    )


def test_wires_and_nonlinear_cells_together_equal_the_circuit():
    torch.manual_seed(0)
    wires = xb.Wires(5.0, 8.0)
    digital = nn.Linear(10, 6, bias=False, dtype=torch.float64)
    layer = xb.convert(digital, chip(wires=wires, tile=(5, 6)), mode=xb.Programmed(), seed=0)
    x = torch.randn(4, 10, dtype=torch.float64)
    scale = x.abs().amax(-1, keepdim=True)
    volts, total = x / scale * 0.2, 0
    for rows in (slice(0, 5), slice(5, 10)):
        for sign, g in zip((1, -1), cells_of(layer).g, strict=True):
            network = xb.prepare(g[rows], wires, SinhIV(V0))
            total = total + sign * network.mv(volts[:, rows])
    want = total / (0.2 * 49e-6) * scale
    torch.testing.assert_close(layer(x), want, rtol=1e-8, atol=1e-10)
    ideal = xb.convert(digital, chip(tile=(5, 6)), mode=xb.Programmed(), seed=0)(x)
    assert float((ideal - want).norm() / want.norm()) > 1e-3


def test_read_noise_of_nonlinear_cells():
    torch.manual_seed(0)
    digital = nn.Linear(8, 5, bias=False)
    layer = xb.convert(digital, chip(read=GaussianRead(0.02)), mode=xb.Programmed(), seed=0)
    x = torch.rand(8) + 0.1
    y = layer(x.expand(6000, 8)).detach().double()
    volts = x.double() / x.max() * 0.2
    sigma = 0.02 * (2 * curve(volts).square().sum()).sqrt() / 0.2 * float(x.max())
    assert float((y.std(0) / sigma - 1).abs().max()) < 5 / (2 * 6000) ** 0.5


def test_in_situ_training_runs_through_the_law():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    model = xb.convert(model, chip(), mode=xb.InSitu(xb.Expected()), seed=0)
    x, t = torch.randn(64, 6), torch.randint(0, 3, (64,))
    optimiser = xb.InSituSGD(model, lr=0.2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), t)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_the_wrong_solver_is_refused():
    device = Device(*WINDOW, iv=SinhIV(V0))
    with pytest.raises(TypeError, match="Newton"):
        xb.Chip(device, wires=xb.Wires(1.0, 1.0), solver=xb.Exact())
    with pytest.raises(TypeError, match="nonlinear cells"):
        xb.Chip(wires=xb.Wires(1.0, 1.0), solver=xb.Newton())


SIGNS = ((1, -1, 0), (0, 1, 1))


@pytest.mark.parametrize("tile", [None, (4, 3)])
@pytest.mark.parametrize("kind", ["law", "law and wires", "gates"])
def test_columns_are_signed_sums_over_devices(kind, tile):
    """Three devices a weight in two columns, against every device in an array of its own."""
    g = torch.stack([cells(7, 5, k).clamp(1e-6, 1e-4) for k in range(3)])
    std, signs = 1e-6 * (1 + torch.arange(3.0).double().view(3, 1, 1)).expand_as(g), SIGNS
    if kind == "gates":
        wires = xb.Wires(0.0, 20.0, source=xb.SourceLine(0.2))
        made = [GatedTiles(g, std, wires, tile, 3, signs)]
        made += [
            GatedTiles(g[k : k + 1], std[k : k + 1], wires, tile, 3, ((1,),)) for k in range(3)
        ]
        v = torch.randint(-3, 4, (4, 7)).double() / 3 * 0.2
    else:
        wires = xb.Wires(20.0, 30.0, 50.0, 10.0) if "wires" in kind else None
        made = [CellTiles(g, std, LAW, wires, None, tile, signs)]
        made += [
            CellTiles(g[k : k + 1], std[k : k + 1], LAW, wires, None, tile, ((1,),))
            for k in range(3)
        ]
        v = torch.stack([volts(7, k) for k in range(4)]) * 0.4
    tiles, single = made[0], made[1:]
    d, s = torch.stack([volts(5, k) for k in range(4)]) * 0.4, torch.tensor(SIGNS).double()
    a, c = (0, 0) if tile is None else (3, 2)
    for ask, power in (
        (lambda t: t.mv(v, a), 1),
        (lambda t: t.mv_t(d, c), 1),
        (lambda t: t.variance(v, a, 7), 2),
        (lambda t: t.variance_t(d, c, 5), 2),
    ):
        wanted = torch.einsum("ck,k...->c...", s**power, torch.cat([ask(t) for t in single]))
        assert torch.allclose(ask(tiles), wanted, rtol=1e-9, atol=1e-20)
    bar = torch.stack([torch.stack([volts(5, 4 * k + n) for n in range(4)]) for k in range(2)])
    by_v, by_g = tiles.vjp(v, bar)
    parts = [
        t.vjp(v, torch.einsum("c,c...->...", s[:, k], bar)[None]) for k, t in enumerate(single)
    ]
    assert torch.allclose(by_v, sum(p[0] for p in parts), rtol=1e-9, atol=1e-18)
    assert torch.allclose(by_g, torch.cat([p[1] for p in parts]), rtol=1e-9, atol=1e-14)


def test_an_interleaved_pair_is_one_column():
    g = torch.stack([cells(7, 5, k).clamp(1e-6, 1e-4) for k in range(2)])
    wires = xb.Wires(20.0, 30.0, 50.0, 10.0, interleaved=True)
    tiles, whole = CellTiles(g, None, LAW, wires, None, None, ((1, -1),)), xb.prepare(g, wires, LAW)
    v, d = (0.4 * torch.stack([volts(n, k) for k in range(4)]) for n in (7, 5))
    plus, minus = whole.mv(v)
    assert torch.equal(tiles.mv(v, 0), (plus - minus)[None])
    assert torch.equal(tiles.mv_t(d, 0), whole.mv_t(torch.stack([d, -d]))[None])
    by_v, by_g = tiles.vjp(v, d[None])
    found = whole.vjp(v, torch.stack([d, -d]))
    assert torch.equal(by_v, found.x) and torch.equal(by_g, found.g)
    for devices, signs in ((2, ((1, 1),)), (2, ((1, 0), (0, 1))), (3, ((1, -1),))):
        with pytest.raises(ValueError, match="signs"):
            CellTiles(g[0].expand(devices, 7, 5), None, LAW, wires, None, None, signs)


def answers(tiles, v, d, bar):
    yield from (tiles.mv(v, 0), tiles.mv_t(d, 0), *tiles.vjp(v, bar))
    yield from (tiles.variance(v, 0, 7), tiles.variance_t(d, 0, 5))


@pytest.mark.parametrize("wires", [None, xb.Wires(20.0, 30.0), "interleaved", "gates"])
def test_no_vectors_and_half_precision(wires):
    g = torch.stack([cells(7, 5, k).clamp(1e-6, 1e-4) for k in range(2)]).float()
    std, v, d = 0.02 * g, torch.zeros(3, 7), 0.1 * torch.rand(3, 5)
    v[:, ::2], v[:, 1] = 0.125, -0.125  # a level of the gates, and no rounding in bfloat16
    if wires == "gates":
        gates = xb.Wires(0.0, 20.0, source=xb.SourceLine(0.125))
        tiles = GatedTiles(g, std, gates, None, 3, ((1, -1),))
    else:
        if wires == "interleaved":
            wires = xb.Wires(20.0, 30.0, interleaved=True)
        tiles = CellTiles(g, std, LAW, wires, None, None, ((1, -1),))
    for dtype in (torch.float16, torch.bfloat16):
        lows = [t.to(dtype) for t in (v, d, d[None])]
        wanted = answers(tiles, *(t.float() for t in lows))
        for mine, right in zip(answers(tiles, *lows), wanted, strict=True):
            assert mine.dtype == torch.float32 and torch.equal(mine, right)
    none = answers(tiles, v[:0], d[:0], d[None, :0])
    shapes = [(1, 0, 5), (1, 0, 7), (0, 7), g.shape, (1, 0, 5), (1, 0, 7)]
    for mine, shape in zip(none, shapes, strict=True):
        assert mine.shape == shape and not mine.any()


@pytest.mark.parametrize("mode", [xb.InSitu(xb.Expected()), xb.HardwareAware()])
@pytest.mark.parametrize("kind", ["law", "wires", "law and wires", "gates"])
def test_a_layer_takes_an_empty_batch(kind, mode):
    wires = xb.Wires(20.0, 30.0) if "wires" in kind else None
    made = chip(iv=LAW if "law" in kind else None, wires=wires, tile=(4, 3))
    if kind == "gates":
        dac = xb.Periphery(dac=xb.DAC(4, v_max=0.2))
        made = chip(None, xb.Wires(0.0, 20.0, source=xb.SourceLine(0.2)), forward=dac)
    layer = xb.convert(nn.Linear(7, 5), made, mode=mode, seed=0)
    x = torch.zeros(0, 7, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == (0, 5) and x.grad.shape == (0, 7) and not layer.weight.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_layers_have_the_gradients_of_float(dtype):
    found = []
    for kind in (dtype, torch.float32):
        torch.manual_seed(0)
        layer = xb.convert(nn.Linear(6, 4, bias=False), chip(), seed=0).to(dtype).to(kind)
        x = (torch.arange(12.0).view(2, 6) / 8 - 0.5).to(kind).requires_grad_()
        layer(x).sum().backward()
        found.append((x.grad.float(), layer.weight.grad.float()))
    for mine, right in zip(*found, strict=True):
        assert float((mine - right).abs().max() / right.abs().max()) < 4 * torch.finfo(dtype).eps
