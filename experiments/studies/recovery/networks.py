"""The two networks: a ResNet-20 for small images, and a transformer that reads characters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two convolutions and a connection past them, which is subsampled and padded with zeros."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.stride, self.more = stride, outer - inner
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        """relu(x + f(x))."""
        y = self.norm1(self.conv1(x)).relu()
        y = self.norm2(self.conv2(y))
        past = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return F.relu(y + past)


class ResNet20(nn.Sequential):
    """He et al., CVPR 2016, arXiv:1512.03385, sec. 4.2: 0.27 million weights in 20 layers."""

    def __init__(self, channels: int = 1, classes: int = 10, width: int = 16) -> None:
        sizes = [(width, width, 1)] * 3
        for outer in (2 * width, 4 * width):
            sizes += [(outer // 2, outer, 2), (outer, outer, 1), (outer, outer, 1)]
        super().__init__(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *(Block(*size) for size in sizes),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4 * width, classes),
        )


class Layer(nn.Module):
    """One layer of a transformer, norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attention to what came before, then two linear layers."""
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        y: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return y


class Transformer(nn.Module):
    """Scores (batch, steps, characters) of the next character after each."""

    def __init__(
        self, characters: int, steps: int = 64, width: int = 64, layers: int = 6, heads: int = 4
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(characters, width)
        self.place = nn.Embedding(steps, width)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, characters)

    def forward(self, ids: Tensor) -> Tensor:
        """Of characters (batch, steps)."""
        x = self.table(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))
        scores: Tensor = self.head(self.norm(self.layers(x)))
        return scores
