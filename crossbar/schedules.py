"""How strong weight noise is over a training, and weights scaled anew as they grow and shrink."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from crossbar.carried.owner import held, weights
from crossbar.extended import Extended
from crossbar.model import placements
from crossbar.modes import HardwareAware
from crossbar.weight import AnalogWeight
from devices._check import at_least, whole


class NoiseSchedule:
    """Sets the strength of a model's modifiers after each step, as a scheduler sets a rate.

        strength after k steps = factor(k),   that of `HardwareAware`, on top of what they are

    mode = xb.HardwareAware(modifiers=[xb.AdditiveNoise(0.05)])
    model = xb.convert(net, chip, mode=mode)
    schedule = xb.NoiseSchedule(model, lambda k: min(1.0, k / 1000))    # a ramp of 1000 steps

    Call `step()` where a scheduler of torch's is called, or `after(optimizer)` once. A strength
    of 0 reads the weights as they are. Weights on cells have no modifiers and are passed over.

    Args:
        model: hardware-aware, with modifiers.
        factor: gives the strength, >= 0, of the number of steps so far; factor(0) holds at once.

    Raises:
        TypeError: factor is not callable, or gives no number.
        ValueError: no modifier to schedule; a strength out of range, also of a modifier.
    """

    def __init__(self, model: nn.Module, factor: Callable[[int], float]) -> None:
        if not callable(factor):
            raise TypeError(f"factor must be a function of the number of steps, got {factor!r}")
        self.factor, self.steps = factor, 0
        self._weights = [
            weight for *_, weight in placements(model) if getattr(weight.mode, "modifiers", ())
        ]
        if not self._weights:
            raise ValueError(
                "model has no modifiers to schedule: convert(model, chip, "
                "mode=HardwareAware(modifiers=[...]))"
            )
        self._set()

    @property
    def strength(self) -> float:
        """As it is now."""
        return at_least(f"factor({self.steps})", self.factor(self.steps), 0)

    def step(self) -> None:
        """Count one step."""
        self.steps += 1
        self._set()

    def after(self, optimizer: Optimizer) -> Any:
        """Count every step of an optimiser; returns the handle that removes the hook."""
        return optimizer.register_step_post_hook(lambda *_: self.step())

    def _set(self) -> None:
        strength = self.strength
        for weight in self._weights:
            mode = weight.mode
            if isinstance(mode, HardwareAware) and mode.strength != strength:
                weight.mode = replace(mode, strength=strength)

    def state_dict(self) -> dict[str, int]:
        """The number of steps; the function is not saved."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.steps = whole("steps", state["steps"], 0)
        self._set()


@dataclass(frozen=True)
class Remap:
    """Moves the range of hardware-aware weights into their digital output scales, in place.

        W_j -> W_j t/m_j,   s_j -> s_j m_j/t,   m_j = max|W_j|,   t = w_max, or else max|W|

    so that every output fills the window again however far training moved it, and the product
    stays: `remap(model)` now and then, or `remap.after(optimizer, model)`. `xb.output_scales(net)`
    before `convert` makes the scales. An optimiser's momenta stay as they are.

    Without scales there is nothing to move: a mapping without w_max follows max|W| at every read,
    one with w_max keeps what was asked for.

    Args:
        every: steps of `after` from one to the next, >= 1.

    Raises:
        TypeError, ValueError: every is no int, or out of range.

    Source: remapping of aihwkit (Rasch et al., Nat. Commun. 14:5282 (2023),
    doi:10.1038/s41467-023-40770-4).
    """

    every: int = 1

    def __post_init__(self) -> None:
        whole("every", self.every, 1)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        """Remap the model's float weights; weights on cells, and computed ones, stay.

        Raises:
            ValueError: no layer with output scales; weights that are not finite.
        """
        found = [one for one in _scaled(model) if not (one[0].mode.written or one[0].computed)]
        for weight, parameter, scales in found:
            w = parameter.detach().as_subclass(Tensor)
            size = w.abs().flatten(1).amax(1)
            if not bool(size.isfinite().all()):
                raise ValueError(f"{weight.name} must be finite")
            stated = weight.chip.mapping.w_max
            full = size.amax() if stated is None else stated
            factor = torch.where(size > 0, full / size, 1.0)
            parameter.mul_(factor.view(-1, *(1,) * (w.dim() - 1)))
            for scale in scales:
                scale.div_(factor)

    def after(self, optimizer: Optimizer, model: nn.Module) -> Any:
        """Remap after steps of an optimiser; returns the handle that removes the hook."""
        steps = 0

        def stepped(*_: Any) -> None:
            nonlocal steps
            steps += 1
            if steps % self.every == 0:
                self(model)

        return optimizer.register_step_post_hook(stepped)


def _scaled(model: nn.Module) -> list[tuple[AnalogWeight, Any, list[nn.Parameter]]]:
    """Weights of which every owner has an output scale, with their Parameter and those scales."""
    scales: dict[int, list[nn.Parameter | None]] = {}
    for module in model.modules():
        for name in weights(module):
            own = module.output_scale if isinstance(module, Extended) else None
            scales.setdefault(id(held(module, name)), []).append(own)
    found = []
    for _, _, parameter, weight in placements(model):
        of = scales[id(weight)]
        if all(scale is not None for scale in of):
            found.append((weight, parameter, [scale for scale in of if scale is not None]))
    if not found:
        raise ValueError(
            "model has no output scales to move ranges into: xb.output_scales(net) before convert"
        )
    return found
