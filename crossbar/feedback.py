"""Direct feedback alignment: errors reach every layer through random conductances of their own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.arrays import matrix
from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.streams import Streams, derive


class DirectFeedback:
    """The error of a model's output, not that of the next layer, teaches its hidden layers.

        δ_hidden = B_k e,   e = dL/d output,   B_k a fixed random array

    After this, `loss.backward()` gives hidden modules B_k e in place of the gradient of their
    output, and what lies before them in the module is differentiated as ever: name the last module
    of each layer, its activation. Use it as a context, or `remove()` it.

    Args:
        model: whose output (n, outputs) meets the loss.
        hidden: names of modules whose outputs (n, features) are taught so.
        features: of each of them.
        outputs: of the model.
        chip: of the arrays B_k, read forwards; None: ideal.
        seed: of the arrays and their weights.
        feedback: weights (features, outputs) of each array; None: N(0, 1)/√outputs.

    Source: Nøkland, "Direct Feedback Alignment Provides Learning in Deep Neural Networks", NIPS
    2016, arXiv:1609.01596; on analog arrays, Launay et al., arXiv:2012.06373.
    """

    def __init__(
        self,
        model: nn.Module,
        hidden: Sequence[str],
        features: Sequence[int],
        outputs: int,
        *,
        chip: Chip | None = None,
        seed: int | None = None,
        feedback: Sequence[Tensor] | None = None,
    ) -> None:
        seed = Streams(seed).seed
        self.error: Tensor | None = None
        self.arrays: list[Matrix] = []
        self._hooks = [model.register_forward_hook(self._watch)]
        for k, (name, n) in enumerate(zip(hidden, features, strict=True)):
            draw = torch.Generator().manual_seed(derive(seed, f"weights {k}"))
            w = torch.randn(n, outputs, generator=draw) / outputs**0.5
            w = w if feedback is None else feedback[k].detach()
            array = matrix(w, chip, seed=derive(seed, f"array {k}"))
            self.arrays.append(array)
            teach = functools.partial(self._teach, array=array)
            self._hooks.append(model.get_submodule(name).register_forward_hook(teach))

    def remove(self) -> None:
        """Let errors travel backwards through the layers again."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> DirectFeedback:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def _watch(self, module: nn.Module, args: Any, y: Tensor) -> None:
        if y.requires_grad:
            y.register_hook(self._keep)

    def _keep(self, error: Tensor) -> None:
        self.error = error.detach()

    def _teach(self, module: nn.Module, args: Any, y: Tensor, array: Matrix) -> None:
        if y.requires_grad:
            y.register_hook(functools.partial(self._instead, array=array))

    def _instead(self, d: Tensor, array: Matrix) -> Tensor:
        """B e in the place of a gradient.

        Raises:
            RuntimeError: the output has no error yet, so that it is not what the loss was made of.
        """
        if self.error is None or len(self.error) != len(d):
            raise RuntimeError("DirectFeedback saw no error of the model's output in this backward")
        with torch.no_grad():
            return array.mv(self.error.to(array.written.w_max.dtype)).to(d.dtype)
