"""Pulsing some cells of an array by their flat indices is pulsing them among all."""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from _laws import WINDOW
from test_contract import LAWS, WINDOWS, example, fast

from devices import (
    ApparentWriteNoise,
    Device,
    Endurance,
    LookupStep,
    PCMDrift,
    PCMRead,
    Pulses,
    SoftBounds,
    StuckAt,
    Update,
)
from devices.blocks import BLOCK
from devices.trees import tensors

SHAPE = (2, 6, 50)
NOISES = ("sigma_c2c", "sigma_add", "sigma_state")  # of each pulse; every other sigma is a spread
ENDS = (0.1e-6, 0.1e-6)  # [S] both quantiles of a measured step without noise
SURE = {  # laws that chance moves whatever their sigmas: settings that leave little to it
    "AbruptReset": {"law": SoftBounds(0.5e-6, sigma_d2d=0.3)},
    "AmplitudeStep": {"law": SoftBounds(0.5e-6, sigma_d2d=0.3)},
    "Endurance": {"law": SoftBounds(0.5e-6, sigma_d2d=0.3), "pulses": 3.0},
    "LookupStep": {
        "up": ((ENDS,) * 3, ((0.3e-6, 0.3e-6),) * 3),
        "down": (((-0.2e-6, -0.2e-6),) * 3, ((-0.4e-6, -0.4e-6),) * 3),
    },
    "StochasticSwitch": {"p_up": 1.0, "p_down": 1.0},
    "MTJSwitch": {"width": 1.0},
    "PreisachFeFET": {},
    "NarrowingWindow": {"law": SoftBounds(0.5e-6, sigma_d2d=0.3), "pulses": 3.0},
}

KINDS = fast(LAWS, "JART")  # a circuit to balance for every cell


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def array(law: Update, shape: tuple[int, ...] = SHAPE) -> tuple[Device, object]:
    """Float64 cells of a law anywhere in the window."""
    device = Device(*WINDOWS.get(type(law).__name__, WINDOW), update=law)
    state = device.fabricate(shape, generator=generator(0), dtype=torch.float64)
    place = torch.rand(shape, generator=generator(1), dtype=torch.float64)
    return device, state._replace(g=device.g_min + device.window.span * place)


def everywhere(given: Pulses, at: torch.Tensor, shape: tuple[int, ...]) -> Pulses:
    """The pulses of the cells `at` as those of all cells, the others' none."""

    def spread(t: torch.Tensor | None) -> torch.Tensor | None:
        if t is None:
            return None
        return torch.zeros(shape, dtype=t.dtype).flatten().index_copy(0, at, t).view(shape)

    return Pulses(*(spread(t) for t in given))


@pytest.mark.parametrize("most", [4, 300])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_without_noise_they_go_where_they_go_among_all(kind: type[Update], most: int) -> None:
    law = example(kind)
    sigmas = {f.name: 0.1 for f in fields(law) if f.name.startswith("sigma")}
    sigmas |= {name: 0.0 for name in (*NOISES, "sigma") if name in sigmas}
    if kind.__name__ == "NeuroSim":
        sigmas["sigma_d2d"] = 0.5
    law = replace(law, **{**sigmas, **SURE.get(kind.__name__, {})})
    device, state = array(law)
    at = torch.randperm(state.g.numel(), generator=generator(2))[:171]
    up, down = torch.randint(most + 1, (2, 171), generator=generator(3)).double()
    if kind.__name__ in SURE:  # the order of mixed ones is left to chance
        up, down = torch.where(up > down, up, 0), torch.where(down >= up, down, 0)
    if kind is LookupStep:  # more than two are rounded to a grid, by chance
        up, down = up.clamp(max=2), down.clamp(max=2)
    given = Pulses(up, down)
    part = device.pulse(state, given, generator=generator(4), at=at)
    again = device.pulse(state, given, generator=generator(5), at=at)
    assert torch.equal(part.g, again.g), "the settings leave something to chance"
    whole = device.pulse(state, everywhere(given, at, SHAPE), generator=generator(6))
    for ours, theirs in zip(tensors(part), tensors(whole), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    assert not torch.equal(part.g, state.g)


COUNTED = [(kind, False) for kind in LAWS]
COUNTED += [(kind, True) for kind in LAWS if not example(kind).whole]


@pytest.mark.parametrize("kind,moments", COUNTED)
def test_with_noise_they_have_the_same_moments(kind: type[Update], moments: bool) -> None:
    """Mean and standard deviation of 10,000 like cells within 4.5 standard errors."""
    law = example(kind)
    noise = {f.name: 0.3 for f in fields(law) if f.name in (*NOISES, "sigma")}
    law = replace(law, **{**noise, **({"sigma_state": 0.01} if "sigma_state" in noise else {})})
    n = 10_000
    device, state = array(law, (4, n // 2))
    state = state._replace(g=torch.full_like(state.g, device.g_min + 0.4 * device.window.span))
    at = torch.randperm(state.g.numel(), generator=generator(2))[:n]
    mean = (torch.full((n,), c, dtype=torch.float64) for c in (7.0, 3.0))
    given = Pulses(*mean)
    if moments:
        given = given._replace(up_var=given.up, down_var=given.down)
    part = device.pulse(state, given, generator=generator(4), at=at).g.flatten()[at] - state.g[0, 0]
    whole = device.pulse(state, everywhere(given, at, state.g.shape), generator=generator(5))
    whole = whole.g.flatten()[at] - state.g[0, 0]
    error = 4.5 * ((part.var() + whole.var()) / n).sqrt() + 1e-12 * device.g_max
    assert (part.mean() - whole.mean()).abs() <= error
    # of a standard deviation s: √((m₄ − s⁴)/n)/2s, whatever the distribution
    off = [(t - t.mean()).pow(4).mean() - t.var() ** 2 for t in (part, whole)]
    error = 4.5 * (sum(off) / n).clamp(min=0).sqrt() / (2 * whole.std() + 1e-30)
    error = error + 4.5**2 * whole.std() / (2 * n)  # all there is of even chances of two values
    assert (part.std() - whole.std()).abs() <= error + 1e-12 * device.g_max


def rich() -> tuple[Device, object]:
    """Cells of every kind of state: wear, a deviation left by the write, drift, faults."""
    device = Device(
        *WINDOW,
        update=Endurance(SoftBounds(0.5e-6, sigma_c2c=0.3, sigma_d2d=0.3), pulses=50.0),
        read=ApparentWriteNoise(0.02),
        retention=PCMDrift(),
        faults=StuckAt(p_off=0.1, p_on=0.1),
    )
    state = device.fabricate(SHAPE, generator=generator(0))
    state = device.program(state, torch.full(SHAPE, 20e-6), generator=generator(1))
    return device, device.advance(state, 100.0, generator=generator(2))


def test_all_else_stays_as_it_is() -> None:
    device, state = rich()
    before = [t.clone() for t in tensors(state)]
    at = torch.randperm(state.g.numel(), generator=generator(3))[:200]
    others = torch.ones(state.g.numel(), dtype=torch.bool).index_fill(0, at, False)
    after = device.pulse(state, Pulses(torch.ones(200), torch.zeros(200)), at=at)
    for old, now, kept in zip(before, tensors(after), tensors(state), strict=True):
        assert torch.equal(old.nan_to_num(), kept.nan_to_num()), "written into"
        assert old.shape == now.shape and old.dtype == now.dtype
        if old.dim():
            old, now = (t.flatten()[others].nan_to_num() for t in (old, now))
            assert torch.equal(old, now)


def test_ages_writes_wear_and_faults_are_those_of_the_pulsed_cells() -> None:
    device, state = rich()
    at = torch.randperm(state.g.numel(), generator=generator(3))[:200]
    up = (torch.arange(200) % 3).float()  # every third of them is given none
    after = device.pulse(state, Pulses(up, torch.zeros(200)), generator=generator(4), at=at)
    stuck = ~state.faults.at.flatten()[at].isnan()

    def there(t: torch.Tensor) -> torch.Tensor:
        return t.flatten()[at]

    assert torch.equal(there(after.g) != there(state.g), (up > 0) & ~stuck)
    assert bool((there(after.g) == there(state.faults.at))[stuck].all())
    assert torch.equal(there(after.age), torch.where(up > 0, 0.0, 100.0).double())
    assert torch.equal(there(after.retention.nu) != there(state.retention.nu), up > 0)
    assert torch.equal(there(after.read.offset) != there(state.read.offset), up > 0)
    assert torch.equal(there(after.update.used), up.double())


def test_who_is_written_is_said_cell_by_cell() -> None:
    device = Device(*WINDOW, update=SoftBounds(0.5e-6), read=PCMRead())
    state = device.advance(device.fabricate(SHAPE, generator=generator(0)), 100.0)
    at = torch.tensor([401, 7, 30])
    written = torch.tensor([True, False, True])
    given = Pulses(torch.ones(3), torch.zeros(3))
    after = device.pulse(state, given, written=written, at=at)
    assert after.age.flatten()[at].tolist() == [0.0, 100.0, 0.0]
    assert torch.equal(after.read.q.flatten()[at] != state.read.q.flatten()[at], written)
    assert after.g.flatten()[at].ne(state.g.flatten()[at]).all()


def test_counts_that_devices_share_stay_shared() -> None:
    """The shared normal is picked along: with it the random counts leave nothing to chance."""
    device, state = array(SoftBounds(0.5e-6, sigma_d2d=0.3))
    at = torch.randperm(state.g.numel(), generator=generator(2))[:99]
    mean = torch.rand(2, 99, generator=generator(3), dtype=torch.float64) * 5
    z = torch.randn(99, generator=generator(4), dtype=torch.float64)
    given = Pulses(mean[0], mean[1], mean[0], mean[1], z)
    part = device.pulse(state, given, at=at).g
    whole = device.pulse(state, everywhere(given, at, SHAPE)).g
    torch.testing.assert_close(part, whole, rtol=1e-12, atol=0)


@dataclass(frozen=True)
class Placed(Update):
    """A law that looks its steps up by the place of a cell."""

    def step(self, window):
        return 1e-9

    def pulse(self, window, g, p, pulses, draw, at=None):
        place = torch.arange(g.numel()).view(g.shape) if at is None else at
        return g + pulses.up * (place % 1000) * 1e-9, p


@pytest.mark.parametrize("shape", [(30, 40), (5 * BLOCK // 1000, 1000)], ids=["whole", "blocks"])
def test_a_law_knows_which_cells_it_is_given(shape: tuple[int, ...]) -> None:
    device, n = Device(0.0, 1e-3, update=Placed()), shape[0] * shape[1]
    state = device.fabricate(shape, dtype=torch.float64)
    want = (torch.arange(n) % 1000).double() * 1e-9
    one = torch.ones(shape, dtype=torch.float64)
    g = device.pulse(state, Pulses(one, 0 * one)).g
    torch.testing.assert_close(g.flatten(), want, rtol=1e-12, atol=0)
    at = torch.randperm(n, generator=generator(0))
    for few in (at[: n // 3], at):
        ones = one.flatten()[: len(few)]
        g = device.pulse(state, Pulses(ones, 0 * ones), at=few).g.flatten()
        torch.testing.assert_close(g[few], want[few], rtol=1e-12, atol=0)
        assert int((g > 0).sum()) == int((want[few] > 0).sum())


def test_no_cells_are_none() -> None:
    device, state = rich()
    none = torch.zeros(0)
    after = device.pulse(state, Pulses(none, none), at=torch.zeros(0, dtype=torch.int64))
    for old, now in zip(tensors(state), tensors(after), strict=True):
        assert torch.equal(old.nan_to_num(), now.nan_to_num())


def test_counts_of_other_cells_are_refused() -> None:
    device, state = array(SoftBounds(0.5e-6))
    at = torch.tensor([3, 1])
    for up, down in ((torch.ones(3), torch.ones(3)), (torch.ones(SHAPE), torch.ones(SHAPE))):
        with pytest.raises(ValueError, match="1-D and of one length"):
            device.pulse(state, Pulses(up, down), at=at)
    with pytest.raises(IndexError):
        device.pulse(state, Pulses(torch.ones(2), torch.ones(2)), at=torch.tensor([0, 600]))
