"""Pulses visited one by one, counted, or in rounds: all of them are the pulses of a NumPy loop."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from _analog import cells_of, matrix_of
from _pulse_loop import looped, soft, trains
from torch import nn

import crossbar as xb
from crossbar import together
from crossbar.matrix import Matrix
from crossbar.operations import Conv, ConvTranspose, Matmul, Numbers, Vectors
from crossbar.pulses import exact, jit, sequential
from crossbar.pulses.bits import counted, drawn
from crossbar.pulses.events import coincidences, grouped, hit, in_order
from crossbar.regions import Form, Region
from crossbar.windows import Window
from devices import (
    ConstantStep,
    Device,
    Endurance,
    GaussianRead,
    PCMRead,
    PowerLawDrift,
    SoftBounds,
    StuckAt,
)

# 5.2 standard errors: a false alarm among 1000 comparisons has probability 2e-4
SE = 5.2
ROUTES = [xb.PushPull(), xb.Reference(), xb.OneSided(None)]
SCHEMES = [
    xb.Expected(),
    xb.Aggregated(bl=200),
    xb.ExactBits(bl=200),
    xb.Sequential(xb.ExactBits(bl=200)),
    xb.Sequential(xb.Aggregated(bl=200)),
    xb.Deterministic(stochastic=True),
]
WAYS = {"events": (9e9, 9e9), "hits": (0.0, 9e9), "all": (0.0, 0.0)}


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Every way in turn, whatever the number of pulses."""
    events, hits = WAYS[request.param]
    monkeypatch.setattr(exact, "EVENTS", events)
    monkeypatch.setattr(exact, "HITS", hits)
    return request.param


@pytest.fixture
def in_rounds(monkeypatch):
    monkeypatch.setattr(sequential, "ROUNDS", 9e9)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def array(shape, route, step):
    """Arrays (copies, rows, cols) of pairs on 0 … 1, their devices at 0.4 and 0.7."""
    device = Device(0.0, 1.0, update=SoftBounds(step))
    chip = xb.Chip(device, xb.Differential(route, w_max=1.0))
    found = Matrix(chip, Form(groups=shape[0]), shape, seed=0)
    found.fabricate(torch.ones(()), torch.float64, torch.device("cpu"))
    found.written.g[0], found.written.g[1] = 0.4, 0.7
    found.written.refresh()
    return found


X = np.array([[0.9, -0.4, 0.05, 0.0, 0.6], [0.3, 0.8, -0.7, 0.2, 0.0], [0.1, 0.1, 0.1, 1.0, -1.0]])
D = np.array([[0.8, -0.5, 0.3, -0.02], [-0.9, 0.1, 0.6, 0.3], [0.2, -0.7, 0.0, 0.5]])
COPIES = 4000
RATE, BL, STEP = 2.6, 3, 0.15  # 3, 2 and 2 slots of the three vectors


def copies(x, d):
    """The same vectors for every copy, (vectors, copies, lines): bits of its own for each."""
    return (torch.from_numpy(v).unsqueeze(1).expand(-1, COPIES, -1) for v in (x, d))


def moments_agree(mine, theirs):
    """Means, variances, and covariances of neighbours in rows and columns."""
    n = len(mine), len(theirs)
    error = np.sqrt(mine.var(0) / n[0] + theirs.var(0) / n[1])
    assert (np.abs(mine.mean(0) - theirs.mean(0)) <= SE * error + 1e-9).all()
    for shift in ((0, 0), (0, 1), (1, 0)):

        def product(a, shift=shift):
            a = a - a.mean(0)
            rows, cols = a.shape[-2] - shift[0], a.shape[-1] - shift[1]
            return a[..., :rows, :cols] * a[..., shift[0] :, shift[1] :]

        a, b = product(mine), product(theirs)
        error = np.sqrt(a.var(0) / n[0] + b.var(0) / n[1])
        assert (np.abs(a.mean(0) - b.mean(0)) <= SE * error + 1e-9).all()


@pytest.fixture(scope="module")
def loops():
    """Counts and end states of 2000 updates of the loop, of every route."""
    found = {}
    for route in ROUTES:
        name, draw = type(route).__name__, np.random.default_rng(3)
        start = np.stack([np.full((5, 4), 0.4), np.full((5, 4), 0.7)])
        runs = [
            looped(start, zip(X, D, strict=True), RATE, BL, name, STEP, draw) for _ in range(2000)
        ]
        found[name] = tuple(np.array(part) for part in zip(*runs, strict=True))
    return found


@pytest.fixture(params=["torch", "compiled"])
def engine(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(jit, "struck", None)
        monkeypatch.setattr(jit, "split", None)
    else:
        pytest.importorskip("numba")


def test_every_way_counts_the_coincidences_of_the_same_bits(engine):
    """The very same bits, grouped from events and counted by the product."""
    x, d = torch.randn(40, 3, 30).double(), torch.randn(40, 3, 20).double()
    for op, xs, ds in ((Matmul(), x[:, 0], d[:, 0]), (Vectors(), x, d)):
        for rate in (0.01, 0.4, 30.0):  # the last in 31 slots a vector, more than one product holds
            (bits,) = drawn([xb.ExactBits().drive(op, xs, ds, rate)], generator(0))
            slots = [t.double() for t in (bits.x, bits.d)]
            up = torch.einsum("n...r,n...c->...rc", slots[0].clamp(min=0), (-slots[1]).clamp(min=0))
            up += torch.einsum(
                "n...r,n...c->...rc", (-slots[0]).clamp(min=0), slots[1].clamp(min=0)
            )
            net = torch.einsum("n...r,n...c->...rc", *slots)
            more = counted(bits, torch.float64)
            assert torch.equal(more[0], up) and torch.equal(more[1], up + net)
            first = (2 * up + net).flatten().nonzero()[:, 0]
            for at, *some in hit([bits, bits], torch.float64):
                assert torch.equal(at, first)
                for few, all_ in zip(some, more, strict=True):
                    assert torch.equal(few, all_.flatten()[first])
            for mine, listed in zip(in_order(bits), grouped(coincidences(bits)), strict=True):
                assert torch.equal(mine, listed)


@pytest.mark.parametrize("cols", [1, 40])  # few and many coincidences of a row
def test_coincidences_come_in_the_order_of_their_slots(engine, cols):
    x = torch.ones(6, 1).double()
    d = torch.tensor([1.0, -1, -1, 1, -1, 1]).double().unsqueeze(1).repeat(1, cols)
    (bits,) = drawn([xb.ExactBits().drive(Matmul(), x, d, 2.0)], generator(0))
    found = in_order(bits)
    assert found.at.tolist() == list(range(cols)) and found.n.tolist() == [12] * cols
    assert found.up.tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0] * cols


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: type(r).__name__)
def test_rounds_are_the_pulses_of_the_loop(route, loops, in_rounds):
    """Steps of 0.3 of the distance to the bound: another order would show."""
    scheme = xb.Sequential(xb.ExactBits(BL))
    found = array((COPIES, 5, 4), route, STEP)
    found.update(*copies(X, D), RATE * float(found.granularity), scheme, op=Vectors())
    ends = found.written.g.movedim(1, 0).numpy()
    moments_agree(ends, loops[type(route).__name__][0])


def test_the_order_is_seen(loops):
    """Backwards in time the loop ends elsewhere: the test above would notice."""
    draw = np.random.default_rng(4)
    start = np.stack([np.full((5, 4), 0.4), np.full((5, 4), 0.7)])
    back = list(zip(X, D, strict=True))[::-1]
    runs = np.array([looped(start, back, RATE, BL, "PushPull", STEP, draw)[0] for _ in range(2000)])
    with pytest.raises(AssertionError):
        moments_agree(runs, loops["PushPull"][0])


def test_counts_of_exact_trains_are_those_of_the_loop(loops, way):
    """Whichever way they are made."""
    total = torch.zeros(COPIES * 20, dtype=torch.float64)
    everything = torch.arange(len(total))
    found = xb.ExactBits(BL).parcels(Vectors(), *copies(X, D), RATE, generator=generator(1))
    for at, (pulses,), _ in found:
        assert (at is None) == (way == "all")
        total.index_add_(0, everything if at is None else at, (pulses.up + pulses.down).flatten())
    judged = loops["PushPull"][1].astype(float)
    moments_agree(total.view(COPIES, 5, 4).numpy(), judged)


def test_few_pulses_of_the_default_scheme_are_trains(monkeypatch):
    monkeypatch.setattr(exact, "SLOTS", 0)
    scheme, x, d = xb.Aggregated(), torch.from_numpy(X), torch.from_numpy(D)
    (parcel,) = scheme.parcels(Matmul(), x, d, RATE / 30, generator=generator(0))
    assert parcel.at is not None and len(parcel.at) < 20
    (parcel,) = scheme.parcels(Matmul(), x, d, 10 * RATE, generator=generator(0))
    assert parcel.at is None and tuple(parcel.rounds)[0].up_var is not None


# ---- what the trains are ---------------------------------------------------------------------


@pytest.mark.parametrize("um,blm", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("bl", [31, 7])
@pytest.mark.parametrize("kind", [xb.ExactBits, xb.Aggregated])
def test_management_is_the_published_rule(kind, bl, um, blm):
    """aihwkit: √(lr/(dw BL)) √(max|d|/max|x|), BL = ceil(k) at most, k = lr max|x| max|d|/dw.

    Beyond it x is not clipped, and d takes the whole factor k/BL. (Seen of aihwkit 1.2, bl 5, k 20,
    |x| = |d| = 1, .5, .1: 5, 2.5, .5 coincidences of x with d of 1 and .5; 2, 1, .2 with .1.)
    """
    x, d, lr, dw = X * 3, D, 0.05, 0.01
    scheme = kind(bl, update_management=um, bl_management=blm)
    drive = scheme.drive(Matmul(), torch.from_numpy(x), torch.from_numpy(d), lr / dw)
    xs, ds = drive.op.vectors(drive.x, drive.d)
    seen = not um or bl == 31
    for k, (a, b) in enumerate(zip(x, d, strict=True)):
        top_a, top_b = np.abs(a).max(), np.abs(b).max()
        length = min(bl, math.ceil(lr * top_a * top_b / dw)) if blm else bl
        share = np.sqrt(top_b / top_a) if um else 1.0
        root = np.sqrt(lr / (dw * length))
        assert int(drive.length[k]) == length
        over = max(1.0, np.sqrt(lr * top_a * top_b / dw / length)) if um else 1.0
        seen |= over > 1
        share /= over
        got_a, got_b = (xs[k] * drive.by_x[k]).numpy(), (ds[k] * drive.by_d[k]).numpy()
        np.testing.assert_allclose(np.abs(got_a), np.minimum(1, np.abs(a) * root * share))
        np.testing.assert_allclose(np.abs(got_b), np.minimum(1, np.abs(b) * root / share))
    assert drive.slots == int(drive.length.sum()) and seen


def test_management_is_refused_by_half():
    with pytest.raises(ValueError, match="update_management=False give bl_management=False"):
        xb.ExactBits(update_management=False)
    with pytest.raises(TypeError, match="bl_management must be True or False"):
        xb.Aggregated(bl_management=1)  # type: ignore[arg-type]


CONVOLUTIONS = {
    "1d": (nn.Conv1d, (4, 6, 3), {"padding": 2, "dilation": 2}),
    "2d": (nn.Conv2d, (4, 6, (3, 2)), {"padding": 1, "stride": 2}),
    "wide": (nn.Conv2d, (2, 4, 3), {"padding": 3}),
    "grouped": (nn.Conv2d, (4, 6, 3), {"groups": 2}),
    "depthwise": (nn.Conv2d, (4, 8, 3), {"groups": 4, "padding": 1}),
    "3d": (nn.Conv3d, (2, 4, 2), {"padding": 1}),
    "transposed": (nn.ConvTranspose2d, (4, 6, 3), {"stride": 2, "padding": 1}),
    "transposed 1d, grouped": (nn.ConvTranspose1d, (4, 6, 3), {"groups": 2}),
}


def operation(kind):
    """The operation of a layer, and an input and error of it."""
    made, args, more = CONVOLUTIONS[kind]
    torch.manual_seed(0)
    layer = made(*args, bias=False, **more).double()
    dims = layer.weight.dim() - 2
    x = torch.randn(3, args[0], *(5, 6, 4)[:dims]).double()
    window = Window(layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    turned = made in (nn.ConvTranspose1d, nn.ConvTranspose2d)
    return (ConvTranspose if turned else Conv)(window), x, torch.randn_like(layer(x)), layer


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_field_has_its_own_peak_and_sum(kind):
    op, x, d, _ = operation(kind)
    xs, ds = op.vectors(x, d)
    for found, over in ((op.peaks(x, d), "amax"), (op.sums(x, d), "sum")):
        for got, want in zip(found, (xs, ds), strict=True):
            torch.testing.assert_close(got, getattr(want.abs(), over)(-1, keepdim=True))
    assert op.extent(x, d) == (*xs.shape[1:], ds.shape[-1])
    by = torch.rand(len(xs), 1, 1).double()
    want = torch.einsum("ngr,ngc->grc", xs * by, ds)
    torch.testing.assert_close(op.outer(*op.weighed(x, d, by)), want)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("rate", [0.6, 9.0])
def test_moments_of_a_convolution_are_those_of_its_fields(kind, rate):
    """Fields that need no limit are not cut by the range of another field of the image."""
    op, x, d, _ = operation(kind)
    x[0] *= 5
    managed = xb.Aggregated(bl=200)
    parts, whole = (
        managed.drive(o, *v, rate) for o, v in ((Vectors(), op.vectors(x, d)), (op, (x, d)))
    )
    longest = parts.length.flatten(1).amax(1)  # the groups of a field share its train
    torch.testing.assert_close(whole.length.flatten(), longest)
    scheme = xb.Aggregated(bl=200, bl_management=False)
    got = scheme.pulses(op, x, d, rate, generator=None)
    want = scheme.pulses(Vectors(), *op.vectors(x, d), rate, generator=None)
    for a, b in zip(got[:4], want[:4], strict=True):
        torch.testing.assert_close(a, b)
    mean = torch.einsum("ngr,ngc->grc", *op.vectors(x, d)) * rate
    if rate < 1:  # nothing is cut
        torch.testing.assert_close(got.down - got.up, mean)


# ---- every scheme, layer and route ---------------------------------------------------------------

LR = 1e-3
LAYERS = {
    "linear": lambda: nn.Linear(6, 5, bias=False),
    "conv": lambda: nn.Conv2d(2, 4, 3, bias=False),
    "grouped": lambda: nn.Conv2d(4, 4, 3, groups=2, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(3, 2, 3, bias=False),
}


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_updates_descend_and_what_is_shown_is_held(scheme, layer, route):
    """−lr times the gradient in the mean, on layers of every kind; reads see the cells."""
    torch.manual_seed(0)
    net = LAYERS[layer]().double()
    device = Device(0.0, 1e-6, update=ConstantStep(1e-10))
    chip = xb.Chip(device, xb.Differential(route, w_max=2.0))
    twin = xb.convert(net, chip, mode=xb.InSitu(scheme), seed=0)
    optimiser = xb.InSituSGD(twin, LR)
    total, before = torch.zeros_like(net.weight), twin.weight.detach().clone()
    for _ in range(4):
        x = torch.randn(8, 6) if layer == "linear" else torch.randn(2, net.in_channels, 5, 5)
        y = twin(x.double())
        e = torch.randn_like(y)
        optimiser.zero_grad()
        (y * e).sum().backward()
        total += twin.weight.grad.detach()
        optimiser.step()
        cells = cells_of(twin)
        seen = cells.planes().matrix.clone()
        shown = twin.weight.detach().clone()
        cells.refresh()
        assert torch.equal(seen, cells.planes().matrix)
        twin.analog["weight"].show(twin.weight)
        assert torch.equal(shown, twin.weight.detach())
    moved = (twin.weight.detach() - before).flatten()
    slope = float((moved @ total.flatten()) / (total.flatten() @ total.flatten())) / -LR
    assert slope == pytest.approx(1.0, abs=0.15)


# ---- some cells among all ------------------------------------------------------------------------


def rich(**more):
    law = Endurance(SoftBounds(0.5e-6, sigma_c2c=0.3, sigma_d2d=0.3), pulses=40.0)
    return Device(
        1e-6, 50e-6, update=law, read=PCMRead(), retention=PowerLawDrift(0.05, sigma_d2d=0.2),
        faults=StuckAt(p_off=0.1), **more,
    )  # fmt: skip


def layer_of(device, scheme, shape=(30, 20), **settings):
    torch.manual_seed(0)
    net = nn.Linear(*shape, bias=False).double()
    return xb.convert(net, xb.Chip(device, **settings), mode=xb.InSitu(scheme), seed=0)


@pytest.mark.parametrize("scheme", [xb.ExactBits(), xb.Aggregated(), xb.Sequential()], ids=repr)
def test_cells_that_are_not_hit_stay_as_they_are(scheme):
    """Ages, wear and conductances; stuck cells stay stuck; what reads see follows."""
    layer = layer_of(rich(), scheme)
    xb.advance(layer, 100.0)
    cells, matrix = cells_of(layer), matrix_of(layer)
    before = copy.deepcopy(cells.state)
    x, d = torch.randn(2, 30).double(), torch.randn(2, 20).double()
    matrix.update(x, d, 0.02 * float(matrix.granularity), scheme)
    after = cells.state
    hit = after.update.used > before.update.used
    assert 0 < int(hit.sum()) < 0.1 * hit.numel()
    assert torch.equal(after.age == 0, hit) and bool((after.age[~hit] == 100).all())
    assert torch.equal(after.g[~hit], before.g[~hit])
    stuck = before.faults[0] if isinstance(before.faults[0], torch.Tensor) else None
    assert stuck is not None
    moved = after.g != before.g
    assert bool((moved <= hit).all()) and int(moved.sum()) > 0.5 * int(hit.sum())
    planes = cells.planes()
    seen = [planes.matrix.clone(), planes.variance.clone()]
    cells.refresh()
    fresh = cells.planes()
    assert torch.equal(seen[0], fresh.matrix) and torch.equal(seen[1], fresh.variance)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
@pytest.mark.parametrize("rate", [0.02, 2.0])
def test_the_same_seed_gives_the_same_bits(scheme, rate):
    ends = []
    for _ in range(2):
        law = SoftBounds(0.5e-6, sigma_c2c=0.3, sigma_d2d=0.3)
        layer = layer_of(Device(1e-6, 50e-6, update=law, read=GaussianRead(0.01)), scheme)
        matrix = matrix_of(layer)
        source = generator(5)
        for _ in range(3):
            x, d = (torch.randn(4, n, generator=source).double() for n in (30, 20))
            matrix.update(x, d, rate * float(matrix.granularity), scheme)
        ends.append(cells_of(copy.deepcopy(layer)).g)
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    "region",
    [Region(slice(2, 9, 3), slice(1, 4)), Region(slice(0, 4), slice(None), True), Region()],
)
def test_a_part_of_a_weight_is_hit_where_it_lies(region):
    """|x| = |δ| = 1 at a whole number of slots: every bit is certain."""
    shape = [len(range(*s.indices(n))) for s, n in zip(region[:2], (12, 5), strict=True)]
    shape = shape[::-1] if region.transposed else shape
    ends = []
    for scheme in (xb.Expected(), xb.ExactBits(), xb.Sequential()):
        device = Device(1e-6, 50e-6, update=SoftBounds(0.01e-6))
        layer = layer_of(device, scheme, (12, 5))
        matrix = matrix_of(layer)
        x, d = torch.zeros(1, shape[0]).double(), torch.zeros(1, shape[1]).double()
        x[0, 0], x[0, 1], d[0, 1], d[0, 2] = 1, -1, 1, -1
        matrix.update(x, d, 2 * float(matrix.granularity), scheme, region=region)
        ends.append(cells_of(layer).g)
    assert torch.allclose(ends[0], ends[1], rtol=1e-9) and torch.allclose(*ends[1:], rtol=1e-6)


def test_a_large_sparse_update_touches_few_numbers():
    """No pass over the weights is left: what is written is what was hit."""
    law = SoftBounds(0.05e-6, sigma_c2c=0.3, sigma_d2d=0.3)
    layer = layer_of(Device(1e-6, 50e-6, update=law), xb.Aggregated(), (400, 300))
    matrix, cells = matrix_of(layer), cells_of(layer)
    buffers = [cells.g.data_ptr(), cells.matrix.data_ptr()]
    matrix.update(torch.randn(4, 400).double(), torch.randn(4, 300).double(), 1e-6, xb.Aggregated())
    moved = cells.moved
    assert moved is not None and sum(len(w) for _, w in moved) < 0.05 * 400 * 300
    assert buffers == [cells.g.data_ptr(), cells.matrix.data_ptr()]


def test_numbers_go_to_their_rows(way):
    """A gradient that is nobody's tape: every row by itself."""
    d = torch.randn(6, 5).double()
    scheme, source, total = xb.ExactBits(), generator(0), torch.zeros(6, 5).double()
    n = 2000
    for _ in range(n):
        op = Numbers()
        for at, (pulses,), _ in scheme.parcels(op, d.new_ones(6, 1), d, 0.8, generator=source):
            net = (pulses.down - pulses.up).flatten()
            total.view(-1).index_add_(0, torch.arange(30) if at is None else at, net)
    mean = 0.8 * d
    assert bool(((total / n - mean).abs() <= SE * (mean.abs() / n).sqrt()).all())


def test_trains_of_the_loop_are_ours():
    """The judge's own rule gives the mean, so that both sides are tested."""
    draw = np.random.default_rng(0)
    bits = [trains(X[0], D[0], RATE, BL, draw) for _ in range(4000)]
    mean = np.mean([a.T @ b for a, b in bits], 0)
    want = RATE * np.outer(X[0], D[0])
    assert (np.abs(mean - want) <= SE * np.sqrt((np.abs(want) + want**2) / 4000) + 1e-9).all()
    assert soft(0.4, True, 0.1) == pytest.approx(0.52)


# ---- several arrays at once ----------------------------------------------------------------------


class Three(nn.Module):
    """A grouped convolution, a transposed one and a linear layer of one chip."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 2, groups=2, bias=False)
        self.second = nn.ConvTranspose2d(4, 2, 2, bias=False)
        self.third = nn.Linear(8, 3, bias=False)
        self.double()


def asked_of(model, size):
    """Inputs and errors of −1, 0 and 1 for every layer, at whole slots: every bit is certain."""
    asked, draw, window = [], generator(3), Window((2, 2), (1, 1), (0, 0), (1, 1))
    shapes = {
        "first": (Conv(Window((2, 2), (1, 1), (0, 0), (1, 1), 2)), (2, 2, 4, 4), (2, 4, 3, 3)),
        "second": (ConvTranspose(window), (2, 4, 2, 2), (2, 2, 3, 3)),
        "third": (Matmul(), (3, 8), (3, 3)),
    }  # fmt: skip
    for name, (op, of_x, of_d) in shapes.items():
        matrix = matrix_of(getattr(model, name))
        x, d = (torch.randint(2, of, generator=draw).double() * 2 - 1 for of in (of_x, of_d))
        lr = size * float(matrix.granularity)
        asked.append(together.Asked(matrix, op, x, d, lr, Region()))
    return asked


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("device", [Device(1e-6, 50e-6, update=SoftBounds(1e-8)), None])
def test_arrays_updated_at_once_are_those_updated_one_by_one(route, device, monkeypatch):
    """Also where leaves are one number for all cells, and ages start anew."""
    if device is None:
        law = Endurance(SoftBounds(1e-8, sigma_d2d=0.3), pulses=1e6)
        device = Device(1e-6, 50e-6, update=law, retention=PowerLawDrift(0.0))
    calls, at_once = [], together._at_once
    monkeypatch.setattr(together, "_at_once", lambda shares: calls.append(at_once(shares)))
    ends = []
    for alone in (False, True):
        chip = xb.Chip(device, xb.Differential(route))
        torch.manual_seed(0)
        model = xb.convert(Three(), chip, mode=xb.InSitu(xb.ExactBits()), seed=0)
        xb.advance(model, 10.0)
        asked = asked_of(model, 2)
        for part in [[a] for a in asked] if alone else [asked]:
            together.update(part, xb.ExactBits())
        ends.append([cells_of(getattr(model, n)) for n in ("first", "second", "third")])
    assert len(calls) == 1
    for mine, theirs in zip(*ends, strict=True):
        for name, value in mine.state_dict().items():
            torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-9, atol=0)
        torch.testing.assert_close(
            mine.planes().matrix, theirs.planes().matrix, rtol=1e-9, atol=1e-12
        )
        assert bool((mine.state.g != mine.state.g.flatten()[0]).any())


def test_arrays_of_other_chips_or_read_twice_are_updated_alone(monkeypatch):
    monkeypatch.setattr(together, "_at_once", lambda shares: pytest.fail("not at once"))
    torch.manual_seed(0)
    chips = [xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(s))) for s in (1e-8, 2e-8)]
    layers = [
        xb.convert(nn.Linear(8, 3, bias=False).double(), chip, mode=xb.InSitu(), seed=0)
        for chip in chips
    ]
    x, d = torch.randn(3, 8).double(), torch.randn(3, 3).double()
    asked = [
        together.Asked(matrix_of(layer), Matmul(), x, d, 1e-5, Region())
        for layer in (*layers, layers[1])
    ]
    together.update(asked, xb.ExactBits())
    probe = xb.Probe()
    with xb.observe(nn.ModuleList(layers[:1]), probe):
        together.update(asked[:1], xb.ExactBits())


def test_arrays_updated_at_once_have_bits_of_their_own():
    """The same x and δ on two arrays: counts that are not correlated from one to the other."""
    chip = xb.Chip(Device(0.0, 1.0, update=ConstantStep(1e-6)), xb.Differential(w_max=1.0))
    pair = [xb.matrix(torch.zeros(4, 5).double(), chip, seed=k) for k in range(2)]
    x, d = torch.from_numpy(X), torch.from_numpy(D)
    lr = RATE * float(pair[0].granularity)
    asked = [together.Asked(m, Matmul(), x, d, lr, Region()) for m in pair]
    moves = []
    for _ in range(600):
        before = [m.weight.clone() for m in pair]
        together.update(asked, xb.ExactBits(BL))
        moves.append(torch.stack([m.weight - b for m, b in zip(pair, before, strict=True)]))
    moved = torch.stack(moves) / float(pair[0].granularity)
    off = moved - moved.mean(0)
    products = off[:, 0] * off[:, 1]
    assert bool((products.mean(0).abs() <= SE * products.std(0) / math.sqrt(600) + 1e-9).all())
    assert bool((off.var(0) > 0).any(-1).all())
