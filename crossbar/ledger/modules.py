"""Digital modules of a model at work: their own counts, or those of the functions they call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any
from weakref import WeakSet

from torch import nn
from torch.overrides import TorchFunctionMode

from crossbar.carried.owner import Arrays
from crossbar.ledger import digital, functions
from crossbar.ledger.digital import Count
from crossbar.matrix import Matrix


class Modules:
    """Those of a model that are not arrays, and how each is counted.

    A class that somebody says the events of (`digital.count_of`) counts by its inputs and outputs;
    any other one by the functions of torch that its own forward calls.

    Args:
        model: whose modules.
        own: counts of classes that are not torch's.
        left_out: paths of what is not counted.
    """

    def __init__(self, model: nn.Module, own: dict[type, Count], left_out: Sequence[str]) -> None:
        self.model, self.own, self.left_out = model, own, tuple(left_out)
        self.counts: dict[nn.Module, Count | None] = {}
        self.paths = {module: path for path, module in self._of_model()}
        for module in self.paths:
            self.counts[module] = digital.count_of(module, own)
        self.twins: WeakSet[nn.Module] = WeakSet()

    def _of_model(self) -> Iterator[tuple[str, nn.Module]]:
        """Without what is inside of arrays."""
        inside = [p for p, m in self.model.named_modules() if isinstance(m, (Arrays, Matrix))]
        skipped = tuple(f"{path}." if path else "" for path in inside)
        for path, module in self.model.named_modules():
            if not f"{path}.".startswith(skipped):
                yield path, module

    def same(self) -> None:
        """Refuse a model that has other modules than when its ledger was opened.

        Raises:
            TypeError: it names the first.
        """
        for path, module in self._of_model():
            if module not in self.paths:
                raise TypeError(
                    f"{path} came into the model while the ledger was open, and was not counted: "
                    "open it when the model is whole"
                )

    @contextmanager
    def watched(self, ledger: Any) -> Iterator[None]:
        """Tell the ledger what they do."""
        within = Within(ledger)
        with ExitStack() as stack:
            for module, path in self.paths.items():
                count, out = self.counts[module], self._left_out(path)
                if count is not None and not out:
                    hook = digital.untraced(self._hook(ledger, path, module, count))
                    stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
            if any(self._between(module, path) for module, path in self.paths.items()):
                for module, path in self.paths.items():
                    self._enclose(within, module, path, stack)
            yield

    def _left_out(self, path: str) -> bool:
        return f"{path}.".startswith(tuple(f"{p}." for p in self.left_out))

    def _between(self, module: nn.Module, path: str) -> bool:
        """Whether functions that its own forward calls are counted."""
        still = self.counts[module] is not None or self._left_out(path)
        return not still and not functions.passes_on(module)

    def _enclose(self, within: Within, watched: nn.Module, path: str, stack: ExitStack) -> None:
        place = path or "model"
        named = f"{place} ({type(watched).__name__})" if self._between(watched, path) else None

        def before(module: nn.Module, args: Any) -> None:
            digital.eager()
            if module is watched or module in self.twins:
                within.enter(module, path, named)

        def after(module: nn.Module, args: Any, output: Any) -> None:
            within.leave(module)

        before, after = digital.untraced(before), digital.untraced(after)
        stack.callback(watched.register_forward_pre_hook(before).remove)
        stack.callback(watched.register_forward_hook(after, always_call=True).remove)

    @contextmanager
    def followed(self, model: nn.Module, copy: nn.Module) -> Iterator[None]:
        """Modules of a copy of the model, or of a part of it, do what those they stand for do."""
        other = dict(copy.named_modules())
        mine = [other[path] for path, m in model.named_modules() if m in self.paths]
        self.twins.update(mine)
        try:
            yield
        finally:
            self.twins.difference_update(mine)

    def _hook(self, ledger: Any, path: str, watched: nn.Module, count: Count) -> Any:
        def hook(module: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            digital.eager()
            if module is not watched and module not in self.twins:
                if getattr(module, "_is_replica", False):
                    raise TypeError(
                        f"the ledger does not count replicas of {path}, as DataParallel makes: "
                        "use DistributedDataParallel, with a ledger in each process"
                    )
                return  # a copy, made while this lasts
            inputs = signature(module.forward).bind(*args, **named).args if named else args
            found = dict(count(module, inputs, output))
            inner = found.pop("inner", 0.0)
            asks = any(x.requires_grad for x in digital.tensors(inputs))
            trains = any(p.requires_grad and p.dim() > 1 for p in module.parameters(recurse=False))
            product = found.pop("digital_mac", 0.0)
            backward = product * (float(asks) + float(trains)) + 2 * inner
            ledger.found(path, "forward", {**found, "digital_mac": product + inner})
            ledger.later(path, {**found, "digital_mac": backward}, output)

        return hook


class Within(threading.local):
    """The forwards that run now in a thread, and the functions called in the innermost one."""

    def __init__(self, ledger: Any) -> None:
        self.ledger = ledger
        self.open: list[tuple[nn.Module, str, str | None]] = []
        self.mode = _Called(self)

    def enter(self, module: nn.Module, path: str, named: str | None) -> None:
        """A forward begins; `named` where its functions are counted."""
        if named is not None and not self._listens():
            self.mode.__enter__()  # type: ignore[no-untyped-call]
        self.open.append((module, path, named))

    def leave(self, module: nn.Module) -> None:
        """The innermost forward ends, if it is that of the module."""
        if not self.open or self.open[-1][0] is not module:
            return
        *_, named = self.open.pop()
        if named is not None and not self._listens():
            self.mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def _listens(self) -> bool:
        return any(named is not None for *_, named in self.open)


class _Called(TorchFunctionMode):
    """Counts the functions of torch that are called."""

    def __init__(self, within: Within) -> None:
        super().__init__()
        self.within, self.counted = within, digital.untraced(self._counted)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See the class."""
        out = func(*args, **(kwargs or {}))
        self.counted(func, args, dict(kwargs or {}), out)
        return out

    def _counted(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        _, path, named = self.within.open[-1]
        if named is not None and not functions.ours():
            found, back = functions.events(func, args, kwargs, out, named)
            self.within.ledger.found(path, "forward", found)
            self.within.ledger.later(path, back, out)
