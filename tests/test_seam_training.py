"""torch's habits of training, in situ: torch.optim.SGD on the digital network is the judge.

Cells are ideal and counts are exact means, so that an update is SGD's. `pulses`: the step was made
of the inputs and errors of reads; `numbers`: `.grad` was no longer theirs and was written itself.
"""

from __future__ import annotations

import copy
import io
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from _in_situ import (
    LR,
    MLP,
    NUMBERS,
    PULSES,
    SEEN,
    batches,
    consistent,
    fresh,
    in_situ,
    judged,
    loss_of,
    mlp,
    plain,
)
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

import crossbar as xb
from devices import Device


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# ---- one weight read several times ---------------------------------------------------------------


class Cell(nn.Module):
    """An LSTM's step made of one nn.Linear, used five times."""

    def __init__(self, way="plain"):
        super().__init__()
        self.gates, self.head, self.way = nn.Linear(3 + 4, 16), nn.Linear(4, 2), way
        self.double()

    def tick(self, x, h, c):
        i, f, g, o = self.gates(torch.cat([x, h], -1)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def forward(self, xs):
        h = c = xs.new_zeros(xs.shape[1], 4)
        for t, x in enumerate(xs):
            way = ("plain", "anew", "reentrant")[t % 3] if self.way == "mixed" else self.way
            if way == "plain":
                h, c = self.tick(x, h, c)
            else:
                x = x.clone().requires_grad_()  # reentrant checkpoints need an input that asks
                h, c = checkpoint(self.tick, x, h, c, use_reentrant=way == "reentrant")
        return self.head(h)


@pytest.mark.parametrize("way", ["plain", "anew", "reentrant", "mixed"])
def test_a_weight_read_five_times_with_and_without_checkpoint(way):
    def habit(run):
        for xs in batches(3, 5, 2, 3):
            fresh(run, xs)
            run.step()

    assert judged(Cell(way), habit) == PULSES


# ---- what lies between backward and step ---------------------------------------------------------


def accumulate(run):
    for x in MLP:
        run.optimiser.zero_grad()
        for part in x.chunk(3):
            loss_of(run, part).backward()
        run.step()


def clip_norm(run):
    for x in MLP:
        fresh(run, x)
        run.note(norm=torch.nn.utils.clip_grad_norm_(run.model.parameters(), 0.05))
        run.step()


def clip_between(run):
    for x in MLP:
        fresh(run, x)
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 0.05)
        loss_of(run, 2 * x).backward()
        run.step()


def divide_data(run):
    for x in MLP:
        fresh(run, x)
        loss_of(run, x + 1).backward()
        for p in run.model.parameters():
            p.grad.data.mul_(0.5)
        run.step()


def retain_graph(run):
    for x in MLP:
        run.optimiser.zero_grad()
        loss = loss_of(run, x)
        loss.backward(retain_graph=True)
        loss.backward()
        run.step()


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
def create_graph(run):
    for x in MLP:
        run.optimiser.zero_grad()
        loss_of(run, x).backward(create_graph=True)
        loss_of(run, x + 1).backward()
        for p in run.model.parameters():
            p.grad = p.grad.detach()
        run.step()
        run.optimiser.zero_grad()


def two_losses(run):
    """Two heads of one trunk, their gradients taken together."""
    for x in MLP:
        run.optimiser.zero_grad()
        y = run.model(x)
        torch.autograd.backward([y[:, 0].sum(), y[:, 1].square().sum()])
        run.step()


def tensor_hook(run):
    handles = [p.register_hook(lambda g: 2 * g) for p in run.model.parameters()]
    for x in MLP[:2]:
        fresh(run, x)
        run.step()
    for handle in handles:
        handle.remove()
    fresh(run, MLP[2])
    run.step()


def closures(run):
    for x in MLP:

        def closure(x=x):
            fresh(run, x)
            return loss_of(run, x)

        run.step(lambda c=closure: run.note(loss=run.optimiser.step(c)))


def in_a_backward_hook(run):
    """The optimiser steps inside the backward pass, parameter by parameter."""
    left = set(run.model.parameters())

    def arrived(p):
        left.discard(p)
        if not left:
            run.step()

    handles = [p.register_post_accumulate_grad_hook(arrived) for p in list(left)]
    for x in MLP:
        left.update(run.model.parameters())
        run.optimiser.zero_grad()
        loss_of(run, x).backward()
    for handle in handles:
        handle.remove()


def raised_midway(run):
    def fail(_):
        raise RuntimeError("midway")

    for x in MLP:
        run.optimiser.zero_grad()
        hidden = run.model[1](run.model[0](x))
        handle = hidden.register_hook(fail)
        with pytest.raises(RuntimeError, match="midway"):
            run.model[2](hidden).sum().backward()
        handle.remove()
        run.optimiser.zero_grad()
        loss_of(run, x).backward()
        run.step()


def raised_between_two_reads(run):
    """Half of a weight's errors are there when the pass ends: they count for no later one."""

    def fail(_):
        raise RuntimeError("midway")

    first, last = run.model[0], run.model[2]
    for x in MLP:
        hidden = last.weight.T @ first(x).tanh().mT[:5].mean(-1)[:3].contiguous()
        hidden.register_hook(fail)
        with pytest.raises(RuntimeError, match="midway"):
            (run.model(x).sum() + (last(hidden)).sum()).backward()
        run.note(none=all(p.grad is None for p in run.model.parameters()))
        drop_grads(run)
        loss_of(run, x).backward()
        run.step()
        run.optimiser.zero_grad()


def module_hooks(run):
    """Hooks of modules that change what passes, forward and backward."""
    first, last = run.model[0], run.model[2]
    handles = [
        first.register_forward_pre_hook(lambda m, args: (1.5 * args[0],)),
        first.register_forward_hook(lambda m, args, y: y + 0.1),
        last.register_full_backward_hook(lambda m, by_x, by_y: (0.5 * by_x[0],)),
        last.register_full_backward_pre_hook(lambda m, by_y: (2 * by_y[0],)),
    ]
    for x in MLP:
        fresh(run, x)
        run.step()
    for handle in handles:
        handle.remove()


def schedule(run):
    scheduler = torch.optim.lr_scheduler.LambdaLR(run.optimiser, lambda n: [1.0, 0.5, 0.0, 2.0][n])
    for x in MLP:
        fresh(run, x)
        run.step()
        scheduler.step()


def threads(run):
    """Four backward passes in four threads at once."""
    for x in MLP:
        run.optimiser.zero_grad()

        def work(part):
            loss_of(run, part).backward()

        workers = [threading.Thread(target=work, args=(part,)) for part in x.chunk(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        run.step()


def pgd(run):
    """Adversarial training: gradients of the input alone train nothing."""
    for x in MLP:
        run.optimiser.zero_grad()
        worse = x.clone()
        for _ in range(3):
            worse.requires_grad_()
            (g,) = torch.autograd.grad(loss_of(run, worse), worse)
            worse = (worse + 0.1 * g.sign()).detach()
        run.note(worse=worse)
        loss_of(run, worse).backward()
        run.step()


def saliency(run):
    for x in MLP:
        run.optimiser.zero_grad()
        loss_of(run, x).backward()
        looked = x.clone().requires_grad_()
        loss_of(run, looked).backward(inputs=[looked])
        (by_w,) = torch.autograd.grad(loss_of(run, x + 1), run.model[0].weight)
        run.note(map=looked.grad, grad_of_weight=by_w)
        run.step()


def forgetting(how):
    def habit(run):
        for x in MLP:
            loss_of(run, 3 * x).backward()
            how(run)
            run.step()  # of nothing, where all were dropped
            run.optimiser.zero_grad()
            loss_of(run, 3 * x).backward()
            how(run)
            loss_of(run, x).backward()
            run.step()
            run.optimiser.zero_grad()

    return habit


def drop_grads(run):
    for p in run.model.parameters():
        p.grad = None


def zero_grads(run):
    for p in run.model.parameters():
        p.grad.zero_()


def zeros_for_grads(run):
    for p in run.model.parameters():
        p.grad = torch.zeros_like(p)


def zero_data(run):
    for p in run.model.parameters():
        p.grad.data.zero_()


def one_zeroed(run):
    run.model[0].weight.grad.zero_()


def one_dropped(run):
    run.model[0].weight.grad = None


def foreach_zeroed(run):
    torch._foreach_zero_([p.grad for p in run.model.parameters()])


ASKED = {
    "by x": lambda m, x: torch.autograd.grad(m(x).sum(), x),
    "by w": lambda m, x: torch.autograd.grad(m(x).sum(), m[0].weight),
    "by x and w": lambda m, x: torch.autograd.grad(m(x).sum(), [x, m[2].weight, m[0].weight]),
    "by a view": lambda m, x: [
        torch.autograd.grad(F.linear(m[0](x), v).sum(), v) for v in m[2].weight.chunk(3)
    ],
    "inputs=[x]": lambda m, x: m(x).sum().backward(inputs=[x]),
    "inputs=[bias]": lambda m, x: m(x).sum().backward(inputs=[m[0].bias]),
}


@pytest.mark.parametrize("how", ASKED, ids=str)
def test_gradients_that_are_asked_for_train_nothing_and_leave_nothing(how):
    model = in_situ(mlp())
    optimiser = xb.InSituSGD(model, LR)
    before = {n: plain(p) for n, p in model.named_parameters()}
    ASKED[how](model, MLP[0].clone().requires_grad_())
    for weight in xb.analog_weights(model).values():
        assert not weight.tape.waiting and not weight.tape.entries
    SEEN.clear()
    optimiser.step()
    assert not SEEN
    for name, p in model.named_parameters():
        if "weight" in name:
            assert p.grad is None and torch.equal(before[name], plain(p))


def test_inputs_of_a_backward_pass_train_what_they_name():
    def habit(run):
        for x in MLP:
            run.optimiser.zero_grad()
            loss_of(run, x).backward(inputs=[run.model[2].weight, run.model[0].bias])
            run.step()

    assert judged(mlp(), habit) == PULSES


FORGET = {
    "model": lambda run: run.model.zero_grad(),
    "model, to zero": lambda run: run.model.zero_grad(set_to_none=False),
    "optimiser": lambda run: run.optimiser.zero_grad(),
    "optimiser, to zero": lambda run: run.optimiser.zero_grad(set_to_none=False),
    "grad = None": drop_grads,
    "grad.zero_": zero_grads,
    "grad = zeros": zeros_for_grads,
    "grad.data.zero_": zero_data,
    "one grad.zero_": one_zeroed,
    "one grad = None": one_dropped,
    "_foreach_zero_": foreach_zeroed,
}

BY_PULSES = [
    accumulate,
    clip_norm,
    clip_between,
    divide_data,
    retain_graph,
    create_graph,
    two_losses,
    tensor_hook,
    closures,
    in_a_backward_hook,
    raised_midway,
    raised_between_two_reads,
    module_hooks,
    schedule,
    threads,
    pgd,
    saliency,
]


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
@pytest.mark.parametrize("habit", BY_PULSES, ids=lambda h: h.__name__)
def test_habits_that_the_inputs_and_errors_survive(habit):
    assert judged(mlp(), habit) == PULSES


@pytest.mark.parametrize("how", FORGET, ids=str)
def test_a_gradient_that_is_dropped_is_forgotten(how):
    seen = judged(mlp(), forgetting(FORGET[how]))
    # a write through .data between two backward passes leaves no trace but the sum
    assert seen == (NUMBERS if how == "grad.data.zero_" else PULSES)


def clip_value(run):
    for x in MLP:
        fresh(run, x)
        torch.nn.utils.clip_grad_value_(run.model.parameters(), 1e-3)
        run.step()


def noisy(run):
    for x in MLP:
        fresh(run, x)
        for p in run.model.parameters():
            p.grad.add_(torch.randn_like(p), alpha=0.01)
        run.step()


def own_gradient(run):
    for _ in MLP:
        for p in run.model.parameters():
            p.grad = torch.randn_like(p)
        run.step()


def no_zero_grad(run):
    """Gradients of earlier steps stay: sums of which the cells have seen a part."""
    for k, x in enumerate(MLP):
        loss_of(run, x).backward()
        if k:
            run.step()
        else:
            run.optimiser.step()


def static_buffer(run):
    """One buffer for every batch, filled anew before the step (as captured graphs do)."""
    buffer = torch.zeros_like(MLP[0])
    for x in MLP:
        buffer.copy_(x)
        fresh(run, buffer)
        buffer.copy_(x + 1)
        run.step()


def one_entry_changed(run):
    for x in MLP:
        fresh(run, x)
        for p in run.model.parameters():
            if p.dim() == 2:
                p.grad[1, 2] = 0
        run.step()


def norms(p, power):
    return sum(w.abs().pow(power).sum() for w in p)


def penalty(power, alone=False):
    def habit(run):
        for x in MLP:
            run.optimiser.zero_grad()
            loss = 0.1 * norms(run.model.parameters(), power)
            (loss if alone else loss + loss_of(run, x)).backward()
            run.step()

    return habit


BY_NUMBERS = {
    "clip_grad_value_": clip_value,
    "noise": noisy,
    "own gradient": own_gradient,
    "no zero_grad": no_zero_grad,
    "one entry": one_entry_changed,
    "static buffer": static_buffer,
    "L1": penalty(1),
    "L2": penalty(2),
    "L2 alone": penalty(2, alone=True),
}


@pytest.mark.parametrize("habit", BY_NUMBERS, ids=str)
def test_gradients_that_are_something_else_are_written_as_numbers(habit):
    seen = judged(mlp(), BY_NUMBERS[habit])
    # of the last layer's inputs nothing was overwritten; its first step is made of all it has
    assert NUMBERS <= seen and (seen == NUMBERS or habit in ("no zero_grad", "static buffer"))


# ---- mixed precision, averages, frozen weights ---------------------------------------------------


@pytest.mark.parametrize("unscale", [False, True])
def test_grad_scaler_skips_overflows_and_its_factor_is_divided_out(unscale):
    def habit(run):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for k, x in enumerate([*MLP, MLP[0]]):
            run.optimiser.zero_grad()
            overflows = k == 1
            loss = loss_of(run, x) * (float("inf") if overflows else 1)
            scaler.scale(loss).backward()
            if unscale:
                scaler.unscale_(run.optimiser)
                torch.nn.utils.clip_grad_norm_(run.model.parameters(), 0.05)
            if overflows:
                before = plain(run.model[0].weight)
                scaler.step(run.optimiser)
                run.note(moved=not torch.equal(before, plain(run.model[0].weight)))
                assert not run.trace[-1]["moved"]
            else:
                run.step(lambda: scaler.step(run.optimiser))
            scaler.update()
            run.note(scale=scaler.get_scale())

    assert judged(mlp(), habit) == PULSES


@pytest.mark.parametrize("kind", ["SWA", "EMA", "EMA by hand", "EMA of buffers"])
def test_averages_of_a_trained_network(kind):
    def habit(run):
        if kind == "EMA by hand":
            average = copy.deepcopy(run.model).requires_grad_(False)
        else:
            how = {"multi_avg_fn": get_ema_multi_avg_fn(0.8)} if "EMA" in kind else {}
            average = AveragedModel(run.model, use_buffers="buffers" in kind, **how)
        scheduler = SWALR(run.optimiser, swa_lr=LR / 2, anneal_epochs=2)
        for x in [*MLP, *MLP]:
            fresh(run, x)
            run.step()
            if kind == "EMA by hand":
                with torch.no_grad():
                    for mine, p in zip(average.parameters(), run.model.parameters(), strict=True):
                        mine.mul_(0.8).add_(p, alpha=0.2)
            else:
                average.update_parameters(run.model)
            scheduler.step()
            run.note(y=average(x), **{f"averaged {n}": p for n, p in average.named_parameters()})
        if isinstance(run.optimiser, xb.InSituSGD):
            consistent(average)

    assert judged(mlp(), habit) == PULSES


def test_freezing_and_thawing_after_conversion():
    def habit(run):
        first = run.model[0].weight
        for frozen in (False, True, True, False, True):
            first.requires_grad_(not frozen)
            before = plain(first)
            fresh(run, MLP[0])
            assert (first.grad is None) == frozen
            run.step()
            assert torch.equal(before, plain(first)) == frozen
        first.requires_grad_(True)
        fresh(run, MLP[1])
        first.requires_grad_(False)  # between backward and step: torch steps by what is there
        run.step()
        run.model.requires_grad_(False)
        run.note(y=run.model(MLP[2]))
        run.model.requires_grad_(True)
        fresh(run, MLP[2])
        run.step()

    assert judged(mlp(), habit) == PULSES


@pytest.mark.parametrize("verb", ["nothing", "advance", "load_state_dict", "program", "deepcopy"])
def test_frozen_from_birth_then_thawed(verb):
    """Frozen before convert: it stays so over every verb, and learns once it is thawed."""

    def habit(run):
        analog = isinstance(run.optimiser, xb.InSituSGD)
        for frozen in (True, False):
            run.model[0].weight.requires_grad_(not frozen)
            if verb == "load_state_dict":
                run.model.load_state_dict(copy.deepcopy(run.model.state_dict()))
            elif verb == "deepcopy":
                run.model = copy.deepcopy(run.model)
                optimiser = xb.InSituSGD(run.model, LR) if analog else None
                run.optimiser = optimiser or torch.optim.SGD(run.model.parameters(), LR)
            elif verb != "nothing" and analog:
                getattr(xb, verb)(run.model, *([3.0] if verb == "advance" else []))
            assert run.model[0].weight.requires_grad != frozen
            before = plain(run.model[0].weight)
            fresh(run, MLP[0])
            run.step()
            assert torch.equal(before, plain(run.model[0].weight)) == frozen

    digital = mlp()
    digital[0].weight.requires_grad_(False)
    assert judged(digital, habit) == PULSES


@pytest.mark.parametrize("trains", [True, False])
def test_verbs_keep_what_the_user_asked_to_train(trains):
    """Over every mode and back; programmed weights alone ask for no gradient."""
    writeonly = xb.Chip(Device(1e-6, 50e-6))
    digital = mlp()
    digital[0].weight.requires_grad_(trains)
    aware = xb.convert(digital, writeonly, seed=0)
    assert aware[0].weight.requires_grad == trains
    programmed = xb.program(aware)
    assert not programmed[0].weight.requires_grad
    for back in (xb.HardwareAware(), xb.InSitu()):
        model = xb.convert(programmed, xb.Chip(), mode=back)
        assert model[0].weight.requires_grad == trains and model[2].weight.requires_grad
        if isinstance(back, xb.HardwareAware):
            assert xb.program(model)[0].weight.requires_grad == trains
    assert xb.to_digital(xb.convert(programmed, xb.Chip(), mode=back))[0].weight.requires_grad == (
        trains
    )


# ---- one Parameter, several uses -----------------------------------------------------------------


class Uses(nn.Module):
    """A weight of its own that a forward multiplies by in some way."""

    def __init__(self, rows, cols, forward):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, cols) / 3)
        self.bias = nn.Parameter(torch.randn(cols) / 3)
        self.use = forward
        self.double()

    def forward(self, x):
        return self.use(self, x)


def halves(m, x):
    """Chunks of a packed weight, each multiplied by something else."""
    q, k, v = m.weight.chunk(3)
    return F.linear(x, q).tanh() * F.linear(2 * x, k) + F.linear(x.cos(), v)


def tied_ends(m, x):
    """An encoder and its transposed decoder."""
    return F.linear(torch.tanh(F.linear(x, m.weight)), m.weight.T)


USES = {
    "F.linear of w.T": ((6, 4), lambda m, x: F.linear(x, m.weight.T, m.bias)),
    "x @ w": ((6, 4), lambda m, x: x @ m.weight + m.bias),
    "w.mT": ((4, 6), lambda m, x: torch.matmul(x, m.weight.mT)),
    "chunks": ((9, 6), halves),
    "split and cat": (
        (9, 6),
        lambda m, x: torch.cat([F.linear(k * x, w) for k, w in enumerate(m.weight.split(4), 1)], 1),
    ),
    "w[:k]": ((5, 6), lambda m, x: F.linear(x, m.weight[:3]) + F.linear(2 * x, m.weight[2:])),
    "w[:, k:]": ((5, 6), lambda m, x: F.linear(x[:, 2:], m.weight[:, 2:]).tanh()),
    "w[k]": ((5, 6), lambda m, x: x @ m.weight[3]),
    "every second row": ((5, 6), lambda m, x: F.linear(x, m.weight[::2])),
    "unbind": ((5, 6), lambda m, x: torch.stack([x @ row for row in m.weight], -1)),
    "on the left": ((5, 6), lambda m, x: (m.weight @ x.mT).mT),
    "mv": ((5, 6), lambda m, x: torch.stack([m.weight.mv(row) for row in x])),
    "einsum": ((5, 6), lambda m, x: torch.einsum("bi,oi->bo", x, m.weight)),
    "einsum, three": ((6, 5), lambda m, x: torch.einsum("bi,bi,io->ob", x, x.cos(), m.weight)),
    "addmm": ((6, 4), lambda m, x: torch.addmm(m.bias, x, m.weight, beta=0.5, alpha=2.0)),
    "tensordot": ((6, 4), lambda m, x: torch.tensordot(x, m.weight, dims=([1], [0]))),
    "a transposed and a plain use": ((4, 6), tied_ends),
    "a cast": ((5, 6), lambda m, x: F.linear(x, m.weight.double().contiguous())),
    "a view kept before the loop": ((6, 4), lambda m, x: x @ m.__dict__["kept"]),
}


@pytest.mark.parametrize("use", USES, ids=str)
def test_uses_of_a_weight(use):
    def habit(run):
        if "kept" in use:
            run.model.__dict__["kept"] = run.model.weight.T.T
        for x in MLP:
            fresh(run, x)
            run.step()
        run.optimiser.zero_grad()
        for x in MLP:  # several backward passes of several regions
            loss_of(run, x).backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), 0.1)
        run.step()

    shape, forward = USES[use]
    assert judged(Uses(*shape, forward), habit) == PULSES


GATHERED = {
    "rows": lambda w, x: F.linear(x, w[torch.tensor([3, 1, 0, 2])]),
    "columns": lambda w, x: x @ w[:, [3, 1, 0, 2]],
    "repeated": lambda w, x: F.linear(x, w[[0, 0, 1]]),
    "a mask": lambda w, x: F.linear(x, w[torch.tensor([True, False, True, True])]),
    "laid out anew": lambda w, x: F.linear(x, w.T.flatten().view(4, 4)),
    "a part of it": lambda w, x: F.linear(x, w[[3, 1, 0, 2]][:2]),
    "other rows": lambda w, x: F.linear(torch.cat([x, x], -1), w.view(2, 8)),
    "index_select": lambda w, x: F.linear(x, w.index_select(0, torch.tensor([3, 1, 0, 2]))),
    "flipped": lambda w, x: F.linear(x, w.flip(0)),
    "cloned": lambda w, x: F.linear(x, w.clone()),
    "scaled": lambda w, x: x @ (2 * w),
    "masked": lambda w, x: F.linear(x, w.tril()),
    "two of it": lambda w, x: F.linear(x, torch.cat([w, w])),
    "a convolution": lambda w, x: F.conv1d(x[..., None], w[[3, 1, 0, 2]][..., None]),
}


@pytest.mark.parametrize("use", GATHERED, ids=str)
def test_numbers_of_a_weight_that_are_no_part_of_the_array_are_refused(use):
    """Never read as if they lay where the whole weight lies."""
    model = in_situ(Uses(4, 4, lambda m, x: GATHERED[use](m.weight, x)))
    with pytest.raises(
        (TypeError, RuntimeError),
        match=r"no range of the rows and columns of its .*array|on no array",
    ):
        model(batches(1, 4, 4)[0])


def test_rows_that_are_looked_up_are_vectors():
    digital = Uses(4, 4, lambda m, x: m.weight[[0, 2, 2]] @ x + m.weight[1] * m.weight[:3])
    x = batches(1, 4, 4)[0]
    torch.testing.assert_close(plain(in_situ(digital)(x)), plain(digital(x)))


class Memory(nn.Module):
    """Names that dictionaries have too."""

    def __init__(self):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(5, 6) / 3)
        self.values = nn.Parameter(torch.randn(5, 3) / 3)
        self.items = nn.Linear(3, 3)
        self.double()

    def forward(self, x):
        return self.items((x @ self.keys.T).softmax(-1) @ self.values)


def test_parameters_of_any_name():
    def habit(run):
        for x in MLP:
            fresh(run, x)
            run.step()
            run.model = copy.deepcopy(run.model)
            run.optimiser = sgd_of(run, run.model)

    assert judged(Memory(), habit) == PULSES
    model = in_situ(Memory())
    assert list(model.analog) == ["keys", "values"]
    assert model.get_submodule("analog.keys") is model.analog["keys"]


class Conv1D(nn.Module):
    """GPT-2's: the weight is in × out."""

    def __init__(self, out, width):
        super().__init__()
        self.out = out
        self.weight = nn.Parameter(torch.randn(width, out) / 3)
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x):
        y = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return y.view(*x.shape[:-1], self.out)


class Model(nn.Module):
    """Modules, and a forward over them."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.use = forward
        self.double()

    def forward(self, *args):
        return self.use(self, *args)


def twice(m, x):
    return m.b(m.a(x).tanh()) + m.a(x)


def tied_linears():
    model = Model(twice, a=nn.Linear(6, 6), b=nn.Linear(6, 6, bias=False))
    model.b.weight = model.a.weight
    return model, MLP


def tied_embedding():
    model = Model(
        lambda m, ids: m.head(m.body(m.table(ids)).tanh()),
        table=nn.Embedding(7, 5, padding_idx=2),
        body=nn.Linear(5, 5),
        head=nn.Linear(5, 7, bias=False),
    )
    model.head.weight = model.table.weight
    return model, [torch.tensor([[0, 2, 6, 6], [k, k + 1, 3, 0]]) for k in range(3)]


def gpt2():
    model = Model(
        lambda m, x: m.project(m.attend(x).relu()), attend=Conv1D(9, 6), project=Conv1D(3, 9)
    )
    return model, [x.view(2, 2, 6) for x in MLP]


def convolutions():
    model = Model(
        lambda m, x: m.up(m.mid(m.down(x).tanh()).tanh()),
        down=nn.Conv2d(2, 4, 3, stride=2, padding=1),
        mid=nn.Conv2d(4, 4, (1, 3), padding="same", groups=2, bias=False),
        up=nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1),
    )
    return model, batches(3, 3, 2, 6, 6)


def conv1d_user_kernel():
    """Functional convolutions of a Linear's weight, as patch embeddings are written."""
    model = Model(
        lambda m, x: F.conv2d(x, m.patch.weight[..., None, None]).flatten(1),
        patch=nn.Linear(3, 4, bias=False),
    )
    return model, batches(3, 2, 3, 2, 2)


def self_attention():
    model = Model(
        lambda m, x: m.mha(x, x, x, need_weights=False)[0],
        mha=nn.MultiheadAttention(6, 2, batch_first=True),
    )
    return model, batches(3, 2, 4, 6)


def cross_attention():
    model = Model(
        lambda m, x: m.mha(x[:, :2], x, x)[0] + m.mha(x[:, :2], x, x.cos())[0],
        mha=nn.MultiheadAttention(6, 2, batch_first=True),
    )
    return model, batches(3, 2, 4, 6)


def other_widths():
    model = Model(
        lambda m, x: m.mha(x, x[..., :4], x[..., 1:4])[0],
        mha=nn.MultiheadAttention(6, 2, kdim=4, vdim=3, batch_first=True),
    )
    return model, batches(3, 2, 4, 6)


def transformer():
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    return Model(lambda m, x: m.layer(x), layer=layer), batches(3, 2, 4, 6)


def channels_last():
    model = Model(
        lambda m, x: m.two(m.one(x).tanh()), one=nn.Conv2d(2, 4, 3), two=nn.Conv2d(4, 2, 2)
    )
    inputs = [x.to(memory_format=torch.channels_last) for x in batches(3, 3, 2, 6, 6)]
    return model.to(memory_format=torch.channels_last), inputs


def other_strides():
    model = Model(lambda m, x: m.two(m.one(x).tanh()), one=nn.Linear(6, 5), two=nn.Linear(5, 2))
    model.one.weight = nn.Parameter(torch.randn(6, 5, dtype=torch.float64).T)
    return model, MLP


MODELS = [
    tied_linears,
    channels_last,
    other_strides,
    tied_embedding,
    gpt2,
    convolutions,
    conv1d_user_kernel,
    self_attention,
    cross_attention,
    other_widths,
    transformer,
]


@pytest.mark.parametrize("made", MODELS, ids=lambda m: m.__name__)
def test_models(made):
    model, inputs = made()

    def habit(run):
        for x in inputs:
            fresh(run, x)
            run.step()
        run.optimiser.zero_grad()
        for x in inputs:
            loss_of(run, x).backward()
        run.step()

    assert judged(model, habit, lr=0.1) == PULSES


# ---- copies, files, other Parameters under the name ----------------------------------------------


def sgd_of(run, model):
    """A new optimiser of the same kind."""
    if isinstance(run.optimiser, xb.InSituSGD):
        return xb.InSituSGD(model, LR)
    return torch.optim.SGD(model.parameters(), LR)


def test_deepcopy_between_backward_and_step():
    """torch copies no .grad, so the copy has nothing to apply; the original still has."""

    def habit(run):
        fresh(run, MLP[0])
        twin = copy.deepcopy(run.model)
        other = sgd_of(run, twin)
        assert all(p.grad is None for p in twin.parameters())
        other.step()
        run.note(**{f"copied {n}": p for n, p in twin.named_parameters()})
        run.step()
        twin(MLP[1]).square().mean().backward()
        other.step()
        run.note(**{f"copy's {n}": p for n, p in twin.named_parameters()})
        run.note(**dict(run.model.named_parameters()))

    assert judged(mlp(), habit) == PULSES


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


def through_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_file])
def test_a_copy_goes_on_training_where_the_original_stood(copied):
    def habit(run):
        for x in MLP:
            fresh(run, x)
            run.step()
            fresh(run, 2 * x)  # what no copy takes along
            run.model = copied(run.model)
            run.optimiser = sgd_of(run, run.model)
            run.note(y=run.model(x))

    assert judged(mlp(), habit) == PULSES


def test_tied_parameters_stay_tied_in_copies_and_files():
    model, inputs = tied_linears()

    def habit(run):
        for copied in (copy.deepcopy, through_pickle, through_file):
            run.model = copied(run.model)
            assert run.model.a.weight is run.model.b.weight
            run.optimiser = sgd_of(run, run.model)
            for x in inputs:
                fresh(run, x)
                run.step()

    assert judged(model, habit) == PULSES


@pytest.mark.parametrize("assign", [False, True])
def test_loading_between_steps(assign):
    def habit(run):
        start = copy.deepcopy(run.model.state_dict())
        for x in MLP:
            fresh(run, x)
            run.step()
            fresh(run, 2 * x)

            run.model.load_state_dict(copy.deepcopy(start), assign=assign)
            if assign:
                run.optimiser = sgd_of(run, run.model)
            run.optimiser.zero_grad()
            run.note(**dict(run.model.named_parameters()))
            fresh(run, x + 1)
            run.step()

    assert judged(mlp(), habit) == PULSES


def test_entries_of_weights_that_a_checkpoint_replaced_are_not_pulsed():
    """torch keeps .grad over a load: what is stepped then are its numbers."""

    def habit(run):
        start = copy.deepcopy(run.model.state_dict())
        fresh(run, MLP[0])
        run.step()
        fresh(run, MLP[0])
        run.model.load_state_dict(start)
        run.step()

    assert judged(mlp(), habit) == PULSES | NUMBERS


@pytest.mark.parametrize("grad", [True, False])
def test_another_parameter_under_the_name(grad):
    def habit(run):
        fresh(run, MLP[0])
        run.step()
        run.model[0].weight = nn.Parameter(torch.full((5, 6), 0.1).double(), requires_grad=grad)
        run.optimiser = sgd_of(run, run.model)
        for x in MLP:
            fresh(run, x)
            run.step()

    assert judged(mlp(), habit) == PULSES


def test_a_module_in_another_model_and_a_parameter_of_no_model():
    def habit(run):
        torch.manual_seed(3)
        scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
        outer = nn.ModuleDict({"net": run.model, "more": nn.Linear(3, 3, bias=False).double()})
        run.optimiser = sgd_of(run, outer)
        run.optimiser.add_param_group({"params": [scale]})
        for x in MLP:
            run.optimiser.zero_grad()
            outer["more"](run.model(x) * scale).square().sum().backward()
            run.step()
            run.note(scale=scale, more=outer["more"].weight)

    assert judged(mlp(), habit) == PULSES


# ---- derivatives of derivatives, functional calls ------------------------------------------------


def test_gradient_penalty_in_situ():
    def habit(run):
        for x in MLP:
            x = x.clone().requires_grad_()
            run.optimiser.zero_grad()
            y = run.model(x).square().sum()
            (g,) = torch.autograd.grad(y, x, create_graph=True)
            run.note(by_x=g)
            (y + g.square().sum()).backward()
            run.step()

    seen = judged(mlp(), habit)
    assert seen <= PULSES | NUMBERS and seen


@pytest.mark.parametrize("made", ["convolutions", "cross_attention"])
def test_gradient_penalty_of_other_layers_in_situ(made):
    model, inputs = globals()[made]()

    def habit(run):
        for x in inputs:
            x = x.clone().requires_grad_()
            run.optimiser.zero_grad()
            y = run.model(x).square().sum()
            (g,) = torch.autograd.grad(y, x, create_graph=True)
            run.note(by_x=g)
            (y + g.square().sum()).backward()
            run.step()

    judged(model, habit, lr=1e-3)


def test_hessian_vector_products_in_situ():
    def habit(run):
        v = [torch.randn_like(p) for p in run.model.parameters()]
        params = list(run.model.parameters())
        for x in MLP:
            gs = torch.autograd.grad(loss_of(run, x), params, create_graph=True)
            hv = torch.autograd.grad(gs, params, grad_outputs=[plain(t) for t in v])
            run.note(**{f"grad {k}": h for k, h in enumerate(hv)})
            x = x.clone().requires_grad_()
            (g,) = torch.autograd.grad(loss_of(run, x), x, create_graph=True)
            run.note(grad_x=torch.autograd.grad(g, x, torch.ones_like(x))[0])
            fresh(run, x)
            run.step()

    assert judged(mlp(), habit) == PULSES


def test_func_grad_of_weights_and_cells_together():
    digital = mlp()
    twin = in_situ(digital)
    x = MLP[0]

    def loss(model, params, buffers):
        return functional_call(model, (params, buffers), (x,)).square().sum()

    want = grad(lambda p: loss(digital, p, {}))(dict(digital.named_parameters()))
    buffers = dict(twin.named_buffers())
    got = grad(lambda p: loss(twin, p, buffers))(dict(twin.named_parameters()))
    for name, g in want.items():
        torch.testing.assert_close(plain(got[name]), g, rtol=1e-10, atol=1e-10)
    by_x = grad(lambda x: twin(x).square().sum())(x)
    torch.testing.assert_close(
        by_x, grad(lambda x: digital(x).square().sum())(x), rtol=1e-10, atol=1e-10
    )
    before = plain(twin[0].weight)
    SEEN.clear()
    xb.InSituSGD(twin, LR).step()  # functional gradients train nothing
    assert torch.equal(before, plain(twin[0].weight)) and not SEEN


@pytest.mark.parametrize("mode", [xb.InSitu(xb.Expected()), xb.Programmed()], ids=repr)
def test_three_chips_under_vmap(mode):
    digital = [mlp() for _ in range(3)]
    for k, model in enumerate(digital):
        nn.utils.vector_to_parameters(
            torch.randn(53, dtype=torch.float64) * (k + 1), model.parameters()
        )
    chips = [xb.convert(m, xb.Chip(), mode=mode, seed=k) for k, m in enumerate(digital)]
    x = MLP[0]
    params, buffers = stack_module_state(chips)
    got = vmap(lambda p, b: functional_call(chips[0], (p, b), (x,)))(params, buffers)
    for y, model in zip(got, digital, strict=True):
        torch.testing.assert_close(y, model(x), rtol=1e-9, atol=1e-9)

    def by_x(p, b):
        return grad(lambda x: functional_call(chips[0], (p, b), (x,)).square().sum())(x)

    for g, model in zip(vmap(by_x)(params, buffers), digital, strict=True):
        want = grad(lambda x, m=model: m(x).square().sum())(x)
        torch.testing.assert_close(g, want, rtol=1e-9, atol=1e-9)
    if isinstance(mode, xb.Programmed):
        return

    def by_w(p, b):
        return grad(lambda p: functional_call(chips[0], (p, b), (x,)).square().sum())(p)

    found = vmap(by_w)(params, buffers)
    functional_call_backward = vmap(
        lambda p, b: functional_call(chips[0], (p, b), (x,)).square().sum()
    )
    functional_call_backward(params, buffers).sum().backward()
    for k, model in enumerate(digital):
        model(x).square().sum().backward()
        for name, p in model.named_parameters():
            torch.testing.assert_close(plain(found[name][k]), p.grad, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(plain(params[name].grad[k]), p.grad, rtol=1e-9, atol=1e-9)


def test_per_sample_gradients():
    digital, x = mlp(), MLP[0]
    twin = in_situ(digital)

    def each(model):
        params = {k: plain(v) for k, v in model.named_parameters()}

        def loss(p, row):
            return functional_call(model, p, (row,)).square().sum()

        return vmap(grad(loss), (None, 0))(params, x)

    got, want = each(twin), each(digital)
    for name in want:
        torch.testing.assert_close(plain(got[name]), want[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mode", [xb.InSitu(), xb.Programmed()], ids=repr)
def test_other_weights_without_their_cells_are_refused(mode):
    model = xb.convert(mlp(), xb.Chip(), mode=mode, seed=0)
    other = {k: 2 * plain(v) for k, v in model.named_parameters()}
    with pytest.raises(TypeError, match="functional_call gives the weight other values"):
        functional_call(model, other, (MLP[0],))
    with pytest.raises(TypeError, match="functional_call gives the weight other values"):
        stacked = {k: torch.stack([v, 2 * v]) for k, v in other.items()}
        vmap(lambda p: functional_call(model, p, (MLP[0],)))(stacked)
    own = {k: plain(v) for k, v in model.named_parameters()}
    assert torch.equal(functional_call(model, own, (MLP[0],)), model(MLP[0]))
    only = {"0.bias": torch.ones(5, dtype=torch.float64)}
    assert not torch.equal(functional_call(model, only, (MLP[0],)), model(MLP[0]))
