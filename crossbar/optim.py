"""Stochastic gradient descent in situ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from crossbar.chip import InSitu, Programmed
from crossbar.layer import AnalogLayer
from crossbar.operations import Operation, Vectors
from devices._check import positive


class InSituSGD(Optimizer):
    """Pulses to the cells of in-situ layers, plain SGD to every other parameter.

        cells: W ← W − lr Σ δᵀx by each layer's pulse scheme; others: p ← p − lr ∇p

    Learning rates have the units of `torch.optim.SGD`. There is no momentum: cells have nowhere to
    keep it. torch's learning-rate schedulers work on it (a rate of 0 sends no pulse), GradScaler
    too; `max_norm` clips what clip_grad_norm_ cannot see.

    Given a `DistributedDataParallel` model (with `broadcast_buffers=False`), every replica applies
    the (x, δ) of all of them and stays the same chip; ranks need batches of equal size.

    Args:
        model: the model whose parameters are trained.
        lr: learning rate, > 0.
        max_norm: largest Frobenius norm of a layer's δᵀx bound Σ‖x‖‖δ‖ in one step, > 0: δ is
            scaled down to it; None does not clip.

    Raises:
        TypeError: a model without parameters to train, or programmed layers (write-only).
        ValueError: lr or max_norm not positive.
    """

    # GradScaler hands over its scale instead of dividing gradients that are only placeholders
    _step_supports_amp_scaling = True
    # GradScaler sets these for one step and deletes them again
    grad_scale: Tensor | float = 1.0
    found_inf: Tensor | float = 0.0

    def __init__(self, model: nn.Module, lr: float, *, max_norm: float | None = None) -> None:
        positive("lr", lr)
        if max_norm is not None:
            positive("max_norm", max_norm)
        layers = [m for m in model.modules() if isinstance(m, AnalogLayer)]
        if any(isinstance(m.mode, Programmed) for m in layers):
            raise TypeError(
                "InSituSGD cannot train programmed layers: their cells are only read; "
                "convert the model with mode=InSitu() or train it with HardwareAware()"
            )
        self.layers = [m for m in layers if isinstance(m.mode, InSitu)]
        self.max_norm = max_norm
        parallel = isinstance(model, nn.parallel.DistributedDataParallel)
        self.group: Any = model.process_group if parallel else None
        params = [p for p in model.parameters() if p.requires_grad]
        if not params:
            raise TypeError("model must have parameters to train, got none")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; consumes the errors that the backward passes left.

        Raises:
            ValueError: a δ that is not finite (under GradScaler the step is skipped instead).
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        lr = float(self.param_groups[0]["lr"])
        if isinstance(self.found_inf, Tensor) and not isinstance(self.grad_scale, Tensor):
            raise RuntimeError(
                "scaler.unscale_(optimizer) cannot reach the errors kept for the cells; "
                "let scaler.step(optimizer) unscale, and clip with max_norm="
            )
        scale = float(self.grad_scale)
        mirrors = {id(layer.weight): layer for layer in self.layers}
        stashes = {id(layer): layer.take_stash() for layer in self.layers}
        if float(self.found_inf):
            return loss
        for layer in self.layers:
            self._check_finite(layer, stashes[id(layer)])
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None and id(parameter) not in mirrors:
                parameter.add_(parameter.grad, alpha=-lr / scale)
        for layer in self.layers:
            kept = stashes[id(layer)]
            if kept:
                op, x, d = _together(layer.op, kept)
                x, d = self._gathered(x, d / scale)
                layer.update(x, self._clipped(op, x, d), lr, op)
                # consumed: the next forward starts a new stash whatever zero_grad does
                layer.weight.grad = None
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients and the errors kept for the cells."""
        super().zero_grad(set_to_none)
        for layer in self.layers:
            layer.take_stash()

    def _gathered(self, x: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """The (x, δ) of every data-parallel replica, so that all chips take the same pulses."""
        if self.group is None:
            return x, d
        world = dist.get_world_size(self.group)
        both = []
        for t in (x, d / world):
            parts = [torch.empty_like(t) for _ in range(world)]
            dist.all_gather(parts, t.contiguous(), group=self.group)
            both.append(torch.cat(parts))
        return both[0], both[1]

    @staticmethod
    def _check_finite(layer: AnalogLayer, kept: list[tuple[Tensor, Tensor]]) -> None:
        if kept and not all(bool(d.sum().isfinite()) or bool(d.isfinite().all()) for _, d in kept):
            raise ValueError(
                f"the error δ reaching {type(layer).__name__} must be finite, got NaN or infinity"
            )

    def _clipped(self, op: Operation, x: Tensor, d: Tensor) -> Tensor:
        if self.max_norm is None:
            return d
        xs, ds = op.vectors(x, d)
        norm = (xs.norm(dim=-1) * ds.norm(dim=-1)).sum()
        return d * (self.max_norm / norm).clamp(max=1.0).to(d.dtype)


def _together(op: Operation, kept: list[tuple[Tensor, Tensor]]) -> tuple[Operation, Tensor, Tensor]:
    """The (x, δ) of several calls as one, and the operation they are of."""
    shapes = {x.shape[1:] for x, _ in kept}
    if len(shapes) > 1 or kept[0][0].dim() == 1:
        op, kept = Vectors(), [op.vectors(x, d) for x, d in kept]
    if len(kept) == 1:
        return op, *kept[0]
    x, d = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return op, x, d
