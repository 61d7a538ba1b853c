"""Optimisers on analog weights: `InSituSGD` against torch's SGD, and the refusal of others."""

from __future__ import annotations

import io

import pytest
import torch
from _in_situ import LR, MLP, PULSES, SEEN, Run, fresh, in_situ, judged, mlp, plain, same

import crossbar as xb


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# ---- optimisers ----------------------------------------------------------------------------------


OTHERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.01),
    "SGD, foreach": lambda p: torch.optim.SGD(p, 0.01, foreach=True, momentum=0.9),
    "SGD, fused": lambda p: torch.optim.SGD(p, 0.01, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, 0.01),
    "Adam, foreach": lambda p: torch.optim.Adam(p, 0.01, foreach=True),
    "Adam, fused": lambda p: torch.optim.Adam(p, 0.01, fused=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
    "LBFGS": lambda p: torch.optim.LBFGS(p, 0.01, max_iter=2),
}


class OldStyle(torch.optim.Optimizer):
    """As written before there was no_grad."""

    def __init__(self, params):
        super().__init__(params, {})

    def step(self, closure):
        closure()
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad.data, alpha=-0.01)


OTHERS["by .data"] = OldStyle


def one_step(model, optimiser):
    def closure():
        optimiser.zero_grad()
        loss = model(MLP[0]).square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)


@pytest.mark.parametrize("name", OTHERS, ids=str)
def test_other_optimisers_are_refused_in_situ_and_taken_hardware_aware(name):
    model = in_situ(mlp())
    before = plain(model[0].weight)
    with pytest.raises(TypeError, match=r"take pulses: train in-situ weights with .*InSituSGD"):
        one_step(model, OTHERS[name](model.parameters()))
    assert torch.equal(before, plain(model[0].weight))
    digital = mlp()
    aware = xb.convert(digital, xb.Chip(), seed=0)
    for each in (digital, aware):
        optimiser = OTHERS[name](each.parameters())
        for _ in range(3):
            one_step(each, optimiser)
    for a, b in zip(aware.parameters(), digital.parameters(), strict=True):
        torch.testing.assert_close(plain(a), plain(b), rtol=1e-9, atol=1e-9)
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    one_step(model, OTHERS[name](biases))  # what is digital is anybody's


GROUPS = [
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.5, "dampening": 0.2, "weight_decay": 0.1},
    {"weight_decay": 0.1, "maximize": True},
]


@pytest.mark.parametrize("settings", GROUPS, ids=str)
def test_parameter_groups(settings):
    """Digital parameters by torch's whole SGD, analog ones in a group of zeros."""
    analog_too = {k: v for k, v in settings.items() if k == "maximize"}

    def habit(run):
        params = dict(run.model.named_parameters())
        groups = [
            {"params": [p for n, p in params.items() if "bias" in n], "lr": 0.1, **settings},
            {"params": [p for n, p in params.items() if "bias" not in n], **analog_too},
        ]
        if isinstance(run.optimiser, xb.InSituSGD):
            run.optimiser.param_groups.clear()
            for group in groups:
                run.optimiser.add_param_group(group)
        else:
            run.optimiser = torch.optim.SGD(groups, LR)
        for x in [*MLP, *MLP]:
            fresh(run, x)
            run.step()

    assert judged(mlp(), habit) == PULSES


@pytest.mark.parametrize("setting", [{"momentum": 0.9}, {"weight_decay": 0.1}], ids=str)
def test_what_cells_cannot_keep_is_refused(setting):
    (name,) = setting
    model = in_situ(mlp())
    with pytest.raises(TypeError, match=f"{name}=.* needs a memory beside the cells of 0.weight"):
        xb.InSituSGD(model, LR, **setting)
    optimiser = xb.InSituSGD(model, LR)
    optimiser.param_groups[0].update(setting)
    model(MLP[0]).sum().backward()
    with pytest.raises(TypeError, match=f"{name}=.* needs a memory"):
        optimiser.step()
    aware = xb.convert(mlp(), xb.Chip(), seed=0)
    digital = mlp()
    runs = [
        Run(digital, torch.optim.SGD(digital.parameters(), LR, **setting)),
        Run(aware, xb.InSituSGD(aware, LR, **setting)),
    ]
    for run in runs:
        for x in MLP:
            fresh(run, x)
            run.step()
    same(runs[1].trace, runs[0].trace)


def test_an_optimiser_resumes_with_its_momentum():
    """Momentum of digital parameters and the learning rate go on; analog weights keep none."""

    def habit(run, broken):
        run.optimiser.zero_grad()
        analog = isinstance(run.optimiser, xb.InSituSGD)

        def optimiser(model):
            named = dict(model.named_parameters())
            groups = [
                {"params": [p for n, p in named.items() if "bias" in n], "momentum": 0.9},
                {"params": [p for n, p in named.items() if "bias" not in n]},
            ]
            if not analog:
                return torch.optim.SGD(groups, LR)
            made = xb.InSituSGD(model, LR)
            made.param_groups.clear()
            for group in groups:
                made.add_param_group(group)
            return made

        run.optimiser = optimiser(run.model)
        for k, x in enumerate([*MLP, *MLP]):
            if k == 3:
                for group in run.optimiser.param_groups:
                    group["lr"] = 0.05
            if k == 4 and broken:
                file = io.BytesIO()
                torch.save((run.model.state_dict(), run.optimiser.state_dict()), file)
                file.seek(0)
                weights, state = torch.load(file, weights_only=True)
                run.model = in_situ(mlp()) if analog else mlp()
                run.model.load_state_dict(weights)
                run.optimiser = optimiser(run.model)
                run.optimiser.load_state_dict(state)
            fresh(run, x)
            run.step()

    assert judged(mlp(), lambda run: habit(run, broken=True)) == PULSES
    traces = []
    for broken in (False, True):
        model = in_situ(mlp())
        run = Run(model, xb.InSituSGD(model, LR))
        habit(run, broken)
        traces.append(run.trace)
    for a, b in zip(*traces, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_without_gradients_the_updates_are_the_same():
    def grow(model):
        optimiser = xb.InSituSGD(model, LR)
        for x in MLP:
            optimiser.zero_grad()
            for part in x.chunk(2):
                model(part).square().mean().backward()
            optimiser.step()
            yield {n: plain(p) for n, p in model.named_parameters()}
            for n, p in model.named_parameters():
                assert (p.grad is None) == (n.endswith("weight") and "no" in model.kind)

    traces = []
    for kind, how in (("with", {}), ("no gradient", {"gradient": False})):
        model = in_situ(mlp(), **how)
        model.kind = kind
        SEEN.clear()
        traces.append(list(grow(model)))
        assert set(SEEN) == PULSES
    for a, b in zip(*traces, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_without_gradients_a_penalty_comes_on_top():
    """Its numbers are all of `.grad`; what the reads left is applied beside them."""

    def habit(run):
        for x in MLP:
            run.optimiser.zero_grad()
            loss = run.model(x).square().mean()
            (loss + 0.1 * sum(p.square().sum() for p in run.model.parameters())).backward()
            run.model(x + 1).square().mean().backward()
            (0.1 * run.model[0].weight.abs().sum()).backward()
            run.optimiser.step()
            run.note(**dict(run.model.named_parameters()))

    assert judged(mlp(), habit, gradient=False) == {"pulses", "numbers"}


@pytest.mark.parametrize("which", ["input", "error"])
def test_without_gradients_what_is_overwritten_is_refused(which):
    """With them, content tells; see `static_buffer` in test_seam_training."""
    model = in_situ(mlp(), gradient=False)
    optimiser, errors = xb.InSituSGD(model, LR), []
    x = MLP[0].clone()
    y = model(x)
    y.register_hook(errors.append)
    y.square().mean().backward()
    (x if which == "input" else errors[0]).add_(1)
    with pytest.raises(RuntimeError, match="written in place between backward and step"):
        optimiser.step()


@pytest.mark.parametrize("forget", ["optimiser", "load"])
def test_without_gradients_the_optimiser_forgets(forget):
    model = in_situ(mlp(), gradient=False)
    optimiser = xb.InSituSGD(model, LR)
    model(MLP[0]).square().mean().backward()
    before = plain(model[0].weight)
    if forget == "optimiser":
        optimiser.zero_grad()
    else:
        model.load_state_dict(model.state_dict())
    SEEN.clear()
    optimiser.step()
    assert torch.equal(before, plain(model[0].weight)) and not SEEN


def test_max_norm_scales_every_error():
    model, free = in_situ(mlp()), in_situ(mlp())
    small, large = xb.InSituSGD(model, LR, max_norm=1e-3), xb.InSituSGD(free, LR, max_norm=1e3)
    reference = in_situ(mlp())
    plain_sgd = xb.InSituSGD(reference, LR)
    start = plain(model[0].weight)
    for each, optimiser in ((model, small), (free, large), (reference, plain_sgd)):
        each(MLP[0]).square().mean().backward()
        optimiser.step()
    assert torch.equal(plain(free[0].weight), plain(reference[0].weight))
    full, cut = plain(free[0].weight) - start, plain(model[0].weight) - start
    assert 0 < cut.norm() <= LR * 1e-3
    torch.testing.assert_close(cut / cut.norm(), full / full.norm(), rtol=1e-6, atol=1e-6)
