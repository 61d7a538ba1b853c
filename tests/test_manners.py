"""What people do with a converted model through torch's exporters, transformers and peft."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

import crossbar as xb
from devices import ConstantStep, Device, GaussianRead, GaussianWrite

CELLS = Device(1e-6, 50e-6, ConstantStep(1e-8), write=GaussianWrite(0.02))
CHIP = xb.Chip(CELLS, forward=xb.Periphery(xb.DAC(bits=8), xb.ADC(bits=8)))
MODES = [xb.HardwareAware(), xb.Programmed(), xb.InSitu()]
IDS = torch.arange(48).view(4, 12) % 50


def kind(mode: object) -> str:
    return type(mode).__name__


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.parametrize("mode", MODES, ids=kind)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")
def test_an_exported_model_is_the_same_chip(mode):
    """Its noise is drawn at every read; when weights are written, it follows."""
    chip = xb.Chip(Device(1e-6, 50e-6, ConstantStep(1e-8), read=GaussianRead(0.02)))
    x = torch.randn(1000, 8)
    model = xb.convert(net(), chip, mode=mode, seed=0).eval()
    program = torch.export.export(model, (x,), strict=True).module()
    for _ in range(2):
        one, other, eager = program(x), program(x), model(x)
        noise = float((one - other).detach().std())
        assert noise > 1e-3
        assert float((one - eager).detach().std()) == pytest.approx(noise, rel=0.1)
        with torch.no_grad():
            model[2].weight.neg_()


@pytest.mark.parametrize("mode", MODES, ids=kind)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traces_that_would_freeze_the_cells_are_refused(mode):
    model, x = xb.convert(net(), CHIP, mode=mode, seed=0).eval(), torch.randn(3, 8)
    with pytest.raises(TypeError, match="export without strict=True.*strict=True. does"):
        torch.export.export(model, (x,), strict=False)
    with pytest.raises(TypeError, match="cannot follow the cells|has no cells yet"):
        torch.jit.trace(model, x)
    assert model(x).shape == (3, 2)  # nothing is left of the attempt


def gpt() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    settings = dict(n_layer=2, n_embd=32, n_head=2, vocab_size=50, n_positions=32)
    quiet = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings, **quiet))


def trained(mode, folder, **options):
    """Losses of transformers' Trainer, the model, and the folder of its last checkpoint."""
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments

    model = xb.convert(gpt(), CHIP, mode=mode, seed=0)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        report_to=[],
        save_strategy="epoch",
        logging_steps=1,
        use_cpu=True,
        learning_rate=1e-2,
        disable_tqdm=True,
        **options,
    )
    optimizer = xb.InSituSGD(model, 0.05) if isinstance(mode, xb.InSitu) else None
    data = [{"input_ids": IDS[i % 4], "labels": IDS[i % 4]} for i in range(16)]
    trainer = Trainer(model=model, args=arguments, train_dataset=data, optimizers=(optimizer, None))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, model, max(folder.glob("checkpoint-*"), key=lambda p: p.stat().st_mtime)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=kind)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2, "max_grad_norm": 0.5},
        {"activation_checkpointing": True},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_trainer_trains_saves_and_loads(mode, options, tmp_path):
    losses, model, checkpoint = trained(mode, tmp_path, **options)
    assert losses[-1] < losses[0]
    from safetensors.torch import load_file

    again = xb.convert(gpt(), CHIP, mode=mode, seed=1)
    found = again.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=False)
    assert not found.unexpected_keys and set(found.missing_keys) <= {"lm_head.weight"}  # tied
    with torch.no_grad():
        assert torch.equal(again.eval()(IDS).logits, model.eval()(IDS).logits)


@pytest.mark.slow
def test_trainer_with_another_optimiser_in_situ_is_refused(tmp_path):
    pytest.importorskip("accelerate")
    model = xb.convert(gpt(), CHIP, mode=xb.InSitu(), seed=0)
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True, max_steps=1)
    trainer = Trainer(
        model=model, args=arguments, train_dataset=[{"input_ids": IDS[0], "labels": IDS[0]}]
    )
    with pytest.raises(TypeError, match="AdamW would write numbers into.*InSituSGD"):
        trainer.train()


def adapted(model, **options):
    peft = pytest.importorskip("peft")
    settings = dict(r=4, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.get_peft_model(model, peft.LoraConfig(**settings, **options))


@pytest.mark.slow
def test_low_rank_adapters_train_beside_frozen_arrays():
    model = xb.convert(gpt(), CHIP, mode=xb.Programmed(), seed=0)
    cells = {k: v.clone() for k, v in model.state_dict().items() if k.endswith("cells.g")}
    wrapped = adapted(model)
    optimizer = torch.optim.Adam([p for p in wrapped.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = wrapped(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    after = wrapped.state_dict()
    assert len(cells) == 9
    for name, before in cells.items():
        (held,) = (v for k, v in after.items() if k.replace("base_layer.", "").endswith(name))
        assert torch.equal(held, before)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_merged_adapters_are_on_the_cells(mode):
    """On an ideal chip the merged model says what the adapted one said, as torch's own does."""
    model = adapted(xb.convert(gpt(), xb.Chip(), mode=mode, seed=0)).eval()
    digital = adapted(gpt()).eval()
    with torch.no_grad():
        want = digital(input_ids=IDS).logits
        assert torch.allclose(model(input_ids=IDS).logits, want, atol=1e-5)
        merged = copy.deepcopy(model).merge_and_unload()
        assert torch.allclose(merged(input_ids=IDS).logits, want, atol=1e-5)
        assert xb.summary(merged, IDS).share == 1.0
