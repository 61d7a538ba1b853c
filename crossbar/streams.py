"""Named random streams of a layer: one seed, one counter a stream, nothing global.

The n-th draw of a stream depends on (seed, stream, n) alone. Hence one stream's use never shifts
another's, and a model that is saved and loaded goes on with the bits it would have drawn.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

FABRICATION, READ, WRITE, CONVERTER = range(1, 5)
"""Positions of the streams' counters in `Streams.state`; position 0 is the seed."""


class Streams:
    """Seed and counters of one layer.

    Args:
        seed: 0 <= seed < 2**63; None draws one from torch's default generator.

    Raises:
        TypeError: a seed that is not an int.
        ValueError: a seed out of range.
    """

    state: Tensor  # (5,) int64 on the CPU: seed, fabrication, read, write, converter

    def __init__(self, seed: int | None = None) -> None:
        if seed is None:
            seed = int(torch.randint(2**63 - 1, ()).item())
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an int or None, got {seed!r}")
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed must be in [0, 2**63), got {seed!r}")
        self.state = torch.tensor([seed, 0, 0, 0, 0], dtype=torch.int64)

    @property
    def seed(self) -> int:
        """The seed of every stream."""
        return int(self.state[0])

    def generator(self, stream: int, device: torch.device) -> torch.Generator:
        """The next generator of a stream, on the device of the tensors it will fill."""
        return _generator(self.state, stream, device)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normals of the read stream in the shape, dtype and device of `like`.

        Goes through an operator of its own, so that compiled regions and `torch.func.vmap` see
        one opaque draw (a Generator object would break the graph).
        """
        drawn: Tensor = _normal(like.detach(), self.state, READ)
        return drawn

    def derive(self, name: str) -> int:
        """The seed of something named, below this one."""
        return derive(self.seed, name)


def derive(seed: int, name: str) -> int:
    """A seed that depends on `seed` and `name` alone; in [0, 2**63)."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _generator(state: Tensor, stream: int, device: torch.device) -> torch.Generator:
    values = state.tolist()
    # through numpy: a functional transform would refuse to see a captured tensor written
    state.numpy()[stream] += 1
    # replicas of a data-parallel model are the same chip reading different samples: fabrication
    # and pulses agree on every rank, read noise does not
    parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank = torch.distributed.get_rank() if stream == READ and parallel else 0
    generator = torch.Generator(device=device)
    generator.manual_seed(derive(values[0], f"{stream}/{values[stream]}/{rank}"))
    return generator


@torch.library.custom_op("crossbar::normal", mutates_args=("state",))
def _normal(like: Tensor, state: Tensor, stream: int) -> Tensor:
    generator = _generator(state, stream, like.device)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


@_normal.register_fake
def _(like: Tensor, state: Tensor, stream: int) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)


@_normal.register_vmap
def _(
    info: object, in_dims: tuple[int | None, ...], like: Tensor, state: Tensor, stream: int
) -> tuple[Tensor, int | None]:
    batch = in_dims[0]
    moved = like if batch is None else like.movedim(batch, 0)
    drawn: Tensor = _normal(moved, state, stream)
    return drawn, None if batch is None else 0
