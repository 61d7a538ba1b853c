"""Where every random number of a part comes from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Random numbers as tensors of the cells' dtype and device.

    Args:
        generator: their source; None is torch's default generator.
        dtype: of what is drawn; the dtype of the conductances as a device hands it to its parts.
        device: where it is drawn; None is torch's default device.
    """

    generator: torch.Generator | None
    dtype: torch.dtype
    device: torch.device | str | None = None

    @classmethod
    def like(cls, g: Tensor, generator: torch.Generator | None = None) -> Draw:
        """Draws of the dtype and device of these conductances."""
        return cls(generator, g.dtype, g.device)

    def to(self, dtype: torch.dtype) -> Draw:
        """The same source in another dtype."""
        return replace(self, dtype=dtype)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """N(0, 1) for every cell of `shape`."""
        return torch.randn(shape, generator=self.generator, dtype=self.dtype, device=self.device)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Uniform in [0, 1) for every cell of `shape`."""
        return torch.rand(shape, generator=self.generator, dtype=self.dtype, device=self.device)

    def below(self, n: int, shape: tuple[int, ...]) -> Tensor:
        """An int64 from 0 to n − 1 for every cell of `shape`, each as likely."""
        return torch.randint(n, shape, generator=self.generator, device=self.device)

    def factor(self, shape: tuple[int, ...], sigma: float) -> Tensor:
        """1 + σ·N(0, 1) for every cell of `shape`, or 0-dim one where there is no spread.

        Drawn in float32 whatever the dtype: the same seed is the same chip in either precision.
        """
        if sigma == 0:
            return torch.ones((), dtype=self.dtype, device=self.device)
        drawn = self.to(torch.float32).normal(shape)
        return drawn.to(self.dtype).mul_(sigma).add_(1)


WORDS = slice(24, 24 + 8 * 624)
"""Where torch's state of a CPU generator keeps the 624 words of its Mersenne Twister."""


def hashed(name: str, device: torch.device) -> torch.Generator:
    """A generator seeded by a hash of `name`, of which torch keeps 32 bits on the CPU.

    Enough for noise that is drawn once and gone: two reads in 4·10^9 are alike, and nothing else of
    them is. Several times faster than `seeded`.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "little") >> 1)


def seeded(name: str, device: torch.device) -> torch.Generator:
    """A generator that depends on all of `name`: for what lasts, as a chip does.

    torch's CPU generators keep 32 bits of a seed (so that 1 chip in 10^5 would have a twin): their
    words are hashed from the name instead.
    """
    if device.type != "cpu":
        return hashed(name, device)
    generator = torch.Generator(device=device)
    state = generator.get_state()
    words = np.frombuffer(hashlib.shake_128(name.encode()).digest(4 * 624), np.uint32)
    state.numpy()[WORDS].view(np.uint64)[:] = words
    generator.set_state(state)
    return generator
