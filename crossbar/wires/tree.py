"""Exact solution of an array with wire resistance by joining blocks of cells.

A block of cells is known by its ports alone. Each of its lines enters at a near port, with a given
voltage, and leaves at a far port, with a given current (see `lines` for the orientation); the block
answers with the near currents and the far voltages,

    (i_near, v_far) = H (v_near, i_far),     H = [[Y, N], [Nᵀ, −Z]],

symmetric by reciprocity, Y and Z positive semidefinite. Given this way round, no wire resistance
is ever divided by: r = 0 and g = 0 are ordinary numbers, and nothing cancels when r g is small.
Two blocks A, B in a row share s lines: the far ports of A are the near ports of B,

    v = v_A − Z i,  i = i_B + Y v   =>   i = K (i_B + Y v_A),  v = Kᵀ (v_A − Z i_B),
    K = (1 + Y Z)⁻¹,

where Z of A, Y of B, and 1 + Y Z has eigenvalues >= 1. Joining all blocks of a level at once is a
handful of batched matrix products, and log₂(rows·cols) levels lead from small leaves to the whole
array: O(N³) work for an N × N array, all of it in large products, O(N²) memory per level.
(A nested dissection, George, SIAM J. Numer. Anal. 10, 345 (1973), doi:10.1137/0710032, whose
fronts are the merged operators of Martinsson, J. Comput. Phys. 242, 460 (2013),
doi:10.1016/j.jcp.2013.02.019.) The joints are kept: with them any set of terminal voltages and
cell current sources is solved in O(N² log N), upwards for the sources, downwards for the ports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad as fill

from crossbar.wires.lines import Circuit, identity

LARGEST_LEAF = 7
"""Sides of a leaf are 1 to 7 cells, whichever pads the array least."""


Group = tuple[slice, slice, slice]  # the same ports in the child, the joined block and c


class Joint(NamedTuple):
    """How a level of blocks was joined: what the interface currents and voltages follow from."""

    family: int  # 0: along the wordlines, 1: along the bitlines
    before: int  # ports of A, as many as of B
    after: int  # ports of the joined block
    kept: tuple[list[Group], list[Group]]  # ports that A and B keep
    face: tuple[slice, slice]  # far ports of A, near ports of B
    ca: Tensor  # (..., s, ports of A left) far voltages of A
    cb: Tensor  # (..., s, ports of B left) near currents of B
    k: Tensor  # (..., s, s)
    ky: Tensor  # (..., s, s)
    zk: Tensor  # (..., s, s)

    def inner(self, va: Tensor, ib: Tensor) -> tuple[Tensor, Tensor]:
        """Currents and voltages of the interface where it sees v_A and i_B."""
        return self.ky @ va + self.k @ ib, self.k.mT @ va - self.zk @ ib


class Leaf(NamedTuple):
    """The response of the smallest blocks."""

    c: Tensor  # (M, N, cells, ports) cell voltages of a block without cells, per port
    drop: Tensor  # (M, N, cells, cells) [ohm]
    d: Tensor  # (T, M, N, cells, cells) (1 + g R)⁻¹
    y: Tensor  # (T, M, N, cells, cells) (1 + g R)⁻¹ g [S]


def split(size: int) -> tuple[int, int]:
    """(leaf side, number of doublings) that cover `size` with the least padding."""
    sides = range(1, LARGEST_LEAF + 1)
    each = ((side, max(0, (-(-size // side) - 1).bit_length())) for side in sides)
    return min(each, key=lambda choice: (choice[0] << choice[1], abs(choice[0] - 4)))


def _slices(sizes: Sequence[int]) -> list[slice]:
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _half(part: slice, second: bool) -> slice:
    middle = (part.start + part.stop) // 2
    return slice(middle, part.stop) if second else slice(part.start, middle)


def _groups(
    family: int, before: Sequence[int], after: Sequence[int]
) -> tuple[list[Group], list[Group]]:
    """Where the ports that A and B keep lie; ports are near rows, near cols, far rows, far cols."""
    other, old, new = 1 - family, _slices(before), _slices(after)
    low, high = ([(old[k], _half(new[k], up)) for k in (other, 2 + other)] for up in (False, True))
    a = [(old[family], new[family]), *low]
    b = [high[0], (old[2 + family], new[2 + family]), high[1]]

    def placed(pairs: list[tuple[slice, slice]]) -> list[Group]:
        at = _slices([target.stop - target.start for _, target in pairs])
        both = zip(pairs, at, strict=True)
        return [(source, target, c) for (source, target), c in both if c.stop > c.start]

    return placed(a), placed(b)


def _pair(blocks: Tensor, family: int) -> tuple[Tensor, Tensor]:
    """Neighbouring blocks along a family; blocks (T, M, N, ., .)."""
    if family == 0:
        return blocks[:, :, 0::2], blocks[:, :, 1::2]
    return blocks[:, 0::2], blocks[:, 1::2]


def _unpair(a: Tensor, b: Tensor, family: int) -> Tensor:
    dim = 2 - family
    return torch.stack((a, b), dim + 1).flatten(dim, dim + 1)


def _join(
    h: Tensor, family: int, before: tuple[int, ...], last: bool
) -> tuple[Tensor, tuple[int, ...], Joint]:
    """Join neighbouring blocks; `last`: B ends at an open edge, where no current leaves.

    The joined blocks, the sizes of their port groups and the joint.
    """
    other = 1 - family
    after = [0, 0, 0, 0]
    after[family], after[2 + family] = before[family], 0 if last else before[2 + family]
    after[other], after[2 + other] = 2 * before[other], 2 * before[2 + other]
    in_a, in_b = _groups(family, before, after)
    a, b = _pair(h, family)
    far, near = _slices(before)[2 + family], _slices(before)[family]
    ca = torch.cat([a[..., far, source] for source, _, _ in in_a], -1)
    cb = torch.cat([b[..., near, source] for source, _, _ in in_b], -1)
    z, y = -a[..., far, far], b[..., near, near]
    k = torch.linalg.inv(identity(before[family], y) + y @ z)
    ky, zk, kcb = k @ y, z @ k, k @ cb
    aa, ab, bb = ca.mT @ (ky @ ca), ca.mT @ kcb, cb.mT @ (z @ kcb)
    joined = h.new_empty(*aa.shape[:-2], sum(after), sum(after))
    for source, to, at in in_a:
        for source2, to2, at2 in in_a:
            torch.add(a[..., source, source2], aa[..., at, at2], out=joined[..., to, to2])
        for _, to2, at2 in in_b:
            joined[..., to, to2] = ab[..., at, at2]
            joined[..., to2, to] = ab[..., at, at2].mT
    for source, to, at in in_b:
        for source2, to2, at2 in in_b:
            torch.sub(b[..., source, source2], bb[..., at, at2], out=joined[..., to, to2])
    ports, kept, face = (sum(before), sum(after)), (in_a, in_b), (far, near)
    return joined, tuple(after), Joint(family, *ports, kept, face, ca, cb, k, ky, zk)


class Tree:
    """The factored circuit of a stack of equal arrays with ohmic cells.

    Args:
        g: conductances (T, rows, cols), float64 [S], in canonical orientation.
        wires: the lines.
        floating: which rows, which columns are disconnected at both ends (boolean vectors).
        keep: keep what `solve` needs, about 70 numbers a cell; without it only `admittance` works.
    """

    def __init__(
        self,
        g: Tensor,
        wires: Circuit,
        floating: tuple[Tensor, Tensor] | None = None,
        keep: bool = True,
    ) -> None:
        self.rows, self.cols = g.shape[-2:]
        (p, down), (q, right) = split(self.rows), split(self.cols)
        self.side = (p, q)
        self.blocks = (1 << down, 1 << right)
        pad = (self.blocks[1] * q - self.cols, self.blocks[0] * p - self.rows)
        self.padding = (0, pad[0], 0, pad[1])
        rho, sigma = fill(wires.rows.r, (0, pad[0])), fill(wires.cols.r, (0, pad[1]))
        leaf, h = self._leaves(fill(g, self.padding), rho, sigma)
        if keep:
            self.leaf = leaf
        del leaf
        self.joints: list[Joint] = []
        sizes: tuple[int, ...] = (p, q, p, q)
        while h.shape[1] * h.shape[2] > 1:
            family = 0 if h.shape[2] > 1 and (sizes[1] <= sizes[0] or h.shape[1] == 1) else 1
            open_end = (wires.rows if family == 0 else wires.cols).far is None
            h, sizes, joint = _join(h, family, sizes, open_end and h.shape[2 - family] == 2)
            if keep:
                self.joints.append(joint)
        self.root = h[:, 0, 0]  # (T, ports, ports)
        self.sizes = sizes
        self._close(wires, floating)

    def _leaves(self, g: Tensor, rho: Tensor, sigma: Tensor) -> tuple[Leaf, Tensor]:
        (p, q), (tall, wide) = self.side, self.blocks
        # blocks above each other have the same wordline segments, blocks side by side bitline ones
        along, up = rho.view(wide, q).cumsum(-1), sigma.view(tall, p).cumsum(-1)
        in_row, in_col = identity(p, g), identity(q, g)
        row = torch.minimum(along[:, :, None], along[:, None, :])
        col = torch.minimum(up[:, :, None], up[:, None, :])
        drop = (in_row[:, None, :, None] * row[:, None, :, None, :]).reshape(wide, p * q, -1)
        bits = col[:, :, None, :, None] * in_col[None, :, None, :]
        drop = drop + bits.reshape(tall, 1, p * q, -1)
        near_row = in_row[:, None, :].expand(p, q, p)
        near_col = in_col[None, :, :].expand(p, q, q)
        far_row = -along[:, None, :, None] * near_row
        far_col = -up[:, :, None, None] * near_col
        shape = (tall, wide, p, q)
        parts = (near_row, near_col, far_row, far_col[:, None])
        c = torch.cat([part.expand(*shape, -1) for part in parts], -1).flatten(2, 3)
        cells = self._cells(g)
        d = torch.linalg.inv((cells[..., None] * drop).add_(identity(p * q, g)))
        y = d * cells[..., None, :]
        h = c.mT @ (y @ c)
        near = torch.arange(p + q, device=g.device)
        far = near + p + q
        h[..., near, far] += 1
        h[..., far, near] += 1
        ends = along[:, -1:].expand(tall, wide, p), up[:, None, -1:].expand(tall, wide, q)
        h[..., far, far] -= torch.cat(ends, -1)
        return Leaf(c, drop, d, y), h

    def _cells(self, x: Tensor) -> Tensor:
        """(T, rows, cols, ...) as blocks (T, M, N, cells, ...)."""
        (p, q), (tall, wide) = self.side, self.blocks
        x = x.reshape(len(x), tall, p, wide, q, *x.shape[3:])
        return x.transpose(2, 3).flatten(3, 4)

    def _array(self, x: Tensor) -> Tensor:
        """Blocks (T, M, N, cells, k) as (T, k, rows, cols) without the padding."""
        (p, q), (tall, wide) = self.side, self.blocks
        x = x.unflatten(3, (p, q)).transpose(2, 3).reshape(len(x), tall * p, wide * q, -1)
        return x[:, : self.rows, : self.cols].permute(0, 3, 1, 2)

    def _close(self, wires: Circuit, floating: tuple[Tensor, Tensor] | None) -> None:
        """The port values that no terminal fixes: far currents and voltages of floating lines.

        A far port is held at its line's voltage behind `far`; a floating line carries no current.
        """
        root, groups = self.root, _slices(self.sizes)
        near = self.sizes[0] + self.sizes[1]
        fixed = torch.zeros(len(root[0]), dtype=torch.bool, device=root.device)
        fixed[:near] = True
        shunt = root.new_zeros(len(fixed))
        #: terminal at whose voltage each far port is held
        self.held = torch.zeros(len(fixed) - near, dtype=torch.long, device=root.device)
        terminals = torch.arange(near, device=root.device)
        dead = torch.zeros_like(fixed)  # far ports without a current: open ends, floating lines
        for family, lines in enumerate((wires.rows, wires.cols)):
            second = groups[2 + family]
            if lines.far is None:
                dead[second] = True
            else:
                shunt[second] = lines.far
                self.held[second.start - near : second.stop - near] = terminals[groups[family]]
        if floating is not None:
            for family, mask in enumerate(floating):
                lines_off = mask.nonzero()[:, 0]
                fixed[groups[family].start + lines_off] = False
                if self.sizes[2 + family]:
                    dead[groups[2 + family].start + lines_off] = True
        self.near = near
        #: the ports of the array's own lines, padding left out
        self.terminals = torch.cat(
            (terminals[: self.rows], terminals[self.sizes[0] :][: self.cols])
        )
        self.fixed = fixed.nonzero()[:, 0]
        self.loose = (~fixed & ~dead).nonzero()[:, 0]
        self.loose_inverse: Tensor | None = None
        if len(self.loose):
            system = root[:, self.loose][:, :, self.loose]
            system = system - torch.diag(shunt[self.loose])
            #: a floating line without a conducting cell holds no voltage of its own
            lonely = system.diagonal(dim1=-2, dim2=-1) == 0
            system = system + torch.diag_embed(lonely.to(system))
            self.loose_inverse = torch.linalg.inv(system)

    def ports(self, terminals: Tensor, sources: Tensor | None = None) -> Tensor:
        """Port values (T, ports, k) of near terminal voltages (T, near, k) and source responses."""
        ports = terminals.new_zeros(len(terminals), len(self.root[0]), terminals.shape[-1])
        ports[:, self.fixed] = terminals[:, self.fixed]
        if self.loose_inverse is not None:
            far = self.loose >= self.near
            wanted = terminals.new_zeros(len(terminals), len(self.loose), terminals.shape[-1])
            wanted[:, far] = terminals[:, self.held[self.loose[far] - self.near]]
            wanted = wanted - self.root[:, self.loose][:, :, self.fixed] @ ports[:, self.fixed]
            if sources is not None:
                wanted = wanted - sources[:, self.loose]
            ports[:, self.loose] = self.loose_inverse @ wanted
        return ports

    def admittance(self) -> Tensor:
        """Terminal currents per terminal voltage (T, rows + cols, rows + cols) [S]."""
        keep = self.terminals
        if self.loose_inverse is None:
            return self.root[:, keep][:, :, keep]
        ports = self.ports(identity(self.near, self.root).expand(len(self.root), -1, -1))
        currents = self.root[:, : self.near] @ ports
        currents = currents.index_add(1, self.held, -ports[:, self.near :])
        return currents[:, keep][:, :, keep]

    def solve(
        self, x: Tensor, y: Tensor, j: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cell voltages and currents of k sets of terminal voltages and cell current sources.

        Args:
            x: row voltages (T, k, rows) [V].
            y: canonical column voltages (T, k, cols) [V].
            j: current sources across the cells (T, k, rows, cols) [A].

        Returns:
            cell voltages and currents (T, k, rows, cols), near voltages of the rows (T, k, rows)
            and of the columns (T, k, cols), which differ from x and y on floating lines.
        """
        ends = zip((x, y), self.sizes, (self.rows, self.cols), strict=False)
        terminals = torch.cat([fill(v, (0, size - n)) for v, size, n in ends], -1).mT
        spread = answers = None
        kept: list[tuple[Tensor, Tensor]] = []
        if j is not None:
            j = fill(j.permute(0, 2, 3, 1), (0, 0, *self.padding))
            spread = self.leaf.d @ self._cells(j)
            answers = self._up(self.leaf.c.mT @ spread, kept)
        ports = self.ports(terminals, answers)
        near_rows, near_cols = ports[:, : self.rows], ports[:, self.sizes[0] :][:, : self.cols]
        p = ports[:, None, None]
        for joint in reversed(self.joints):
            p = self._down(p, joint, kept.pop() if kept else None)
        u = self.leaf.c @ p
        i = self.leaf.y @ u
        if spread is not None:
            i = i + spread
        u = u - self.leaf.drop @ i
        return self._array(u), self._array(i), near_rows.mT, near_cols.mT

    def pullback(self, cotangent: Tensor) -> Tensor:
        """Gradient with respect to g (T, rows, cols) of sum(cotangent · admittance()).

        A change δH of any block changes the whole by Pᵀ δH P, P giving the block's port values for
        unit terminals; hence cotangents go down the tree as P X Pᵀ, at the cost of the joining.
        """
        keep = self.terminals
        x = cotangent.new_zeros(len(cotangent), self.near, self.near)
        x[:, keep[:, None], keep] = (cotangent + cotangent.mT) / 2
        p = self.ports(identity(self.near, x).expand(len(x), -1, -1))
        x = (p @ x @ p.mT)[:, None, None]
        for joint in reversed(self.joints):
            (in_a, in_b), halves = joint.kept, []
            across = ((joint.ky, joint.k), (joint.k.mT, -joint.zk))
            for (on_a, on_b), kept, inner in zip(across, joint.kept, joint.face, strict=True):
                face = x.new_zeros(*joint.ca.shape[:-1], x.shape[-1])
                from_a, from_b = on_a @ joint.ca, on_b @ joint.cb
                for _, to, at in in_a:
                    face[..., to] = from_a[..., at]
                for _, to, at in in_b:
                    face[..., to] = from_b[..., at]
                half = x.new_zeros(*x.shape[:-2], joint.before, joint.before)
                seen = face @ x
                half[..., inner, inner] = seen @ face.mT
                for source, to, _ in kept:
                    half[..., inner, source] = seen[..., to]
                    half[..., source, inner] = seen[..., to].mT
                    for source2, to2, _ in kept:
                        half[..., source, source2] = x[..., to, to2]
                halves.append(half)
            x = _unpair(halves[0], halves[1], joint.family)
        y = self.leaf.c @ x @ self.leaf.c.mT
        g = ((self.leaf.d.mT @ y) * self.leaf.d.mT).sum(-1, keepdim=True)
        return self._array(g)[:, 0]

    def _up(self, h: Tensor, kept: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Responses of the ports to the sources inside, with all port values zero."""
        for joint in self.joints:
            a, b = _pair(h, joint.family)
            va, ib = (half[..., face, :] for half, face in zip((a, b), joint.face, strict=True))
            i, v = joint.inner(va, ib)
            kept.append((va, ib))
            h = h.new_empty(*i.shape[:-2], joint.after, i.shape[-1])
            caused = (joint.ca.mT @ i, joint.cb.mT @ v)
            for half, more, groups in zip((a, b), caused, joint.kept, strict=True):
                for source, to, at in groups:
                    h[..., to, :] = half[..., source, :] + more[..., at, :]
        return h[:, 0, 0]

    def _down(self, p: Tensor, joint: Joint, inner: tuple[Tensor, Tensor] | None) -> Tensor:
        """Port values of the two halves of every block."""
        given = (torch.cat([p[..., to, :] for _, to, _ in groups], -2) for groups in joint.kept)
        va, ib = (c @ ports for c, ports in zip((joint.ca, joint.cb), given, strict=True))
        if inner is not None:
            va, ib = va + inner[0], ib + inner[1]
        halves = p.new_zeros(2, *va.shape[:-2], joint.before, p.shape[-1])
        across = zip(halves, joint.face, joint.kept, joint.inner(va, ib), strict=True)
        for half, face, groups, value in across:
            half[..., face, :] = value
            for source, to, _ in groups:
                half[..., source, :] = p[..., to, :]
        return _unpair(halves[0], halves[1], joint.family)
