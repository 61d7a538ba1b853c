"""A search over declared values by Optuna, replayed from results: stopped, it goes on the same."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

BATCH = 4
"""Settings that are asked for at once, so that workers are busy; part of what is replayed."""

Place = tuple[int, ...]
"""The places of a setting's values on their axes."""


class Tried(NamedTuple):
    """One setting and what it gave."""

    place: Place
    price: float
    accuracy: float


def search(
    sizes: Sequence[int],
    price: Callable[[Place], float],
    accuracy: Callable[[Place], float | None],
    target: float,
    trials: int,
) -> tuple[list[Tried], list[Place]]:
    """All settings tried so far, `trials` at most, and those whose accuracy (None) is to be known.

    A setting that misses the target counts as dearer than all that meet it, by as much as it
    misses it. Prices are not negative.

    Raises:
        ValueError: Optuna is not there.
    """
    try:
        import optuna
    except ImportError:
        raise ValueError("cheapest needs the package optuna: pip install 'optuna>=5'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    axes = {f"x{k}": optuna.distributions.IntDistribution(0, n - 1) for k, n in enumerate(sizes)}
    study.enqueue_trial({name: 0 for name in axes})  # the dearest: can the target be met at all
    draw, tried = random.Random(0), dict[Place, Tried]()

    def value(place: Place) -> float:
        price, found = tried[place].price, tried[place].accuracy
        return price / (1 + price) if found >= target else 1 + target - found

    while (left := min(trials, math.prod(sizes)) - len(tried)) > 0:
        asked: dict[Place, optuna.Trial | None] = {}
        for _ in range(min(BATCH, left)):
            trial: optuna.Trial | None = study.ask(axes)
            place = tuple(trial.params[name] for name in axes)
            if place in tried:
                study.tell(trial, value(place))
            elif place in asked:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            while place in tried or place in asked:  # another one, at random, takes its turn
                trial, place = None, tuple(draw.randrange(n) for n in sizes)
            asked[place] = trial
        known = {place: accuracy(place) for place in asked}
        missing = [place for place, found in known.items() if found is None]
        if missing:
            return list(tried.values()), missing
        for place, trial in asked.items():
            tried[place] = Tried(place, price(place), known[place] or 0.0)
            if trial is not None:
                study.tell(trial, value(place))
            else:
                params = dict(zip(axes, place, strict=True))
                study.add_trial(optuna.trial.create_trial(params=params, distributions=axes,
                                                          value=value(place)))  # fmt: skip
    return list(tried.values()), []
