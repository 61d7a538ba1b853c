"""A digital network as the teacher of the one that is trained for the chip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossbar.port import wide_of
from devices._check import instance, positive


@dataclass(eq=False)
class Distillation:
    """A loss that is least where a model answers as its teacher; labels are not needed.

        T² · mean over samples of Σ p ln(p/q),   p = softmax(teacher/T), q = softmax(model/T)

    loss = xb.Distillation(net.eval(), temperature=2.0)
    loss(model(x), x).backward()

    Args:
        teacher: in evaluation; it is called with the inputs, without gradients.
        temperature: T > 0; more counts small scores too. With T² gradients keep their size.
        dim: of the classes.

    Raises:
        TypeError: teacher is no module. ValueError: it is in training, whose answers would differ
            from call to call; temperature not positive; answers of other shapes than the model's.

    Source: Hinton, Vinyals & Dean, arXiv:1503.02531 (2015).
    """

    teacher: nn.Module
    temperature: float = 1.0
    dim: int = -1

    def __post_init__(self) -> None:
        instance("teacher", self.teacher, nn.Module, optional=False)
        positive("temperature", self.temperature)

    def __call__(self, outputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The loss of a model's scores before softmax, or of an output that has them as `logits`.

        Args:
            outputs: the model's.
            *args: what the model was called with.
            **kwargs: the same by name.
        """
        if self.teacher.training:
            raise ValueError("teacher must be in evaluation: teacher.eval()")
        with torch.no_grad():
            wanted = _scores(self.teacher(*args, **kwargs))
        scores = _scores(outputs)
        if scores.shape != wanted.shape:
            raise ValueError(
                f"outputs {tuple(scores.shape)} and the teacher's {tuple(wanted.shape)} must have "
                "one shape"
            )
        t = self.temperature
        p, q = ((wide_of(s) / t).log_softmax(self.dim) for s in (wanted, scores))
        return F.kl_div(q, p, log_target=True, reduction="none").sum(self.dim).mean() * t**2


def _scores(outputs: Any) -> Tensor:
    found = getattr(outputs, "logits", outputs)
    if not isinstance(found, Tensor):
        raise TypeError(f"scores must be a tensor, or `logits` of an output, got {type(found)}")
    return found
