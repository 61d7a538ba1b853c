"""IR drop in layers: reads, transposed reads, gradients, training, vmap; compensation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import crossbar as xb
from crossbar.quantise import balanced
from devices import ConstantStep, Device, GaussianRead, SoftBounds
from tests._analog import cells_of, per_siemens, update
from tests.circuit_cases import dense

CELL = Device(1e-6, 100e-6, update=SoftBounds(0.1e-6))
PERFECT = xb.Periphery(dac=None, adc=None)


def chip(wires: xb.Wires | None, device: Device = CELL, **settings: object) -> xb.Chip:
    mapping = xb.Differential(w_max=0.5)
    return xb.Chip(device, mapping, forward=PERFECT, wires=wires, **settings)  # type: ignore[arg-type]


def linear(
    rows: int, cols: int, wires: xb.Wires | None, mode: xb.Mode, **settings: object
) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(rows, cols, bias=False, dtype=torch.float64)
    nn.init.uniform_(layer.weight, -0.45, 0.45)
    return xb.convert(nn.Sequential(layer), chip(wires, **settings), mode=mode, seed=0)


def tiled_oracle(g: Tensor, wires: xb.Wires, x: Tensor, tile: tuple[int, int]) -> Tensor:
    """I⁺ − I⁻ of one input through every tile, each by the dense nodal solution."""
    rows, cols = g.shape[-2:]
    out = torch.zeros(cols, dtype=g.dtype)
    for a, b in balanced(rows, tile[0]):
        for c, d in balanced(cols, tile[1]):
            plus, minus = (dense(g[k, a:b, c:d], wires, x[a:b])[0] for k in range(2))
            out[c:d] += plus - minus
    return out


@pytest.mark.parametrize(
    "wires", [xb.Wires(20.0, 35.0), xb.Wires(20.0, 35.0, 100.0, 40.0, end_segments=False)]
)
def test_reads_are_those_of_the_circuit(wires: xb.Wires) -> None:
    tile = (8, 5)
    model = linear(19, 12, wires, xb.InSitu(), tile=tile)
    layer = model[0]  # type: ignore[index]
    x = torch.rand(19, dtype=torch.float64) - 0.5
    g, scale = cells_of(layer).g, per_siemens(layer)
    wanted = tiled_oracle(g, wires, x, tile) * scale
    assert torch.allclose(model(x), wanted, rtol=1e-10, atol=1e-13)
    # in situ the input gradient is the physical transposed read: bitlines driven, wordlines sensed
    x.requires_grad_()
    delta = torch.rand(12, dtype=torch.float64)
    (grad,) = torch.autograd.grad(model(x), x, delta)
    side = xb.Wires(
        wires.r_bitline, wires.r_wordline, wires.r_driver, wires.r_sense, wires.end_segments
    )
    turned = g.flip(-1, -2).mT.contiguous()
    back = tiled_oracle(turned, side, delta.flip(0), tile[::-1]).flip(0)
    wanted = back * scale
    # `balanced` cuts from the other end in the turned array: compare where the cuts agree
    if wires.r_driver == wires.r_sense:
        jacobian = torch.autograd.functional.jacobian(model, x.detach())
        assert torch.allclose(grad, delta @ jacobian, rtol=1e-10)
        finite = torch.stack(
            [
                (model(x.detach() + h) - model(x.detach() - h)) / 2e-3
                for h in 1e-3 * torch.eye(19, dtype=torch.float64)
            ],
            -1,
        )
        assert torch.allclose(grad, delta @ finite, rtol=1e-8)
    else:
        whole = linear(19, 12, wires, xb.InSitu())
        v = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(whole(v), v, delta)
        g = cells_of(whole[0]).g  # type: ignore[index]
        turned = g.flip(-1, -2).mT.contiguous()
        back = tiled_oracle(turned, side, delta.flip(0), (12, 19)).flip(0)
        assert torch.allclose(grad, back * scale, rtol=1e-9)


def test_hardware_aware_gradients_are_those_of_the_wired_forward() -> None:
    for tile in (None, (4, 3)):
        model = linear(7, 5, xb.Wires(60.0, 40.0, 10.0, 20.0), xb.HardwareAware(), tile=tile)
        weight = model[0].weight  # type: ignore[index]
        x = torch.rand(3, 7, dtype=torch.float64) - 0.3

        def read(w: Tensor, x: Tensor, model: nn.Module = model) -> Tensor:
            return torch.func.functional_call(model, {"0.weight": w}, (x,))

        w = weight.detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(read, (w, x.requires_grad_()), atol=1e-8, rtol=1e-6)
        ideal = xb.convert(model, chip(None, tile=tile))
        grads = [torch.autograd.grad(m(x).square().sum(), [m[0].weight, x]) for m in (model, ideal)]  # type: ignore[index]
        for wired, plain in zip(*grads, strict=True):
            assert float((wired - plain).abs().max()) > 0.01 * float(plain.abs().max())


def test_convolutions_see_the_wires_too() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 6, 3, padding=1, groups=2, bias=False, dtype=torch.float64)
    wires = xb.Wires(50.0, 50.0)
    model = xb.convert(nn.Sequential(conv), chip(wires), mode=xb.HardwareAware(), seed=0)
    x = torch.rand(2, 2, 5, 5, dtype=torch.float64)

    def read(w: Tensor) -> Tensor:
        return torch.func.functional_call(model, {"0.weight": w}, (x,))

    w = (conv.weight.detach().clone() * 0.9).requires_grad_()
    assert torch.autograd.gradcheck(read, (w,), atol=1e-8, rtol=1e-6)
    plain = xb.convert(nn.Sequential(conv), chip(None), mode=xb.HardwareAware(), seed=0)
    with torch.no_grad():
        assert torch.allclose(plain(x), nn.Sequential(conv)(x), rtol=1e-9)
        assert float((model(x) - plain(x)).abs().max()) > 0.02 * float(plain(x).abs().max())


def test_the_effective_matrix_follows_the_cells() -> None:
    wires = xb.Wires(20.0, 20.0)
    model = linear(12, 8, wires, xb.InSitu(xb.Expected()), tile=(6, 8))
    layer, x = model[0], torch.rand(4, 12, dtype=torch.float64)  # type: ignore[index]
    with torch.no_grad():
        first = model(x)
        planes = [cells_of(layer).planes().matrix for _ in range(2)]
        assert planes[0].data_ptr() == planes[1].data_ptr()  # solved once
    opt = xb.InSituSGD(model, lr=0.05)
    model(x).square().sum().backward()
    opt.step()
    with torch.no_grad():
        assert not torch.equal(model(x), first)
        wanted = tiled_oracle(cells_of(layer).g, wires, x[0], (6, 8)) * per_siemens(layer)
        assert torch.allclose(model(x)[0], wanted, rtol=1e-10)


def test_training_in_situ_and_hardware_aware_lowers_the_loss_through_wires() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(64, 12, generator=draw, dtype=torch.float64) - 0.5
    goal = x @ (0.4 * torch.rand(12, 8, generator=draw, dtype=torch.float64) - 0.2)
    wires = xb.Wires(30.0, 30.0)
    for mode in (xb.InSitu(xb.Expected()), xb.HardwareAware()):
        model = linear(12, 8, wires, mode)
        opt = xb.InSituSGD(model, lr=1.0)
        before = float((model(x).detach() - goal).square().mean())
        for _ in range(80):
            opt.zero_grad()
            loss = (model(x) - goal).square().mean() * 8
            loss.backward()
            opt.step()
        assert float((model(x).detach() - goal).square().mean()) < 0.02 * before


def test_chips_stacked_by_vmap() -> None:
    models = [linear(9, 6, xb.Wires(30.0, 30.0), xb.InSitu(), tile=(5, 6)) for _ in range(3)]
    for k, model in enumerate(models):
        xb.reseed(model, k)
    state, _ = torch.func.stack_module_state(models)
    state |= torch.func.stack_module_state(models)[1]
    x = torch.rand(4, 9, dtype=torch.float64)
    stacked = torch.func.vmap(
        lambda s, x: torch.func.functional_call(models[0], s, (x,)),
        (0, None),
        randomness="different",
    )(state, x)
    with torch.no_grad():
        for k, model in enumerate(models):
            assert torch.allclose(stacked[k], model(x), rtol=1e-10)


@pytest.mark.parametrize(("kappa", "bound"), [(0.2, 0.03), (1.0, 0.12)])
def test_read_noise_through_wires(kappa: float, bound: float) -> None:
    """The stated error of a layer's noise against the sensitivities of the whole circuit."""
    noisy = Device(1e-6, 100e-6, update=SoftBounds(0.1e-6), read=GaussianRead(0.02))
    wires = xb.Wires(kappa / (32**2 * 50e-6), kappa / (32**2 * 50e-6))
    model = linear(32, 32, wires, xb.InSitu(), device=noisy)
    layer = model[0]  # type: ignore[index]
    planes = cells_of(layer).planes()
    x = torch.rand(8, 32, dtype=torch.float64) - 0.5
    mine = x.square() @ planes.variance[0]
    std = torch.full((), 0.02 * noisy.window.span, dtype=torch.float64)
    truth = sum(xb.prepare(g, wires).variance(x, std) for g in cells_of(layer).g)
    ratio = (mine * noisy.window.span**2 / truth).sqrt()  # type: ignore[operator]
    assert float((ratio.mean() - 1).abs()) < bound
    assert float((ratio - 1).abs().max()) < 4 * bound


def test_a_parallel_write_moves_far_cells_less() -> None:
    """On constant steps every cell moves by exp((u − v)/v₀) of its ideal move."""
    device = Device(1e-6, 100e-6, update=ConstantStep(0.01e-6))
    wires, write, tile = xb.Wires(60.0, 90.0), xb.ParallelWrite(v=1.0, v0=0.1), (5, 4)
    moves = []
    for option in (write, None):
        model = linear(
            9, 7, wires, xb.InSitu(xb.Expected()), device=device, tile=tile, write=option
        )
        array = cells_of(model[0])  # type: ignore[index]
        before = array.g.clone()
        x, d = torch.ones(1, 9, dtype=torch.float64), torch.ones(1, 7, dtype=torch.float64)
        update(model[0], x, d, lr=1e-3)  # type: ignore[index]
        moves.append(array.g - before)
    for a, b in balanced(9, 5):
        for c, e in balanced(7, 4):
            for k in range(2):
                half = torch.full((9,), 0.5, dtype=torch.float64)
                u = dense(before[k, a:b, c:e], wires, half[: b - a], -half[: e - c])[1]
                wanted = ((u - 1) / 0.1).exp()
                ratio = moves[0][k, a:b, c:e] / moves[1][k, a:b, c:e]
                assert torch.allclose(ratio, wanted, rtol=1e-6)
    with pytest.raises(ValueError, match="needs wires"):
        xb.Chip(device, write=write)


def test_bad_chips() -> None:
    with pytest.raises(TypeError, match="wires must be a Wires"):
        xb.Chip(wires=1.0)  # type: ignore[arg-type]
