"""Programming errors and current–voltage laws against their published figures."""

import pytest
import torch

from devices import (
    CMOWrite,
    CubicIV,
    Device,
    Draw,
    GaussianWrite,
    MiloIV,
    MiloWrite,
    SinhIV,
    SONOSWrite,
    StuckAt,
    WanWrite,
)
from devices.part import Window


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What is given no generator draws from torch's own, here always the same."""
    torch.manual_seed(0)


UM = 1e-6
N = 40000


def spread(write, window: tuple[float, float], target: float) -> float:
    """Standard deviation of one programming [µS]."""
    generator = torch.Generator().manual_seed(0)
    wanted = torch.full((N,), target * UM, dtype=torch.float64)
    got = write.program(
        Window(window[0] * UM, window[1] * UM), wanted, Draw.like(wanted, generator)
    )
    assert abs((got - wanted).mean()) < 4 * got.std() / N**0.5 + 1e-15
    return got.std().item() / UM


ERROR = 4 / (2 * N) ** 0.5


@pytest.mark.parametrize(
    "write,window,points",
    [
        (GaussianWrite(0.03), (10, 60), [(10, 1.5), (60, 1.5)]),
        # Wan et al. at 1 s: 0.35, 2.02 and 1.17 µS for 0, 20 and 39 µS of 40 µS
        (WanWrite(), (0, 40), [(0, 0.348), (20, 2.02), (39, 1.17)]),
        (WanWrite(after=172800.0), (0, 40), [(0, 0.782)]),
        # the same cells in another window: the fit is of the fraction, not of the microsiemens
        (WanWrite(), (0, 25), [(12.5, 2.02 * 25 / 40)]),
        # Milo et al.: nearly flat, 4.3 to 2.7 µS over 50 … 225 µS
        (MiloWrite(), (50, 225), [(50, 4.327), (225, 2.733)]),
        # Falcone et al.: about 1 % of g at the wide acceptance, 10 times less at the narrow one
        (CMOWrite(), (9, 88.2), [(88.2, 1.007)]),
        (CMOWrite(acceptance=0.2), (9, 88.2), [(88.2, 0.0951)]),
        # Xiao et al.: 19.89 nA far above 176 nA, and an exact zero
        (SONOSWrite(), (0, 16), [(0, 0.0), (16, 0.1989)]),
    ],
)
def test_programming_error_has_its_published_size(write, window, points):
    for target, sigma in points:
        assert spread(write, window, target) == pytest.approx(sigma, rel=ERROR + 3e-3, abs=1e-9)


def test_only_published_conditions_exist():
    with pytest.raises(ValueError, match=r"after must be one of \[1.0, 86400.0, 172800.0\]"):
        WanWrite(after=3600.0)
    with pytest.raises(ValueError, match="acceptance must be one of"):
        CMOWrite(acceptance=0.02)


def test_programming_is_clipped_to_the_window_by_the_device():
    device = Device(0.0, 40 * UM, write=WanWrite())
    state = device.fabricate((N,), dtype=torch.float64)
    g = device.program(state, torch.full((N,), 0.0)).g
    assert g.min() == 0.0
    assert g.mean() / UM == pytest.approx(0.348 / (2 * torch.pi) ** 0.5, rel=0.03)


def test_sinh_current_is_exponential_and_linear_at_its_ends():
    g = torch.tensor(20 * UM, dtype=torch.float64)
    v = torch.tensor([1e-4, -1e-4, 1.0, 1.25], dtype=torch.float64)
    current = SinhIV(v0=0.25).current(g, v)
    assert current[0] == pytest.approx(20 * UM * 1e-4, rel=1e-6)
    assert current[1] == -current[0]
    assert current[3] / current[2] == pytest.approx(2.71828, rel=1e-3)  # one v0 is a factor e


def test_cubic_current():
    g = torch.tensor([10 * UM, 20 * UM], dtype=torch.float64)
    current = CubicIV(a=0.2, b=0.6).current(g, torch.tensor(0.5, dtype=torch.float64))
    assert current[0].item() == pytest.approx(10 * UM * (0.5 + 0.2 * 0.25 + 0.6 * 0.125))
    assert current[1] == 2 * current[0]
    with pytest.raises(ValueError, match=r"b must be > a\*\*2/3"):
        CubicIV(a=3.0, b=1.0)


@pytest.mark.parametrize("g", [50.0, 100.0, 225.0])
def test_milo_current_is_the_published_polynomial(g):
    """I = G₀V + NL₂V² + NL₃V³ with both coefficients polynomials of log₁₀ G₀ (in S)."""
    import math

    log = math.log10(g * 1e-6)
    two = 1.388e-4 * log**3 + 1.541e-3 * log**2 + 5.711e-3 * log + 7.063e-3
    three = 8.871e-5 * log**2 + 6.7919e-4 * log + 1.2968e-3
    for volt in (-0.5, -0.1, 0.3, 0.5):
        want = g * 1e-6 * volt + two * volt**2 + three * volt**3
        cell, v = (torch.tensor(x, dtype=torch.float64) for x in (g * 1e-6, volt))
        assert MiloIV().current(cell, v).item() == pytest.approx(want, rel=1e-9)


def test_milo_current_vanishes_with_the_conductance():
    v = torch.tensor(0.4, dtype=torch.float64)
    assert MiloIV().current(torch.tensor(0.0, dtype=torch.float64), v) == 0


def test_cells_are_stuck_where_they_are_said_to_be():
    faults = StuckAt(p_off=0.1, p_on=0.05, p_any=0.2)
    device = Device(UM, 51 * UM, faults=faults)
    seed = torch.Generator().manual_seed(0)
    state = device.fabricate((N,), generator=seed, dtype=torch.float64)
    at = state.faults.at
    place = at[(at != UM) & (at != 51 * UM) & ~at.isnan()]
    for count, p in (((at == UM).sum(), 0.1), ((at == 51 * UM).sum(), 0.05), (len(place), 0.2)):
        assert abs(int(count) / N - p) < 4 * (p * (1 - p) / N) ** 0.5
    even = (place - UM) / (50 * UM)
    assert abs(even.mean() - 0.5) < 4 * 12**-0.5 / len(place) ** 0.5
    assert abs(even.std() - 12**-0.5) < 0.01
    moved = device.program(state, torch.full((N,), 20 * UM)).g
    assert torch.equal(moved[~at.isnan()], at[~at.isnan()])
    rarer = Device(UM, 51 * UM, faults=StuckAt(p_off=0.05, p_any=0.2))
    fewer = rarer.fabricate((N,), generator=seed.manual_seed(0), dtype=torch.float64)
    assert bool((~at.isnan())[~fewer.faults.at.isnan()].all())
