"""Every way to use a converted model under a ledger counts what it is, or is refused by name."""

import copy
import math
import threading
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import crossbar as xb
from crossbar import spiking as sp
from crossbar.arrays import linear_operator, read_back
from crossbar.ledger import Counts, reads
from crossbar.rules.rule import signed
from devices import VTEAM, Device, PowerLawDrift, SoftBounds

CELL = Device(1e-6, 5e-5, update=SoftBounds(5e-8), retention=PowerLawDrift(nu=0.05))
CHIP = xb.Chip(CELL, forward=xb.Periphery(xb.DAC(8), xb.ADC(8)), tile=(16, 16))
X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


def net(mode=None, chip=CHIP):
    torch.manual_seed(0)
    body = nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)
    return xb.convert(nn.Sequential(*body), chip, mode=mode or xb.InSitu(), seed=0)


def of(model, use, *events, **how):
    with xb.ledger(model, **how) as ledger:
        use(model)
    return [ledger.counts.total(event) for event in events]


def asked(x):
    return x.clone().requires_grad_()


# a forward of 3 vectors converts 3 (4 + 2) currents, a backward one that is asked for the input's
# gradient 3 (8 + 4); of 12 ReLUs either way
FORWARD, BACKWARD = 18, 36
WAYS = {
    "functional_call": (
        lambda n: torch.func.functional_call(n, dict(n.named_parameters()), (X,)),
        (FORWARD, 12),
    ),
    "grad": (lambda n: torch.func.grad(lambda x: n(x).sum())(X), (FORWARD + BACKWARD, 24)),
    "autograd.grad": (
        lambda n: torch.autograd.grad(n(x := asked(X)).sum(), x),
        (FORWARD + BACKWARD, 24),
    ),
    "backward": (lambda n: n(asked(X)).sum().backward(), (FORWARD + BACKWARD, 24)),
    "twice": (
        lambda n: [(y := n(asked(X)).sum()).backward(retain_graph=True), y.backward()],
        (FORWARD + 2 * BACKWARD, 36),
    ),
    "checkpoint": (
        lambda n: (
            checkpoint(n, asked(X), use_reentrant=False, context_fn=xb.replay(n)).sum().backward()
        ),
        (2 * FORWARD + BACKWARD, 36),
    ),
    "fx": (lambda n: torch.fx.symbolic_trace(n)(X), (FORWARD, 12)),
    "DataParallel": (lambda n: nn.DataParallel(n)(X), (FORWARD, 12)),
    "copied in between": (lambda n: [copy.deepcopy(n)(X), n(X)], (FORWARD, 12)),
    "calibrated": (lambda n: xb.calibrate(n, [X]), (2 * FORWARD, 24)),
    "asked about": (
        lambda n: [
            xb.summary(n, X),
            xb.to_neurosim(n, X),
            xb.sensitivity(n, lambda m: m(X).sum().item()),
        ],
        (0, 0),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_read_counts_whatever_calls_it(way):
    use, wanted = WAYS[way]
    assert tuple(of(net(), use, "adc", "activation")) == wanted


def test_reads_without_gradients_and_of_inference_tensors():
    def use(n):
        with torch.inference_mode():
            n(X)

    with torch.inference_mode():
        made = net(xb.Programmed())
    for model in (made, net(xb.Programmed())):
        assert of(model, use, "adc", "activation") == [FORWARD, 12]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("mode", [xb.Programmed(), xb.InSitu()], ids=["programmed", "in situ"])
def test_a_compiled_model_counts_as_it_does_without(mode):
    """Whenever it was compiled: what runs under a ledger is not what was traced."""
    torch._dynamo.reset()
    model = net(mode)
    whole = torch.compile(model, backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="the ledger counts what runs"):
        of(model, lambda _: whole(X))
    model = net(mode)
    fast = torch.compile(model, backend="eager")
    fast(X)
    assert of(model, lambda _: fast(X), "adc", "activation") == [FORWARD, 12]
    model[1].compile(backend="eager")
    model(X)
    assert of(model, lambda n: n(X), "adc", "activation") == [FORWARD, 12]
    own = xb.convert(Own(), CHIP, mode=mode, seed=0)
    fast = torch.compile(own, backend="eager")
    fast(X)
    assert of(own, lambda _: fast(X), "adc", "activation", "add") == [12 + 24, 12, 12 + 24 + 24]


def test_transforms_that_hide_the_batch_are_refused():
    with pytest.raises(TypeError, match=r"torch\.func\.vmap"):
        of(net(), lambda n: torch.func.vmap(n)(X.unsqueeze(1)))
    with pytest.raises(TypeError, match=r"replicas of 1\b"):
        of(net(), lambda n: n[1]._replicate_for_data_parallel()(X))


def test_threads_lose_nothing(monkeypatch):
    """Additions are torn in two: another thread would run in between."""
    vectors, model = reads.Plan.add, net(xb.Programmed())

    def torn(self, key, value):
        old = self._sums.get(key, 0.0)
        time.sleep(1e-5)
        self._sums[key] = old + value

    def torn_too(self, use):
        old = self.vectors
        time.sleep(1e-5)
        vectors(self, use)
        self.vectors = old + 3

    monkeypatch.setattr(Counts, "add", torn)
    monkeypatch.setattr(reads.Plan, "add", torn_too)

    def use(n):
        threads = [threading.Thread(target=lambda: [n(X) for _ in range(5)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with xb.ledger(model) as ledger:
        use(model)
    monkeypatch.undo()
    total = ledger.counts.total
    assert [total(e) for e in ("adc", "activation", "add")] == [20 * FORWARD, 240, 20 * FORWARD]


# ---- chips that stand for the model --------------------------------------------------------------


@pytest.mark.parametrize("mode", [xb.InSitu(), xb.HardwareAware()], ids=["in situ", "float"])
def test_a_model_over_time_counts_on_all_of_its_chips(mode):
    """Two chips: written and twice rewritten, read at three times, known inputs at each of all."""
    model, chips, vectors = net(mode), 2, 5
    keep = xb.TileCompensation(vectors=vectors)
    with xb.ledger(model) as ledger:
        xb.over_time(
            model,
            lambda chip: float(chip(X).detach().sum()),
            [1.0, 25.0, 40.0],
            chips=chips,
            compensation=keep,
            refresh=15.0,
        )
    total = ledger.counts.total
    assert total("write", phase="program") == total("write") == chips * 3 * 2 * (32 + 8)
    assert total("second") == chips * 2 * 40.0
    assert total("activation") == chips * 3 * 12
    # after the writing, at each time and rewriting (15, 30): six times, both arrays of one tile
    assert total("adc") == chips * (3 * FORWARD + 6 * vectors * (4 + 2))
    assert {key.weight for key in ledger.counts} == {"0", "0.weight", "1", "2", "2.weight"}
    model(X)  # and no more of them than the model itself goes on
    assert all(m.probe is None for m in model.modules() if isinstance(m, xb.Matrix))
    assert len(ledger.matrices) == 2


def test_parts_and_wholes_over_time():
    """A ledger of a part follows the part of each chip; one of the whole a part that ages."""
    model = net()
    times = dict(times=[1.0], chips=3)
    with xb.ledger(model) as whole, xb.ledger(model[2]) as part:
        xb.over_time(model, lambda chip: float(chip(X).detach().sum()), **times)
        xb.over_time(model[2], lambda chip: float(chip(X[:, :4]).detach().sum()), **times)
    assert part.counts.total("adc") == 2 * 3 * 3 * 2 == part.counts.total("adc", weight="weight")
    assert whole.counts.total("adc", weight="2.weight") == 2 * 3 * 3 * 2
    assert whole.counts.total("adc", weight="0.weight") == 3 * 3 * 4
    with xb.ledger(model) as inner, xb.observe(model, xb.Tally(model)) as tally:
        xb.over_time(model, lambda chip: float(chip(X).detach().sum()), **times)
    assert inner.counts.total("adc") == 3 * FORWARD and tally["0.weight"].conversions == 0


def test_a_calibration_within_does_not_hide_the_conversions_after_it():
    """While currents are measured there is no converter; behind them there is one again."""
    port = xb.Periphery(xb.DAC(8, range=xb.Calibrated()), xb.ADC(6, range=xb.Calibrated()))
    model = net(chip=xb.Chip(CELL, forward=port))
    found = of(model, lambda n: [xb.calibrate(n, [X]), n(X)], "adc", "integrate", "dac")
    assert found == [FORWARD, 3 * FORWARD, 3 * 36]


def test_what_comes_into_the_model_later_is_refused():
    def use(n):
        n.append(xb.AnalogLinear(2, 2, chip=CHIP, mode=xb.Programmed()))

    with pytest.raises(TypeError, match="3 came into the model while the ledger was open"):
        of(net(), use)


# ---- arrays of their own -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use,conversions",
    [
        (lambda a: a @ torch.ones(6), 5),
        (lambda a: a @ torch.ones(6, 4), 4 * 5),
        (lambda a: a.T @ torch.ones(5), 6),
        (lambda a: torch.ones(5) @ a, 6),
        (lambda a: a[1:3] @ torch.ones(6), 2),
        (lambda a: a.T[1:5, ::2] @ torch.ones(3), 4),
        (read_back, 6 * 5),
        (lambda a: a.read_row(2), 5),
        (lambda a: a.read_column(torch.tensor([0, 3])), 2 * 6),
        (lambda a: linear_operator(a).matvec([1.0] * 6), 5),
        (lambda a: linear_operator(a).rmatvec([1.0] * 5), 6),
    ],
)
def test_products_of_a_matrix(use, conversions):
    array = xb.matrix(torch.randn(5, 6), CHIP, seed=0)
    assert of(array, use, "adc") == [conversions]


def test_equations_count_products_on_both_sides():
    """Of 8 terms 7 products an iteration; digitally a residual each, or those of GMRES."""
    a = 0.5 * torch.eye(6, dtype=torch.float64) + 0.1 * torch.rand(6, 6, dtype=torch.float64)
    array, b = xb.matrix(a, CHIP, seed=0), torch.randn(6).double()
    for method in ("refinement", "gmres"):
        found = []
        with xb.ledger(array) as ledger:
            found.append(array.solve(b, method=method, rtol=1e-2, most=3))
        steps = len(found[0].residuals) - 1
        assert found[0].verdict == "converged" and steps > 0
        assert ledger.counts.total("adc", phase="forward") == steps * 7 * 6
        base = sum(5 * k * 6 for k in range(1, steps + 1))
        digital = steps * 36 if method == "refinement" else 2 * steps * 36 + base
        assert ledger.counts.total("digital_mac", phase="forward") == digital
    with pytest.raises(TypeError, match="feedback loop"):
        of(array, lambda m: m.solve(b, terms=None))


def test_complex_matrices_and_matrices_that_modules_hold():
    w = torch.randn(4, 8, dtype=torch.complex64)
    pair = xb.arrays.complex_matrix(w, CHIP, seed=0)
    with xb.ledger(pair) as ledger:
        pair @ torch.randn(8, dtype=torch.complex64)
        pair.T @ torch.ones(4)
    assert {k.weight for k in ledger.counts} == {"real", "imag"}
    assert ledger.counts.total("adc", weight="imag") == 2 * 4 + 8

    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = xb.AnalogLinear(8, 4, chip=CHIP, mode=xb.Programmed(), seed=0)
            self.array = xb.matrix(torch.randn(2, 4), CHIP, seed=1)

        def forward(self, x):
            return torch.tanh(self.array @ self.first(x).mT)

    assert of(Holds(), lambda m: m(X), "adc", "activation") == [FORWARD, 6]
    with pytest.raises(ValueError, match="no analog layers"):
        of(nn.Linear(2, 2), lambda m: None)


def test_writes_through_the_parameter_and_pulses_to_symmetry():
    def halved(n):
        with torch.no_grad():
            n[0].weight.mul_(0.5)
        n(X)

    assert of(net(), halved, "write", "adc") == [2 * 32, FORWARD]
    array = xb.matrix(torch.randn(5, 6), CHIP, seed=0)
    assert of(array, lambda a: a.zero(3), "pulse") == [3 * 2 * 2 * 30]
    state = copy.deepcopy(net().state_dict())
    assert of(net(), lambda n: n.load_state_dict(state), "write") == [0]  # no hardware writes it


# ---- procedures ----------------------------------------------------------------------------------


def test_feedback_arrays_take_the_place_of_transposed_reads():
    """Errors of 2 outputs on arrays of 4 and 3 lines; no layer is read from behind."""
    torch.manual_seed(0)
    body = nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)
    model = xb.convert(nn.Sequential(*body), CHIP, mode=xb.InSitu(), seed=0)
    with xb.ledger(model) as ledger, xb.DirectFeedback(model, ["1", "3"], [4, 3], 2, chip=CHIP):
        model(X).square().sum().backward()
        model(X).square().sum().backward()
    total = ledger.counts.total
    assert total("adc", phase="forward") == 2 * 3 * (4 + 3 + 2)
    assert total("adc", phase="backward", weight="feedback of 1") == 2 * 3 * 4
    assert total("adc", phase="backward", weight="feedback of 3") == 2 * 3 * 3
    assert total("adc", phase="backward") == 2 * 3 * (4 + 3)


def test_winners_read_every_step_once():
    """Against a circuit stepped by hand; what was read ahead of a winner is not counted."""
    torch.manual_seed(1)
    port = xb.Periphery(xb.DAC(4, range=xb.Fixed(1.0)), xb.ADC(8))
    chip = xb.Chip(CELL, xb.Unipolar(w_max=1.0), forward=port)
    array = xb.matrix(torch.rand(4, 12), chip, seed=0)
    twin = copy.deepcopy(array)
    how = dict(tau=10.0, threshold=2.0, window=5, homeostasis=0.1, refractory=2)
    spikes = (torch.rand(40, 12) < 0.3).float()
    with xb.ledger(array) as ledger:
        counts = sp.WinnerTakesAll(array, **how).present(spikes)
    read, array_rows, rest, v, won = 0, 0.0, 0, torch.zeros(4), torch.zeros(4)
    for t in range(40):
        if rest:
            rest -= 1
            continue
        v = v * math.exp(-1 / 10) + twin.mv(spikes[t])
        read, array_rows = read + 1, array_rows + spikes[t].sum()
        if float(v.max()) >= 2.0:
            winner = int(v.argmax())
            way = 2 * spikes[max(0, t - 4) : t + 1].amax(0) - 1
            given = torch.zeros(12, 4)
            given[:, winner] = way
            twin.pulse(signed(given))
            v, rest = torch.zeros(4), 2
            won[winner] += 1
    assert torch.equal(counts, won) and 0 < read < 40
    assert torch.equal(array.cells.g, twin.cells.g)
    total = ledger.counts.total
    assert total("adc") == 4 * read == total("digital_mac") == total("activation")
    assert total("row_drive") == float(array_rows)
    assert total("optimiser_op", phase="forward") == 12 * read  # clocks of the rows
    assert total("optimiser_op", phase="update") == 2 * 4  # thresholds that move
    with pytest.raises(TypeError, match="a stack whose arrays learn"):
        stack = sp.winner.stack(torch.rand(2, 4, 12), chip, seed=0)
        of(stack, lambda m: sp.WinnerTakesAll(m, **how).present(torch.ones(4, 2, 12)))


def test_circuits_that_nobody_counts_are_refused():
    settles = xb.ResistiveNetwork([3, 2, 1], CELL)
    with pytest.raises(TypeError, match="a network that settles"):
        of(settles.arrays[0], lambda _: settles.settle(torch.ones(1, 3).double()))
    with pytest.raises(TypeError, match="model must be"):
        of(settles, lambda _: None)
    volatile = sp.VolatileReservoir(Device(1e-6, 5e-5, update=VTEAM()), 3)
    with pytest.raises(TypeError, match="VolatileReservoir"):
        of(volatile.cells, lambda _: volatile.run(torch.randn(4)))


# ---- functions between modules -------------------------------------------------------------------


class Own(nn.Module):
    """Functions of torch between layers, and of a layer's forward called by itself."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(8, 4), nn.LayerNorm(4)
        self.second, self.act = nn.Linear(4, 8), nn.Tanh()

    def forward(self, x):
        h = F.relu(self.first(x))
        return self.second(h) + x


class Attends(nn.Module):
    def __init__(self, fused):
        super().__init__()
        self.qkv, self.out, self.fused = nn.Linear(8, 24), nn.Linear(8, 8, bias=False), fused

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.fused:
            return self.out(F.scaled_dot_product_attention(q, k, v))
        return self.out((q @ k.mT / math.sqrt(8)).softmax(-1) @ v)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_of_ones_own_by_hand(fused):
    """2 × 5 × 5 shares of 8 products each, and of the values; back twice as many."""
    model = xb.convert(Attends(fused), CHIP, mode=xb.InSitu(), seed=0)
    x, scaled = torch.randn(2, 5, 8), 0 if fused else 50
    with xb.ledger(model) as ledger:
        model(x).sum().backward()
    total = ledger.counts.total
    assert total("digital_mac", phase="forward") == 2 * 50 * 8 + scaled
    assert total("digital_mac", phase="backward") == 4 * 50 * 8 + scaled
    assert total("activation", phase="forward") == 50 == total("activation", phase="backward")
    assert total("add", phase="forward") == 2 * 5 * 24


def test_residuals_norms_and_pools_between_layers():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
            self.scale = nn.Parameter(torch.ones(2, 1, 1))

        def forward(self, x):
            y = F.batch_norm(self.conv(x), None, None, training=True)
            y = F.gelu(y) * self.scale
            y += x
            y = F.max_pool2d(y[..., :4, :4], 2)
            return F.linear(y.flatten(1).clone(), torch.ones(3, 8), torch.ones(3))

    model = xb.convert(Block(), CHIP, mode=xb.InSitu(), seed=0, exclude=["scale"])
    n = 3 * 2 * 16
    events = ("norm", "activation", "add", "pool", "digital_mac")
    found = of(model, lambda m: m(torch.randn(3, 2, 4, 4)), *events)
    assert found == [n, n, n + 9, n, n + 3 * 8 * 3]


def test_functions_that_nobody_counts_are_refused_by_name():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(8, 8))

        def forward(self, x):
            return torch.linalg.svd(self.inner(x))[1]

    model = xb.convert(nn.Sequential(Odd()), CHIP, mode=xb.InSitu(), seed=0)
    with pytest.raises(TypeError, match=r"linalg_svd, which 0 \(Odd\) calls"):
        of(model, lambda m: m(X))
    assert not torch.overrides._get_current_function_mode_stack()  # left behind by the error
    count = {Odd: lambda module, inputs, output: {"activation": 7.0}}
    assert of(model, lambda m: m(X), "activation", "adc", count=count) == [7, 24]
    assert of(model, lambda m: m(X), "activation", "adc", left_out=["0"]) == [0, 24]


def test_the_emulators_own_arithmetic_is_nobodys_digital_work():
    """Time that passes and arrays that are read within a forward of one's own."""

    class Ages(nn.Module):
        def __init__(self):
            super().__init__()
            self.array = xb.matrix(torch.randn(2, 8), CHIP, seed=1)

        def forward(self, x):
            self.array.advance(3.0)
            return (self.array @ x.mT).mT

    with xb.ledger(Ages()) as ledger:
        ledger.model(X)
    assert {k.event for k in ledger.counts} & {"add", "activation", "digital_mac", "norm"} == set()
    assert ledger.counts.total("second") == 3.0 and ledger.counts.total("adc") == 6


def test_scales_and_bias_rows():
    """12 outputs, each by its scale; either factor's gradient is a product back."""
    scaled = xb.output_scales(nn.Sequential(nn.Linear(8, 4)))
    scaled = xb.convert(scaled, CHIP, mode=xb.InSitu(), seed=0)
    assert of(scaled, lambda n: n(X), "digital_mac", "add") == [12, 12]
    assert of(scaled, lambda n: n(asked(X)).sum().backward(), "digital_mac", "add") == [36, 24]
    rows = xb.convert(xb.bias_rows(nn.Sequential(nn.Linear(8, 4))), CHIP, mode=xb.InSitu(), seed=0)
    assert of(rows, lambda n: n(X), "dac", "adc", "add") == [3 * 9, 12, 0]
