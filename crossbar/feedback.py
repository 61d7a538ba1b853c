"""Direct feedback alignment: errors reach every layer through random conductances of their own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crossbar.arrays import matrix
from crossbar.chip import Chip
from crossbar.matrix import Matrix
from crossbar.streams import Streams, derive


class DirectFeedback:
    """The error of a model's output, not that of the next layer, teaches its hidden layers.

        δ_hidden = B_k e,   e = dL/d output,   B_k a fixed random array

    While it lasts, `loss.backward()` gives hidden modules B_k e in place of the gradient of their
    output; no error passes the layers between, whose arrays are not read from behind. What lies
    before the hidden modules in a layer is differentiated as ever: name the last module of each
    layer, its activation. Use it as a context, or `remove()` it. Whoever watches the model
    (`xb.ledger`) is told of the arrays B_k, as "feedback of" a module.

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
        self.arrays: list[Matrix] = []
        self._taught: list[Tensor | None] = []
        self._hooks = [model.register_forward_hook(self._joined)]
        for k, (name, n) in enumerate(zip(hidden, features, strict=True)):
            draw = torch.Generator().manual_seed(derive(seed, f"weights {k}"))
            w = torch.randn(n, outputs, generator=draw) / outputs**0.5
            w = w if feedback is None else feedback[k].detach()
            array = matrix(w, chip, seed=derive(seed, f"array {k}"))
            array.role = f"feedback of {name}", "backward"
            self.arrays.append(array)
            self._taught.append(None)
            cut = functools.partial(self._cut, k=k)
            self._hooks.append(model.get_submodule(name).register_forward_hook(cut))

    def remove(self) -> None:
        """Let errors travel backwards through the layers again."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> DirectFeedback:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def _cut(self, module: nn.Module, args: Any, y: Tensor, k: int) -> Tensor:
        """What follows sees the numbers alone."""
        self._taught[k] = y if y.requires_grad else None
        return y.detach()

    def _joined(self, model: nn.Module, args: Any, y: Tensor) -> Tensor:
        """The output, whose error goes to the hidden modules too."""
        kept, self._taught = self._taught, [None] * len(self.arrays)
        some = [(array, h) for array, h in zip(self.arrays, kept, strict=True) if h is not None]
        if not some:
            return y
        probes = (m.probe for m in model.modules() if isinstance(m, Matrix))
        probe = next((probe for probe in probes if probe is not None), None)
        for array, _ in some:
            array.probe = probe
        found: Tensor = _Taught.apply(y, [array for array, _ in some], *(h for _, h in some))  # type: ignore[no-untyped-call]
        return found


class _Taught(torch.autograd.Function):
    """An output as it is; hidden outputs h_k are given B_k e of its error."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, arrays: list[Matrix], *hidden: Tensor) -> Tensor:
        """The output."""
        ctx.arrays = arrays
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, e: Tensor) -> tuple[Any, ...]:
        """The error, and what the arrays make of it."""
        found = []
        for array in ctx.arrays:
            found.append(array.mv(e.to(array.written.w_max.dtype)).to(e.dtype))
        return e, None, *found
