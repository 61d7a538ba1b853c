"""The reference column of `OffsetColumn` is made of cells: errors, drift, noise, faults, wires."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

import crossbar as xb
from devices import (
    Device,
    GaussianRead,
    GaussianWrite,
    PowerLawDrift,
    SoftBounds,
    StateRead,
    StuckAt,
)

F64 = torch.float64
G_MIN, SPAN = 2e-6, 48e-6


def chip(cell=None, **parts):
    cell = cell or Device(G_MIN, G_MIN + SPAN, **parts)
    return xb.Chip(cell, xb.OffsetColumn(w_max=1.0), tile=(7, 4))


def matrix(w, **parts):
    return xb.matrix(w, chip(**parts), seed=0)


def composed(A, x):
    """Σ v g of each tile less that of its reference, of conductances as they stand."""
    g, line = A.cells.g[0].numpy(), A.cells.line.g[0].numpy()
    rows, cols = g.shape
    ends = A.chip.tiles((rows, cols), True)
    wide = np.concatenate(
        [np.repeat(line[:, j : j + 1], b - a, 1) for j, (a, b) in enumerate(ends)], 1
    )
    return 2 * (x.numpy() @ (g - wide)) / SPAN


def test_write_errors_and_faults_of_the_reference_are_seen_by_its_tile():
    torch.manual_seed(0)
    w, x = torch.rand(10, 20, dtype=F64) * 2 - 1, torch.randn(6, 20, dtype=F64)
    for parts in ({"write": GaussianWrite(0.05)}, {"faults": StuckAt(p_off=0.2)}):
        A = matrix(w, **parts)
        line = A.cells.line.g
        assert line.shape == (1, 20, 3) and float(line.std()) > 1e-7
        assert not torch.equal(line[0, :, 0], A.cells.g[0, :, 0])
        want = composed(A, x)
        np.testing.assert_allclose(A.mv(x).numpy(), want, atol=1e-12)
        np.testing.assert_allclose(x.numpy() @ A.weight.numpy(), want, atol=1e-12)
        back = torch.randn(3, 10, dtype=F64)
        np.testing.assert_allclose(
            A.mv_t(back).numpy(), back.numpy() @ A.weight.numpy().T, atol=1e-12
        )


def test_a_drift_common_to_all_cells_is_a_factor_of_the_product():
    torch.manual_seed(0)
    w, x = torch.rand(10, 20, dtype=F64) * 2 - 1, torch.randn(6, 20, dtype=F64)
    A = matrix(w, retention=PowerLawDrift(nu=0.1))
    fresh = A.mv(x)
    A.advance(1e5)
    ratio = (A.mv(x) / fresh).mean()
    assert 0.2 < float(ratio) < 0.9
    assert torch.allclose(A.mv(x), fresh * ratio, atol=1e-12)
    single = xb.matrix(
        w,
        xb.Chip(
            Device(G_MIN, G_MIN + SPAN, retention=PowerLawDrift(nu=0.1)), xb.SingleCell(w_max=1.0)
        ),
        seed=0,
    )
    single.advance(1e5)
    assert not torch.allclose(single.mv(x), fresh * ratio, atol=0.1)


@pytest.mark.parametrize("mode", [xb.HardwareAware(), xb.Programmed()], ids=str)
def test_its_read_noise_adds_to_every_output(mode):
    """σ √2 of two cells, doubled by the mapping: 4 standard errors of 20,000 reads."""
    net, x = nn.Linear(20, 3, bias=False).double(), torch.randn(1, 20, dtype=F64)
    layer = xb.convert(net, chip(read=GaussianRead(0.01)), mode=mode, seed=0)
    with torch.no_grad():
        got = layer(x.expand(20_000, -1))
    want = 2 * 0.01 * 2**0.5 * float(x.norm())
    assert float(got.std(0).mean() / want) == pytest.approx(1, abs=4 / (6 * 20_000) ** 0.5)


def test_rehearsed_reads_draw_a_reference_as_written_ones_have():
    """Spread of outputs over chips with write errors, all inputs alike: hardware-aware and written.

    The reference's error is common to a tile: outputs of one tile move together.
    """
    net = nn.Linear(40, 4, bias=False).double()
    with torch.no_grad():
        net.weight.uniform_(-0.5, 0.5)
    x, cell = torch.ones(1, 40, dtype=F64), Device(G_MIN, G_MIN + SPAN, write=GaussianWrite(0.02))
    layer = xb.convert(net, chip(cell), seed=0)
    with torch.no_grad():
        rehearsed = torch.cat([layer(x) for _ in range(400)])
        written = torch.cat(
            [xb.convert(net, chip(cell), mode=xb.Programmed(), seed=k)(x) for k in range(120)]
        )
    want = 2 * 0.02 * 40**0.5  # of the cells, and as much of the reference
    for found in (rehearsed, written):
        n = len(found)
        assert float(found.std(0).mean() / (want * 2**0.5)) == pytest.approx(1, abs=4 / n**0.5)
        together = torch.corrcoef(found.mT)
        assert float(together[0, 1]) == pytest.approx(0.5, abs=4 / n**0.5)


def test_pulses_leave_it_alone_and_checkpoints_keep_it():
    torch.manual_seed(0)
    net, x = nn.Linear(9, 5), torch.randn(4, 9)
    cell = Device(G_MIN, G_MIN + SPAN, update=SoftBounds(1e-8), write=GaussianWrite(0.02))
    model = xb.convert(net, chip(cell), mode=xb.InSitu(), seed=0)
    held = model.analog["weight"].matrix.cells
    line, before = held.line.g.clone(), held.g.clone()
    model(x).square().sum().backward()
    xb.InSituSGD(model, lr=0.05).step()
    assert torch.equal(held.line.g, line) and not torch.equal(held.g, before)
    assert torch.allclose(held.weight.mT, model.weight.detach())
    twin = xb.convert(net, chip(cell), mode=xb.InSitu(), seed=5)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.analog["weight"].matrix.cells.line.g, line)
    with torch.no_grad():
        assert torch.equal(twin(x), model(x))
        moved = copy.deepcopy(model).double()
        assert torch.allclose(moved(x.double()).float(), model(x), atol=1e-5)
    programmed = xb.convert(model, chip(cell), mode=xb.Programmed(), seed=0)
    assert torch.equal(programmed.analog["weight"].matrix.cells.line.g, line)


def test_with_wires_it_is_an_array_one_column_wide():
    """Each tile's own effective conductances, solved apart as such arrays."""
    torch.manual_seed(0)
    w, x = torch.rand(4, 7, dtype=F64) * 2 - 1, torch.randn(6, 7, dtype=F64)
    wires = xb.Wires(r_wordline=200.0, r_bitline=300.0)
    cell = Device(G_MIN, G_MIN + SPAN)
    A = xb.matrix(w, xb.Chip(cell, xb.OffsetColumn(w_max=1.0), wires=wires), seed=0)
    plain = xb.matrix(w, xb.Chip(cell, xb.SingleCell(w_max=1.0), wires=wires), seed=0)
    alone = xb.matrix(
        torch.zeros(1, 7, dtype=F64), xb.Chip(cell, xb.SingleCell(w_max=1.0), wires=wires), seed=0
    )
    # single cells take the middle off digitally, so that both see w + 1 of their cells
    want = plain.mv(x) - alone.mv(x)
    assert torch.allclose(A.mv(x), want, atol=1e-12)
    assert float((A.mv(x) - x @ w.mT).abs().max()) > 1e-3


def test_few_pulses_are_followed_without_reading_every_cell():
    """What reads see, and the Parameter shows, after pulses to single cells of several tiles."""
    torch.manual_seed(0)
    read = StateRead(lambda x: 0.01 + 0.04 * x)
    law = SoftBounds(0.1e-6, sigma_c2c=0.3, sigma_d2d=0.3)
    hardware = chip(Device(G_MIN, G_MIN + SPAN, law, read, write=GaussianWrite(0.05)))
    layer = nn.Linear(20, 10, bias=False).double()
    layer = xb.convert(layer, hardware, mode=xb.InSitu(xb.ExactBits()), seed=0)
    A, x = layer.analog["weight"].matrix, torch.zeros(2, 20, dtype=F64)
    optimiser, before = xb.InSituSGD(layer, 0.01), A.cells.g.clone()
    x[0, 3], x[1, 17] = 1.0, -1.0
    for _ in range(3):
        optimiser.zero_grad()
        layer(x).sum().backward()
        optimiser.step()
    hit = (A.cells.g != before).sum()
    assert 10 <= hit <= 20  # of 200
    w = layer.weight.detach().as_subclass(torch.Tensor)
    np.testing.assert_allclose(x.numpy() @ w.numpy().T, composed(A, x), atol=1e-12)
    np.testing.assert_array_equal(w.numpy(), A.weight.numpy().T)
    planes = [t.clone() for t in A.cells.planes() if t is not None]
    A.cells.refresh()
    for followed, anew in zip(planes, (t for t in A.cells.planes() if t is not None), strict=True):
        torch.testing.assert_close(followed, anew, rtol=1e-12, atol=0)
    assert A.cells.variance.dim() and len(planes) == 2
