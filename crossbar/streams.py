"""Named random streams of a matrix: one seed, one counter a stream, nothing global.

The n-th draw of a stream depends on (seed, stream, n) alone. Hence one stream's use never shifts
another's, and a model that is saved and loaded goes on with the bits it would have drawn.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from devices.draw import hashed, seeded

FABRICATION, READ, WRITE, CONVERTER, EVALUATION = range(1, 6)
"""Positions of the streams' counters in `Streams.state`; position 0 is the seed.

Reads of an evaluation (no gradient recorded, or `eval()`) have a stream of their own, so that how
often one looks at a model has no influence on how it is trained.
"""

NOISE = (READ, CONVERTER, EVALUATION)
"""Streams of what a read adds, gone after it."""


def traced(t: Tensor) -> bool:
    """Whether no decision may hang on numbers: they are traced, transformed or nowhere."""
    if torch.compiler.is_compiling() or t.is_meta:
        return True
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(t)
    return wrapped


class Streams:
    """Seed and counters of one matrix.

    Args:
        seed: 0 <= seed < 2**63; None draws one from torch's default generator.

    Raises:
        TypeError: a seed that is not an int.
        ValueError: a seed out of range.
    """

    state: Tensor  # (6,) int64 on the CPU: seed, fabrication, read, write, converter, evaluation

    def __init__(self, seed: int | None = None) -> None:
        if seed is None:
            seed = int(torch.randint(2**63 - 1, (), device="cpu").item())
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an int or None, got {seed!r}")
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed must be in [0, 2**63), got {seed!r}")
        self.state = torch.tensor([seed, 0, 0, 0, 0, 0], dtype=torch.int64, device="cpu")

    @property
    def seed(self) -> int:
        """The seed of every stream."""
        return int(self.state[0])

    def generator(self, stream: int, device: torch.device) -> torch.Generator:
        """The next generator of a stream, on the device of the tensors it will fill."""
        return advanced(self.state, stream, device)

    def normal(self, like: Tensor, stream: int) -> Tensor:
        """Standard normals in the shape, dtype and device of `like`.

        Compiled regions and functional transforms see one opaque operator (a Generator object
        would break the graph); `torch.func.vmap` is obeyed in its `randomness`.
        """
        if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(like):
            drawn: Tensor = _normal(like.detach(), self.state, stream)
            return drawn
        return _draw(like, self.state, stream)

    def derive(self, name: str) -> int:
        """The seed of something named, below this one."""
        return derive(self.seed, name)


def derive(seed: int, name: str) -> int:
    """A seed that depends on `seed` and `name` alone; in [0, 2**63)."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def advanced(state: Tensor, stream: int, device: torch.device) -> torch.Generator:
    """The next generator of a stream with the counters `state`, which go on."""
    # through numpy: a functional transform would refuse to see a captured tensor written
    values = state.numpy()
    seed, n = values[0], values[stream]
    values[stream] += 1
    if stream not in NOISE:
        return seeded(f"{seed}/{stream}/{n}/0", device)
    # replicas of a data-parallel model are the same chip reading different samples: fabrication
    # and pulses agree on every rank, read noise does not
    parallel = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank = torch.distributed.get_rank() if parallel else 0
    # so are the copies in a DataLoader's workers, whose counters nobody brings back: of each
    # worker and epoch its own, as torch's generator is
    worker = torch.utils.data.get_worker_info()
    own = "" if worker is None else f"/{worker.seed}"
    return hashed(f"{seed}/{stream}/{n}/{rank}{own}", device)


def _draw(like: Tensor, state: Tensor, stream: int) -> Tensor:
    generator = advanced(state, stream, like.device)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


@torch.library.custom_op("crossbar::normal", mutates_args=("state",))
def _normal(like: Tensor, state: Tensor, stream: int) -> Tensor:
    return _draw(like, state, stream)


@_normal.register_fake
def _(like: Tensor, state: Tensor, stream: int) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)


@_normal.register_vmap
def _(
    info: Any, in_dims: tuple[int | None, ...], like: Tensor, state: Tensor, stream: int
) -> tuple[Tensor, int | None]:
    if info.randomness == "error":
        raise RuntimeError(
            'vmap: a noisy read was asked for random numbers with randomness="error"; choose '
            '"different" (every chip its own noise) or "same"'
        )
    batch = in_dims[0]
    if batch is None and info.randomness == "same":
        return _normal(like, state, stream), None
    one = like if batch is None else like.movedim(batch, 0)[0]
    if info.randomness == "same":
        return _normal(one, state, stream), None
    size = (info.batch_size, *one.shape)
    return _normal(one.new_empty(()).expand(size), state, stream), 0
