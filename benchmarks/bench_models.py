"""Whole models on arrays against torch: ratios within one run.

python benchmarks/bench_models.py [--rounds N] [--part convert|conv|recurrent|decode]

One thread; the two sides of a line take turns and the minimum of the rounds counts, in time of this
process alone, so that others on the machine cost less. `decode` needs some 6 GB.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import interleaved
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from _zoo import ResNet18  # noqa: E402

import crossbar as xb
from devices import Device, GaussianRead

CONVERTERS = xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=8))
CELL = Device(1e-6, 50e-6, read=GaussianRead(0.01))
Call = Callable[[], object]


def show(title: str, bars: dict[str, float], calls: dict[str, Call], rounds: int) -> None:
    """A line for each call but the first, over the first; `bars` are what is wanted."""
    seconds = interleaved(calls, rounds, time.process_time)
    base, *others = seconds
    print(f"\n{title}\n  {base:<48} {seconds[base] * 1e3:9.2f} ms")
    for name in others:
        ratio, bar = seconds[name] / seconds[base], bars.get(name)
        wanted = "" if bar is None else f"  at most {bar:g}x: {'yes' if ratio <= bar else 'NO'}"
        print(f"  {name:<48} {seconds[name] * 1e3:9.2f} ms {ratio:6.2f}x{wanted}", flush=True)


def forward(model: nn.Module, *x: Tensor) -> Call:
    def run() -> None:
        with torch.no_grad():
            model(*x)

    return run


def both_ways(model: nn.Module, x: Tensor) -> Call:
    def run() -> None:
        model.zero_grad()
        out = model(x)
        (out[0] if isinstance(out, tuple) else out).sum().backward()

    return run


def convert(rounds: int) -> None:
    net = ResNet18(width=64, classes=1000)
    chip = xb.Chip(CELL, forward=CONVERTERS, tile=(256, 256))
    calls: dict[str, Call] = {
        "hardware-aware": lambda: xb.convert(net, chip, seed=0),
        "programmed": lambda: xb.convert(net, chip, xb.Programmed(), seed=0),
    }
    weights = sum(p.numel() for p in net.parameters())
    show(f"convert ResNet-18, {weights / 1e6:.1f} M weights (0.5 s wanted)", {}, calls, 3)


def conv(rounds: int) -> None:
    x = torch.randn(8, 64, 28, 28)
    layer = nn.Conv2d(64, 128, 3, padding=1)
    calls: dict[str, Call] = {"nn.Conv2d": forward(layer, x)}
    bars = {}
    for rows, bar in ((None, 2.0), (256, 4.0)):
        chip = xb.Chip(CELL, forward=CONVERTERS, tile=rows and (rows, 1024))
        for mode in (xb.HardwareAware(), xb.Programmed()):
            where = "untiled" if rows is None else f"{rows}-row tiles"
            name = f"{type(mode).__name__}, {where}"
            calls[name] = forward(xb.convert(layer, chip, mode, seed=0), x)
            bars[name] = bar
    show("Conv2d(64, 128, 3) of 8 x 64 x 28 x 28, 8 bit, read noise", bars, calls, rounds)


def recurrent(rounds: int) -> None:
    x = torch.randn(50, 32, 128)
    chip = xb.Chip(CELL, forward=CONVERTERS)
    for kind, ahead, both in ((nn.LSTM, 12.0, 5.0), (nn.GRU, 3.0, 3.0)):
        net = kind(128, 128)
        title = f"{kind.__name__}, T = 50, B = 32, H = 128"
        for how, bar in ((forward, ahead), (both_ways, both)):
            calls: dict[str, Call] = {f"nn.{kind.__name__}, {how.__name__}": how(net, x)}
            bars = {}
            for name, on in (("ideal", xb.Chip()), ("8 bit, read noise", chip)):
                calls[name] = how(xb.convert(net, on, seed=0), x)
                bars[name] = bar
            show(f"{title}, hardware-aware", bars, calls, rounds)


class Block(nn.Module):
    """GPT-2's, for one token after those in the cache."""

    def __init__(self, wide: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(wide), nn.LayerNorm(wide)
        self.c_attn, self.c_proj = nn.Linear(wide, 3 * wide), nn.Linear(wide, wide)
        self.c_fc, self.c_out = nn.Linear(wide, 4 * wide), nn.Linear(4 * wide, wide)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k, v = self.c_attn(self.ln_1(x)).view(len(x), 3, self.heads, 1, -1).unbind(1)
        seen = F.scaled_dot_product_attention(q, torch.cat([keys, k], 2), torch.cat([values, v], 2))
        x = x + self.c_proj(seen.flatten(1))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    """GPT-2's 124 M weights, decoding one token after 64 others."""

    def __init__(self, wide: int = 768, layers: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(50257, wide), nn.Embedding(1024, wide)
        self.h = nn.ModuleList([Block(wide, heads) for _ in range(layers)])
        self.ln_f = nn.LayerNorm(wide)
        self.lm_head = nn.Linear(wide, 50257, bias=False)
        self.lm_head.weight = self.wte.weight
        self.register_buffer("cache", torch.randn(layers, 2, 1, heads, 64, wide // heads))

    def forward(self, ids: Tensor, at: Tensor) -> Tensor:
        x = F.embedding(ids, self.wte.weight) + self.wpe(at)
        for block, (keys, values) in zip(self.h, self.cache, strict=True):
            x = block(x, keys, values)
        return self.lm_head(self.ln_f(x))


def decode(rounds: int) -> None:
    net, at = GPT().eval(), (torch.tensor([17]), torch.tensor([64]))
    chip = xb.Chip(CELL, forward=CONVERTERS)
    calls: dict[str, Call] = {"torch": forward(net, *at)}
    for mode in (xb.HardwareAware(), xb.Programmed()):
        model = xb.convert(net, chip, mode, seed=0, example=at)
        name = f"{type(mode).__name__}, {xb.summary(model).share:.0%} on arrays"
        calls[name] = forward(model, *at)
    show(
        "a token of 124 M weights, B = 1, 8 bit, read noise",
        dict.fromkeys(calls, 1.5),
        calls,
        rounds,
    )


PARTS = {f.__name__: f for f in (convert, conv, recurrent, decode)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--part", choices=PARTS, help="one part only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, one thread, minimum of {arguments.rounds} rounds")
    for name, part in PARTS.items():
        if arguments.part in (None, name):
            part(arguments.rounds)
