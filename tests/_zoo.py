"""Models of the zoo: small configurations, random weights, nothing downloaded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Entry(NamedTuple):
    """A model of the zoo."""

    build: Callable[[], nn.Module]
    example: dict[str, Any]
    digital: tuple[str, ...]  # ends of the names of weights that no product reads
    prompt: dict[str, Any] | None = None  # of `generate`; None: it does not


class Residual(nn.Module):
    """ResNet's basic block, with torchvision's names."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample = None
        if stride != 1 or inner != outer:
            conv = nn.Conv2d(inner, outer, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet18(nn.Module):
    """He et al. (2016), of `width` channels at first instead of 64."""

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, self.maxpool = nn.BatchNorm2d(width), nn.MaxPool2d(3, 2, 1)
        inner = width
        for k in range(4):
            outer = width << k
            blocks = Residual(inner, outer, 1 if k == 0 else 2), Residual(outer, outer, 1)
            setattr(self, f"layer{k + 1}", nn.Sequential(*blocks))
            inner = outer
        self.fc = nn.Linear(inner, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for k in range(4):
            x = getattr(self, f"layer{k + 1}")(x)
        return self.fc(x.mean((2, 3)))


class Inverted(nn.Module):
    """MobileNetV2's inverted residual, with torchvision's names."""

    def __init__(self, inner: int, outer: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inner * expand
        layers: list[nn.Module] = []
        if expand > 1:
            layers.append(_conv_bn(inner, hidden, 1))
        layers += [
            _conv_bn(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, outer, 1, bias=False),
            nn.BatchNorm2d(outer),
        ]
        self.conv, self.skip = nn.Sequential(*layers), stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return x + y if self.skip else y


def _conv_bn(inner: int, outer: int, k: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, k, stride, k // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), nn.ReLU6())


class MobileNetV2(nn.Module):
    """Sandler et al. (2018), narrower and shorter."""

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn(3, width, 3, 2)]
        inner = width
        for expand, outer, n, stride in ((1, width, 1, 1), (6, 12, 2, 2), (6, 16, 2, 2)):
            for k in range(n):
                layers.append(Inverted(inner, outer, stride if k == 0 else 1, expand))
                inner = outer
        layers.append(_conv_bn(inner, 4 * inner, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * inner, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


@contextlib.contextmanager
def seeded() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def vision() -> dict[str, Entry]:
    """Models of our own definition."""
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return {
        "ResNet18": Entry(ResNet18, {"x": x}, ()),
        "MobileNetV2": Entry(MobileNetV2, {"x": x}, ()),
    }


def language(transformers: Any) -> dict[str, Entry]:
    """Models of transformers."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    t = transformers
    ids = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    tokens = {"input_ids": ids, "use_cache": False}
    start = {"input_ids": ids[:1]}
    rng = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=rng)
    sound = torch.randn(2, 8, 40, dtype=torch.float64, generator=rng)
    names = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}
    names |= {"intermediate_size": 24, "max_position_embeddings": 64}
    llama = {**names, "num_key_value_heads": 1, "pad_token_id": 0}
    moe = {**llama, "num_local_experts": 3, "num_experts_per_tok": 2}

    def mixtral(kind: str) -> Entry:
        def build() -> nn.Module:
            config = t.MixtralConfig(**moe)
            config._experts_implementation = kind
            return t.MixtralForCausalLM(config)

        return Entry(build, tokens, ("embed_tokens.weight",), start)

    whisper = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 64}
    whisper |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_mel_bins": 8}
    whisper |= {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_source_positions": 20}
    whisper |= {"max_target_positions": 64, "pad_token_id": 0, "bos_token_id": 1}
    whisper |= {"eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None}
    whisper |= {"begin_suppress_tokens": None}
    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 64}
    t5 |= {"decoder_start_token_id": 0}
    gpt2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 64}
    gpt2 |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    opt = {**names, "ffn_dim": 24, "word_embed_proj_dim": 16}
    mamba = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 64, "state_size": 4}
    opt.pop("intermediate_size")
    positions = ("position_embeddings.weight", "token_type_embeddings.weight")
    bert = {"input_ids": ids}
    both = {"input_ids": ids, "decoder_input_ids": ids}
    heard = {"input_features": sound, "decoder_input_ids": ids}
    return {
        "GPT2": Entry(
            lambda: t.GPT2LMHeadModel(t.GPT2Config(**gpt2)), tokens, ("wpe.weight",), start
        ),
        "BERT": Entry(lambda: t.BertForMaskedLM(t.BertConfig(**names)), bert, positions),
        "Llama": Entry(
            lambda: t.LlamaForCausalLM(t.LlamaConfig(**llama)),
            tokens,
            ("embed_tokens.weight",),
            start,
        ),
        **{f"Mixtral {kind}": mixtral(kind) for kind in ("eager", "batched_mm", "grouped_mm")},
        "ViT": Entry(
            lambda: t.ViTForImageClassification(
                t.ViTConfig(**names, image_size=16, patch_size=4, num_labels=3)
            ),
            {"pixel_values": image},
            ("cls_token", "position_embeddings"),
        ),
        "Whisper": Entry(
            lambda: t.WhisperForConditionalGeneration(t.WhisperConfig(**whisper)),
            heard,
            ("embed_positions.weight",),
            {"input_features": sound[:1]},
        ),
        "Mamba": Entry(
            lambda: t.MambaForCausalLM(t.MambaConfig(**mamba)), tokens, ("A_log",), start
        ),
        "T5": Entry(
            lambda: t.T5ForConditionalGeneration(t.T5Config(**t5)),
            both,
            ("relative_attention_bias.weight",),
            start,
        ),
        "OPT": Entry(
            lambda: t.OPTForCausalLM(t.OPTConfig(**opt)), tokens, ("embed_positions.weight",), start
        ),
    }
