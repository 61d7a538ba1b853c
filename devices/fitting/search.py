"""The most likely levels of noise, and how far each may go from there: profile likelihoods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear, minimize

from devices.fitting.likelihood import KINDS, Levels, Likelihood
from devices.fitting.traces import Array

DROP = 1.9207  # half the 95 % point of chi-square with one degree of freedom
NEAR = 0.01  # of the log-likelihood: what a last step may still be worth


class Point(NamedTuple):
    """Levels, and how much less likely they are than others."""

    loss: float
    z: Array
    slope: Array  # of the loss
    bends: Array  # its second derivatives


class Profile(NamedTuple):
    """Where a kind's profile likelihood has dropped to the 95 % level, and points on it."""

    low: float  # σ
    high: float
    points: list[Point]

    @classmethod
    def of(cls, several: Sequence[Profile]) -> Profile:
        """One that reaches over all of them."""
        low, high, points = zip(*several, strict=True)
        return cls(min(low), max(high), [point for own in points for point in own])


class Search:
    """Levels as z = ½ log(σ² + δ²), one of each kind, and log τ, within bounds.

    δ is a tenth of the largest σ possible: in plain logarithms a kind of noise that is 0 would have
    no slope. Zero is then exactly the bound.
    """

    def __init__(
        self,
        model: Likelihood,
        most: Mapping[str, float],
        read: tuple[float, float],
        memory: float,
    ) -> None:
        self.model = model
        self.names = tuple(most)
        self.most = np.array(list(most.values()))
        self.delta = 0.1 * self.most
        low, high = 0.0 * self.most, 3 * self.most
        low[0], high[0] = read  # the first is the noise of a read
        self.low = np.r_[self._z(low), 0.0]
        self.high = np.r_[self._z(high), np.log(memory)]
        self.kinds = [*(KINDS.index(name) for name in most), len(KINDS)]

    def _z(self, sigma: Array) -> Array:
        return 0.5 * np.log(sigma**2 + self.delta**2)

    def at(self, shares: Mapping[str, float], tau: float) -> Array:
        """z of levels given as parts of the largest."""
        z = np.r_[self._z(self.most * [shares[n] for n in self.names]), np.log(tau)]
        return np.clip(z, self.low, self.high)

    def levels(self, z: Array) -> Levels:
        """Levels of a z."""
        excess = np.exp(2 * z[:-1]) - self.delta**2
        # rounding of the bound is no noise
        own = np.sqrt(np.where(excess > 1e-7 * self.delta**2, excess, 0.0)).tolist()
        none = Levels(0.0, 0.0, 0.0, float(np.exp(z[-1])), 0.0, 0.0)
        return none._replace(**dict(zip(self.names, own, strict=True)))

    def point(self, z: Array) -> Point:
        """The loss at z with its derivatives; far away where numbers fail."""
        try:
            value = self.model(self.levels(z))
        except np.linalg.LinAlgError:
            return Point(1e30, z, 0 * z, np.eye(len(z)))
        slope, bends = value.slope[self.kinds], value.bends[np.ix_(self.kinds, self.kinds)]
        rate = np.r_[2 * np.exp(2 * z[:-1]), 1.0]  # of σ² with z
        bends = bends * rate * rate[:, None] + np.diag(np.r_[2 * rate[:-1] * slope[:-1], 0.0])
        size, axes = np.linalg.eigh(bends)
        bends = axes * np.maximum(size, 0.05) @ axes.T  # no direction flat or falling
        return Point(value.loss, z, slope * rate, np.asarray(bends))

    def best(self, z: Array) -> Point:
        """The least loss from z on."""

        def both(z: Array) -> tuple[float, Array]:
            own = self.point(z)
            return own.loss - top, own.slope

        top = self.point(z).loss  # so that what ends the search is a difference, not a part
        bounds = np.column_stack([self.low, self.high])
        options = {"ftol": 1e-2, "gtol": 1.0}
        found = minimize(both, z, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return self.near(self.point(found.x))

    def near(self, here: Point, held: int | None = None) -> Point:
        """The least loss near a point, by Newton's steps of all but one, within the bounds."""
        for _ in range(20):
            z, slope, bends = here.z, here.slope, here.bends
            step = self._step(here, held)
            gain = -float(slope @ step + step @ bends @ step / 2)
            if gain < NEAR:  # taken without another evaluation
                return Point(here.loss - max(gain, 0.0), z + step, slope + bends @ step, bends)
            there = self.point(z + step)
            while there.loss > here.loss and np.abs(step).max() > 1e-3:
                step = step / 3
                there = self.point(z + step)
            here = there
        return here

    def without(self, i: int, z: Array) -> Point:
        """The least loss near z with one kind at its lower bound, mostly none of it."""
        none = z.copy()
        none[i] = self.low[i]
        return self.near(self.point(none), i)

    def _step(self, here: Point, held: int | None) -> Array:
        """Newton's step within the bounds, of 1 at most: a least square of few numbers."""
        z, slope, bends = here.z, here.slope, here.bends
        free = np.arange(len(z)) != held
        root = np.linalg.cholesky(bends[np.ix_(free, free)]).T
        low, high = np.maximum(self.low - z, -1.0) - 1e-12, np.minimum(self.high - z, 1.0) + 1e-12
        target = -np.linalg.solve(root.T, slope[free])
        step = np.zeros(len(z))
        step[free] = lsq_linear(root, target, (low[free], high[free]), method="bvls").x
        return np.asarray(np.clip(z + step, self.low, self.high) - z)

    def profile(self, i: int, top: Point, least: float) -> Profile:
        """The profile likelihood of one kind around an optimum; `least` is that of the best one."""
        points: list[Point] = []
        ends: list[float] = []
        goal = DROP**0.5
        for side, bound in ((-1.0, self.low[i]), (1.0, self.high[i])):
            here = top
            most, far = abs(float(bound - top.z[i])), 0.0
            within, beyond = (0.0, 0.0), (np.inf, np.inf)  # distance and root of the drop
            for _ in range(6 if most > 1e-6 else 0):
                # how the others go with z[i], and how soon the loss rises
                along = self._along(here, i) * side
                bend, drop = float(along @ here.bends @ along), here.loss - least
                nearer = far + _until(drop, side * here.slope[i], bend)
                if not within[0] <= nearer <= beyond[0]:
                    share = (goal - within[1]) / (beyond[1] - within[1])
                    nearer = within[0] + np.clip(share, 0.1, 0.9) * (beyond[0] - within[0])
                nearer = float(min(nearer, 2 * far + 1.5, most))
                if here is not top and abs(goal - max(drop, 0.0) ** 0.5) < 0.08:
                    far = nearer
                    break
                if side < 0 and nearer > most / 2 and far == 0:  # towards 0 the loss flattens
                    nearer = most
                z = np.clip(here.z + along * (nearer - far), self.low, self.high)
                far = nearer
                z[i] = top.z[i] + side * far if far < most else bound
                here = self.near(self.point(z), i)
                points.append(here)
                root = max(here.loss - least, 0.0) ** 0.5
                if root >= goal:
                    beyond = far, root
                elif far == most:
                    break
                else:
                    within = far, root
            variance = np.exp(2 * (top.z[i] + side * far)) - self.delta[i] ** 2
            # rounding of the bound is no noise
            ends.append(float(variance) ** 0.5 if variance > 1e-3 * self.delta[i] ** 2 else 0.0)
        return Profile(ends[0], ends[1], points)

    def _along(self, here: Point, i: int) -> Array:
        """How the others of z go with one of them."""
        free = (here.z > self.low) & (here.z < self.high)
        free[i] = False
        out = np.zeros(len(here.z))
        out[i] = 1.0
        out[free] = -np.linalg.solve(here.bends[np.ix_(free, free)], here.bends[free, i])
        return out


def _until(drop: float, slope: float, bend: float) -> float:
    """How far it is to the 95 % level; beyond half of it the square root of the drop is a line."""
    if drop > DROP / 2:
        return float((DROP**0.5 - drop**0.5) * 2 * drop**0.5 / slope) if slope > 0 else np.inf
    fall = max(slope, 0.0)
    return float((np.sqrt(fall**2 + 2 * bend * (DROP - drop)) - fall) / bend)
