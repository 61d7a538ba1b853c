"""Whole models: all weights that products read are on arrays, in every mode, no others are."""

from __future__ import annotations

import functools
import importlib
import warnings

import pytest
import torch
from _databases import MODES, deviations, pair
from _zoo import language, seeded, vision
from torch import nn

import crossbar as xb
from devices import presets

LANGUAGE = (
    *("GPT2", "BERT", "Llama", "Mixtral eager", "Mixtral batched_mm", "Mixtral grouped_mm"),
    *("ViT", "Whisper", "Mamba", "T5", "OPT"),
)
TALKERS = ("GPT2", "Llama", "Mixtral grouped_mm", "Whisper", "Mamba", "T5", "OPT")


@functools.cache
def zoo():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    return language(transformers)


def entry(name):
    return vision()[name] if name in vision() else zoo()[name]


class Logits(nn.Module):
    """Of a model that gives more."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, **kwargs):
        y = self.net(**kwargs)
        return y if isinstance(y, torch.Tensor) else y.logits


def built(name):
    with seeded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Logits(entry(name).build().double().eval())


def names(*those, slow=()):
    marked = [pytest.param(n, marks=pytest.mark.slow) for n in slow]
    return pytest.mark.parametrize("name", [*those, *marked])


@names("ResNet18", "MobileNetV2", slow=LANGUAGE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_weight_of_a_product_is_read(name, mode):
    net, example = built(name), entry(name).example
    # torch has no grouped_mm in double precision: the reference loops over experts
    eager = "grouped" in name
    both = pair(net, MODES[mode], example=None if eager else example)
    if eager:
        both.digital.net.config._experts_implementation = "eager"
    found = deviations(both, (), example, MODES[mode])
    wrong = {k: v for k, v in found.items() if not v <= (1e-9 if k.startswith("step") else 1e-10)}
    assert not wrong, wrong
    receipt = xb.summary(both.analog, example)
    assert receipt.share == 1
    rest = [line.name for line in receipt if line.state != "analog"]
    exceptions = entry(name).digital
    assert all(line.endswith(exceptions) for line in rest), rest
    for end in exceptions:
        assert any(line.endswith(end) for line in rest)


@names(slow=TALKERS)
def test_generation_equals_the_digital_model(name):
    torch.manual_seed(0)
    given = entry(name)
    with seeded():
        net = given.build().eval()
    prompt, example = (
        {k: v.float() if k in ("x", "input_features") else v for k, v in each.items()}
        for each in (given.prompt, given.example)
    )
    model = xb.convert(net, xb.Chip(), seed=0, example=example, strict=1.0)
    options = {"max_new_tokens": 20, "min_new_tokens": 20, "do_sample": False}
    with torch.no_grad():
        said = model.generate(**prompt, **options)
        assert torch.equal(said, net.generate(**prompt, **options))
    tally = xb.Tally(model)
    with torch.no_grad(), xb.observe(model, tally):
        assert torch.equal(said, model.generate(**prompt, **options))
    assert all(counted.reads for counted in tally.values())


ONE_GRAPH = tuple(n for n in LANGUAGE if n != "Mixtral eager")  # which torch itself cannot trace
TRACER = "ignore:.*should not be instantiated:DeprecationWarning"


@names(slow=("ResNet18", "MobileNetV2", *ONE_GRAPH))
@pytest.mark.filterwarnings("ignore::FutureWarning", TRACER, "ignore:.*lru_cache:UserWarning")
def test_one_graph_of_twenty_calls(name):
    counter = importlib.import_module("torch._dynamo.testing").CompileCounterWithBackend(
        "aot_eager"
    )
    example, eager = entry(name).example, "grouped" in name
    both = pair(built(name), MODES["hardware-aware"], example=None if eager else example)
    if eager:
        both.digital.net.config._experts_implementation = "eager"
    torch._dynamo.reset()
    model = torch.compile(both.analog, backend=counter, fullgraph=True)
    with torch.no_grad():
        want = both.digital(**example)
        for _ in range(20):
            assert float((model(**example) - want).abs().max()) < 1e-10 * float(want.abs().max())
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", TRACER, "ignore:.*lru_cache:UserWarning")
def test_time_passes_without_a_new_graph():
    counter = importlib.import_module("torch._dynamo.testing").CompileCounterWithBackend(
        "aot_eager"
    )
    chip = xb.Chip(presets.pcm(), forward=xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=8)))
    example = entry("GPT2").example
    net = built("GPT2").float()
    chip_ = xb.program(xb.convert(net, chip, seed=0, example=example)).eval()
    torch._dynamo.reset()
    model = torch.compile(chip_, backend=counter, fullgraph=True)
    with torch.no_grad():
        said = []
        for _ in range(4):
            said.append(model(**example))
            xb.advance(chip_, 86_400.0)
    assert counter.frame_count == 1
    sizes = [float(y.norm()) for y in said]
    assert all(later != first for later, first in zip(sizes[1:], sizes, strict=False))
