"""Products of vectors with a weight, and lookups in it."""

from __future__ import annotations

import string
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crossbar.carried.analog import Analog, is_copy, part, parts, product, read, unread
from crossbar.carried.experts import stacked, taken
from crossbar.operations import Matmul

MATMUL = Matmul()


def digital(t: Any) -> Any:
    """A tensor as itself; of two analog weights in one product the second is read digitally."""
    return t.as_subclass(Tensor) if isinstance(t, Analog) else t


@product(F.linear, "aten::linear")
def _linear(input: Tensor, weight: Any, bias: Tensor | None = None) -> Any:  # noqa: A002
    if not isinstance(weight, Analog):
        return NotImplemented
    if weight.dim() == 1:
        cells = parts(weight)[2]
        y = _rows(digital(input), weight, cells.unsqueeze(0)).squeeze(-1)
    else:
        if not input.dim() or input.shape[-1] != weight.shape[-1]:
            raise ValueError(
                f"input must have {weight.shape[-1]} features in its last dimension, got shape "
                f"{tuple(input.shape)}"
            )
        if weight.analog.untouched and type(weight) is Analog and input.dtype == weight.dtype:
            return weight.analog.finished(MATMUL, input, F.linear(digital(input), weight, bias))
        y = read(digital(input), weight, MATMUL)
    if bias is None:
        return y
    return y + (bias if bias.dtype == y.dtype else bias.to(y.dtype))


def _rows(x: Tensor, w: Any, cells: Tensor | None = None) -> Tensor:
    """x (..., in) by a handle read as torch reads a weight, out × in."""
    if cells is not None and cells.dim() != w.dim():
        analog, root, _ = parts(w)
        return analog.read(x, w.unsqueeze(0), root, part(w, cells, MATMUL), MATMUL)
    return read(x, w, MATMUL, cells=cells)


def _by(x: Tensor, w: Any) -> Any:
    """x @ w for a handle w on the right."""
    if is_copy(w) and w.taken is not None:
        return taken(x, w)
    handle, (analog, root, cells) = w, parts(w)
    if w.dim() == 1:  # a sum with one row or column of the weight
        view, own = w.unsqueeze(0), cells.unsqueeze(0)
        region = part(handle, own, MATMUL)
        return analog.read(x, view, root, region, MATMUL).squeeze(-1)
    lead = [n for n in range(w.dim() - 2) if w.shape[n] != 1 and cells.stride(n) != 0]
    if lead:
        return stacked(x, w)
    if w.dim() > 2:  # a weight expanded over a batch
        first = (0,) * (w.dim() - 2)
        shape = torch.broadcast_shapes(x.shape[:-2], w.shape[:-2]) if x.dim() > 1 else w.shape[:-2]
        x = x.expand(*shape, *x.shape[-2:]) if x.dim() > 1 else x.expand(*shape, *x.shape)
        w, cells = w[first], cells[first]
    region = part(handle, cells.mT, MATMUL)
    return analog.read(x, w.mT, root, region, MATMUL)


def _matmul(a: Any, b: Any) -> Any:
    if isinstance(b, Analog):
        return _by(digital(a), b)
    if isinstance(a, Analog) and is_copy(a) and a.taken is not None:
        return taken(digital(b).mT, a, left=True).mT
    if not isinstance(a, Analog) or is_copy(a):  # of looked-up rows: vectors, not a weight
        return NotImplemented
    handle, (analog, root, cells) = a, parts(a)
    if b.dim() == 1:
        if a.dim() == 1:
            return _by(digital(b), a)
        if a.dim() != 2:
            return stacked(digital(b), a, left=True)
        region = part(handle, cells, MATMUL)
        return analog.read(digital(b), a, root, region, MATMUL)
    if a.dim() == 1:
        return _by(digital(b).mT, a)
    if a.dim() > 2 and any(a.shape[n] != 1 and cells.stride(n) for n in range(a.dim() - 2)):
        return stacked(digital(b).mT, a, left=True).mT
    if a.dim() > 2:  # a weight expanded over a batch
        first = (0,) * (a.dim() - 2)
        shape = torch.broadcast_shapes(b.shape[:-2], a.shape[:-2])
        b = b.expand(*shape, *b.shape[-2:])
        a, cells = a[first], cells[first]
    region = part(handle, cells, MATMUL)
    return analog.read(digital(b).mT, a, root, region, MATMUL).mT


@product(torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.linalg.matmul)
@product(torch.mm, Tensor.mm, torch.mv, Tensor.mv, "aten::mm", "aten::mv", "aten::matmul")
@product(torch.sparse.mm)
def _product(input: Any, other: Any = None, **kwargs: Any) -> Any:  # noqa: A002
    # torch.spmm and torch.dsmm equal torch.mm: one key of a dict, by the name that users call
    other = next(iter(kwargs.values())) if other is None and kwargs else other
    return _matmul(input, other)


@product(torch.bmm, Tensor.bmm, "aten::bmm")
def _batched(input: Any, mat2: Any) -> Any:  # noqa: A002
    return _matmul(input, mat2)


@product(Tensor.__rmatmul__)
def _product_right(self: Any, other: Any) -> Any:
    try:
        return _matmul(other, self)
    except TypeError as error:  # which `@` would take for "not mine", and say nothing of why
        raise RuntimeError(str(error)) from error


@product(torch.dot, Tensor.dot, torch.inner, Tensor.inner, torch.vdot, Tensor.vdot)
@product("aten::dot", "aten::inner", "aten::vdot")
def _inner(input: Any, other: Any) -> Any:  # noqa: A002
    if not isinstance(other, Analog):
        input, other = other, input  # noqa: A001
    if other.dim() == 1:
        return _by(digital(input), other)
    if other.dim() == 2:
        return _rows(digital(input), other)
    raise unread("an inner product with a stack of matrices")


@product(torch.addmm, Tensor.addmm, torch.addmv, Tensor.addmv, torch.baddbmm, Tensor.baddbmm)
@product("aten::addmm", "aten::addmv", "aten::baddbmm", torch.sparse.addmm)
def _addmm(input: Any, *factors: Any, beta: Any = 1, alpha: Any = 1, **named: Any) -> Any:  # noqa: A002
    return _added(input, _matmul(*factors, *named.values()), beta, alpha)


@product(torch.addbmm, Tensor.addbmm, "aten::addbmm")
def _addbmm(input: Any, *factors: Any, beta: Any = 1, alpha: Any = 1, **named: Any) -> Any:  # noqa: A002
    y = _matmul(*factors, *named.values())
    return y if y is NotImplemented else _added(input, y.sum(0), beta, alpha)


def _added(to: Any, y: Any, beta: Any, alpha: Any) -> Any:
    if y is NotImplemented:
        return y
    y = y if alpha == 1 else y * alpha
    if beta == 0:  # whatever is not a number there is ignored
        return y.expand(torch.broadcast_shapes(to.shape, y.shape))
    added = digital(to)
    return y + (added if beta == 1 else added * beta).to(y.dtype)


@product(torch.chain_matmul)
def _chained(*matrices: Any) -> Any:
    return _chain(matrices)


@product(torch.linalg.multi_dot)
def _chain(tensors: Any) -> Any:
    """From an end that is no weight: two weights in a row have no product on arrays."""
    tensors, back = list(tensors), False
    if isinstance(tensors[0], Analog):
        tensors, back = tensors[::-1], True
    total = tensors[0]
    if isinstance(total, Analog):
        raise unread("a product of analog weights with each other")
    for each in tensors[1:]:
        pair = (each, total) if back else (total, each)
        found = _matmul(*pair)
        total = torch.matmul(*pair) if found is NotImplemented else found
    return total


@product(torch.einsum, "aten::einsum")
def _einsum(equation: Any, *operands: Any) -> Any:
    """Sums over one weight: its dimensions that the others share, and those it brings.

    The first of three counts the matrices of a stack: each meets its own vectors, or all of them.
    """
    if not isinstance(equation, str):
        return NotImplemented
    operands = tuple(operands[0]) if isinstance(operands[0], (list, tuple)) else operands
    which = [k for k, t in enumerate(operands) if isinstance(t, Analog) and not is_copy(t)]
    if not which or len(which) == len(operands):  # no weight; or a function of weights alone
        return NotImplemented
    if len(which) > 1:
        raise unread(f"einsum {equation!r} of several analog weights")
    inputs, _, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    k = which[0]
    mine, w = terms[k], operands[k]
    if not output and "->" not in equation:
        letters = "".join(terms).replace(".", "")
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
        output = ("..." if "..." in inputs else "") + output
    if len(mine) not in (2, 3) or len(set(mine)) < len(mine) or "." in mine or w.dim() != len(mine):
        raise unread(f"einsum {equation!r}")
    others = [term for j, term in enumerate(terms) if j != k]
    rest = [digital(t) for j, t in enumerate(operands) if j != k]
    elsewhere, lines = "".join(others), mine[-2:]
    summed = [c for c in lines if c in elsewhere and c not in output]
    brought = [c for c in lines if c not in elsewhere and c in output]
    if summed and not brought and "." not in equation and len(mine) == 2:
        return _between(equation, terms, k, operands, output, summed[0])
    if len(summed) != 1 or len(brought) != 1:
        raise unread(f"einsum {equation!r}")
    (i,), (o,) = summed, brought
    # the others alone, with the summed index last; then one product; then the order asked for
    own = mine[:-2]  # of a stack: which of its matrices
    met = "".join(dict.fromkeys(elsewhere.replace(".", "")))
    kept = "".join(c for c in met if c not in i + own and c in output)
    dots = "..." if "..." in elsewhere else ""
    if not own:
        x = torch.einsum(f"{','.join(others)}->{dots}{kept}{i}", *rest)
        y = _turned(x, w, mine == o + i)
        return torch.einsum(f"{dots}{kept}{o}->{output}", y)
    each = own if own in elsewhere else ""  # else every matrix multiplies them all
    if not each and own not in output:
        raise unread(f"einsum {equation!r}")
    x = torch.einsum(f"{','.join(others)}->{each}{dots}{kept}{i}", *rest)
    x = x if each else x.unsqueeze(0)
    y = stacked(x.flatten(1, -2) if x.dim() > 2 else x.unsqueeze(1), w, left=lines == o + i)
    y = y.unflatten(1, x.shape[1:-1]) if x.dim() > 2 else y.squeeze(1)
    return torch.einsum(f"{own}{dots}{kept}{o}->{output}", y)


def _between(equation: str, terms: list[str], k: int, operands: Any, output: str, i: str) -> Any:
    """A weight whose indices are both those of others, as of a bilinear form bqd,de,bke->bqk.

    It is read once, by those that hold `i`; the rest multiplies what comes out.
    """
    mine, w = terms[k], operands[k]
    pairs = [
        (term, digital(t))
        for j, (term, t) in enumerate(zip(terms, operands, strict=True))
        if j != k
    ]
    if any(set(mine) <= set(term) for term, _ in pairs):  # elementwise: no product
        raise unread(f"einsum {equation!r}")
    o = mine[mine[0] == i]
    before, after = ([p for p in pairs if (i in p[0]) is holds] for holds in (True, False))
    ahead = "".join(term for term, _ in after) + output
    kept = "".join(dict.fromkeys(c for term, _ in before for c in term if c != i and c in ahead))
    x = torch.einsum(f"{','.join(t for t, _ in before)}->{kept}{i}", *(t for _, t in before))
    y = _turned(x, w, mine == o + i)
    last = ",".join([kept + o, *(t for t, _ in after)])
    return torch.einsum(f"{last}->{output}", y, *(t for _, t in after))


def _turned(x: Tensor, w: Any, as_linear: bool) -> Tensor:
    analog, root, cells = parts(w)
    view, own = (w, cells) if as_linear else (w.mT, cells.mT)
    return analog.read(x, view, root, part(w, own, MATMUL), MATMUL)


@product(torch.tensordot)
def _tensordot(a: Any, b: Any, dims: Any = 2, out: Any = None) -> Any:
    """By einsum, where one index of a two-dimensional weight is summed."""
    if isinstance(dims, int):
        left = list(range(a.dim() - dims, a.dim()))
        right = list(range(dims))
    else:
        left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    left = [d % a.dim() for d in left]
    right = [d % b.dim() for d in right]
    letters = iter(string.ascii_letters)
    mine = [next(letters) for _ in range(a.dim())]
    theirs = [next(letters) for _ in range(b.dim())]
    for m, n in zip(left, right, strict=True):
        theirs[n] = mine[m]
    kept = [c for c in mine if c not in theirs] + [c for c in theirs if c not in mine]
    return _einsum(f"{''.join(mine)},{''.join(theirs)}->{''.join(kept)}", a, b)


@product(F.embedding)
def _embedding(
    input: Tensor,  # noqa: A002
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """A table that is tied to an analog weight: its rows are columns of the array."""
    if not isinstance(weight, Analog):
        return NotImplemented
    analog, root, cells = parts(weight)
    if scale_grad_by_freq or sparse or cells is not root:
        raise TypeError(
            f"{analog.name}: scale_grad_by_freq, sparse and parts of a table have no meaning for "
            "one on arrays"
        )
    if max_norm is not None:
        if analog.mode.written:
            raise TypeError(f"{analog.name}: max_norm would write cells in every forward")
        with torch.no_grad():
            torch.embedding_renorm_(root.detach(), input.flatten(), max_norm, norm_type)
    return analog.lookup(input, weight, padding_idx)
