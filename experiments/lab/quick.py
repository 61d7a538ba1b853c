"""The option `--quick` of studies whose size is a few numbers."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from typing import Any


class _Small(Action):
    """Sets the numbers of a small study."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option: Any = None
    ) -> None:
        for name, value in self.const.items():
            setattr(namespace, name, value)


def quick(parser: ArgumentParser, **numbers: int) -> None:
    """Add `--quick`, short for these values of other options; what follows it may change them."""
    long = " ".join(f"--{n}" if v is True else f"--{n} {v}" for n, v in numbers.items())
    parser.add_argument(
        "--quick", action=_Small, nargs=0, const=numbers, default=SUPPRESS, help=f"short for {long}"
    )
