"""The most likely levels of noise, and how far each may go from there: profile likelihoods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from devices.fitting.likelihood import Levels, Likelihood
from devices.fitting.traces import Array, Mask

ORDER = Levels._fields
DROP = 1.9207  # half the 95 % point of chi-square with one degree of freedom
STEP, WIDE = 1e-4, 0.05  # of differences of the log-likelihood, and of those of second order
GOOD = 0.2  # slope, where the second derivative is 1, that a last step may start from


class Point(NamedTuple):
    """Levels and how much less likely they are than those that a search began with."""

    loss: float
    z: Array
    slope: Array  # of the loss


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
        self.top = 0.0

    def _z(self, sigma: Array) -> Array:
        return 0.5 * np.log(sigma**2 + self.delta**2)

    def at(self, shares: Mapping[str, float], tau: float) -> Array:
        """z of levels given as parts of the largest, from where losses count."""
        z = np.r_[self._z(self.most * [shares[n] for n in self.names]), np.log(tau)]
        return np.clip(z, self.low, self.high)

    def rows(self, z: Array) -> Array:
        """Levels of many z (sets, names and log τ), in the order of `Levels`."""
        out = np.zeros((len(z), len(ORDER)))
        out[:, ORDER.index("tau")] = np.exp(z[:, -1])
        excess = np.exp(2 * z[:, :-1]) - self.delta**2
        # rounding of the bound is no noise
        own = np.sqrt(np.where(excess > 1e-7 * self.delta**2, excess, 0.0))
        out[:, [ORDER.index(n) for n in self.names]] = own
        return out

    def levels(self, z: Array) -> Levels:
        """Levels of one z."""
        return Levels(*self.rows(z[None])[0].tolist())

    def loss(self, z: Array) -> Array:
        """How much less likely many z are; differences, so that what ends a search is one too."""
        return self.top - self.model(self.rows(z))

    def point(self, z: Array) -> Point:
        """The loss at z and its slopes, by differences away from the upper bounds, in one call."""
        by = np.where(z + STEP > self.high, -STEP, STEP)
        value = self.loss(np.vstack([z, z + np.diag(by)]))
        return Point(float(value[0]), z, (value[1:] - value[0]) / by)

    def best(self, z: Array) -> tuple[Point, Array]:
        """The least loss from z on, and its second derivatives there."""

        def both(z: Array) -> tuple[float, Array]:
            loss, _, slope = self.point(z)
            return loss, slope

        bounds = np.column_stack([self.low, self.high])
        found = minimize(
            both,
            z,
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"ftol": 1e-3, "gtol": 0.5},
        )
        bends = self.bends(found.x)
        point, _ = self.near(found.x, bends)
        return point, self.bends(point.z)

    def bends(self, z: Array) -> Array:
        """Second derivatives of the loss near z, in one call, with no direction flat or falling."""
        p = len(z)
        centre = np.clip(z, self.low + WIDE, self.high - WIDE)
        one = WIDE * np.eye(p)
        i, j = np.triu_indices(p, 1)
        value = self.loss(centre + np.vstack([0 * one[:1], one, -one, one[i] + one[j]]))
        up, down, pair = value[1 : p + 1], value[p + 1 : 2 * p + 1], value[2 * p + 1 :]
        out = np.diag(up + down - 2 * value[0])
        out[i, j] = out[j, i] = pair - up[i] - up[j] + value[0]
        return _rising(out / WIDE**2)

    def near(self, z: Array, bends: Array, held: int | None = None) -> tuple[Point, Array]:
        """The least loss near z, one of them held, and the second derivatives it was found with.

        In coordinates where these are 1, so that few evaluations are needed.
        """
        begun = self.point(z)
        free = ~self._stopped(begun)
        free[slice(0, 0) if held is None else held] = False
        root = np.linalg.cholesky(_rising(bends[np.ix_(free, free)]))
        points = {}

        def moved(w: Array) -> Array:
            out = z.copy()
            out[free] += np.linalg.solve(root.T, w)
            return out

        def both(w: Array) -> tuple[float, Array]:
            at = moved(w)
            inside = np.clip(at, self.low, self.high)
            points[w.tobytes()] = own = self.point(inside) if w.any() else begun
            return own.loss, np.linalg.solve(root, (own.slope * (at == inside))[free])

        found = minimize(
            both,
            np.zeros(len(root)),
            jac=True,
            method="BFGS",
            options={"gtol": GOOD, "maxiter": 20},
        )
        point = points[found.x.tobytes()]
        # a last step without another evaluation
        step = np.zeros(len(z))
        back = np.linalg.inv(root.T)
        step[free] = -back @ found.hess_inv @ found.jac
        step = np.clip(point.z + step, self.low, self.high) - point.z
        bends = bends.copy()
        bends[np.ix_(free, free)] = root @ np.linalg.inv(found.hess_inv) @ root.T
        gain = float(point.slope @ step + step @ bends @ step / 2)
        return Point(point.loss + min(gain, 0.0), point.z + step, point.slope + bends @ step), bends

    def _stopped(self, point: Point) -> Mask:
        """Which are at a bound and would leave it."""
        _, z, slope = point
        return ((z <= self.low) & (slope > 0)) | ((z >= self.high) & (slope < 0))

    def profile(self, i: int, top: Point, bends: Array, least: float) -> Profile:
        """The profile likelihood of one kind around an optimum; `least` is that of the best one."""
        points: list[Point] = []
        ends: list[float] = []
        goal = DROP**0.5
        for side, bound in ((-1.0, self.low[i]), (1.0, self.high[i])):
            # how z[i] and the others go together, and how soon the loss rises
            along = np.zeros(len(top.z))
            free = ~self._stopped(top)
            free[i] = False
            along[i] = side
            along[free] = -side * np.linalg.solve(bends[np.ix_(free, free)], bends[free, i])
            bend = float(along @ bends @ along)
            most = abs(float(bound - top.z[i]))
            far = min(_until(top.loss - least, float(top.slope @ along), bend), 1.5, most)
            if side < 0 and far > most / 2:  # towards no noise the loss flattens
                far = most
            here, bent, ahead = top, bends, along
            within, beyond = (0.0, 0.0), (np.inf, np.inf)  # distance and root of the drop
            for _ in range(5 if most > 1e-6 else 0):
                z = np.clip(
                    here.z + ahead * (far - side * (here.z[i] - top.z[i])), self.low, self.high
                )
                z[i] = top.z[i] + side * far if far < most else bound
                last = here
                here, bent = self.near(z, bent, i)
                points.append(here)
                root = max(here.loss - least, 1e-6) ** 0.5
                if root < goal:
                    within = far, root
                    if far == most:
                        break
                else:
                    beyond = far, root
                went = side * (here.z[i] - last.z[i])
                ahead = (here.z - last.z) / went if abs(went) > 1e-6 else along
                nearer = far + _until(here.loss - least, side * here.slope[i], bend)
                if not within[0] < nearer < beyond[0]:
                    share = (goal - within[1]) / (beyond[1] - within[1])
                    nearer = within[0] + np.clip(share, 0.1, 0.9) * (beyond[0] - within[0])
                done = abs(goal - root) < 0.08
                far = float(min(nearer, 2 * far + 0.1, most))
                if done:
                    break
            variance = np.exp(2 * (top.z[i] + side * far)) - self.delta[i] ** 2
            # rounding of the bound is no noise
            ends.append(float(variance) ** 0.5 if variance > 1e-3 * self.delta[i] ** 2 else 0.0)
        return Profile(ends[0], ends[1], points)


def _rising(bends: Array) -> Array:
    """Second derivatives with no direction flat or falling."""
    size, axes = np.linalg.eigh(bends)
    return np.asarray(axes * np.maximum(size, 0.05) @ axes.T)


def _until(drop: float, slope: float, bend: float) -> float:
    """How far it is to the 95 % level; near it the square root of the drop is a line."""
    if drop > DROP / 2:
        return float((DROP**0.5 - drop**0.5) * 2 * drop**0.5 / slope) if slope > 0 else np.inf
    fall = max(slope, 0.0)
    return float((np.sqrt(fall**2 + 2 * bend * (DROP - drop)) - fall) / bend)
