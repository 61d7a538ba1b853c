"""Digital logic from one technology to another."""

from __future__ import annotations

from crossbar.costs.cost import DIGITAL, Costs

ENERGY: dict[float, tuple[float, float, float]] = {
    130: (7.171, -6.709, 2.904),
    90: (4.762, -4.781, 2.092),
    65: (3.755, -4.398, 1.975),
    45: (1.103, -0.362, 0.2767),
    32: (0.9559, -0.7823, 0.471),
    20: (0.373, -0.1582, 0.04104),
    16: (0.2958, -0.1241, 0.03024),
    14: (0.2363, -0.09675, 0.02239),
    10: (0.2068, -0.09311, 0.02375),
    7: (0.1776, -0.09097, 0.02447),
}
"""a, b, c of E ~ a V² + b V + c at each node [nm].

Source: Stillmaker & Baas, Integration 58, 74 (2017), doi:10.1016/j.vlsi.2017.02.002."""

NOMINAL: dict[float, float] = {130: 1.3, 65: 1.0, 45: 1.0, 32: 0.9, 16: 0.8, 14: 0.8, 7: 0.7}
"""Supply [V] that a node is scaled at where nothing else is said."""


def ratio(node: float, vdd: float, of: float, vdd_of: float) -> float:
    """Energy of an operation at `node` and `vdd` over that at `of` and `vdd_of`.

    Raises:
        ValueError: a node that is not in the table.
    """

    def at(n: float, v: float) -> float:
        if n not in ENERGY:
            raise ValueError(f"node must be one of {sorted(ENERGY)} nm, got {n!r}")
        a, b, c = ENERGY[n]
        return a * v * v + b * v + c

    return at(node, vdd) / at(of, vdd_of)


def logic(costs: Costs, node: float, vdd: float | None = None) -> Costs:
    """The digital entries of a set at another node; converters, drivers and cells stay as they are.

    Args:
        costs: entries of one node each.
        node: wanted [nm].
        vdd: supply there [V]; None: the node's nominal one.

    Raises:
        ValueError: a node that is not in the table, or without a nominal supply.
    """
    if vdd is None:
        if node not in NOMINAL:
            raise ValueError(f"vdd must be given at {node!r} nm, which has no nominal one here")
        vdd = NOMINAL[node]
    made = {}
    for name, c in costs.energy.items():
        if name.partition("[")[0] not in DIGITAL or c.node is None:
            made[name] = c
            continue
        k = ratio(node, vdd, c.node, NOMINAL[c.node])
        made[name] = c.times(k, node, f"{c.node:g} to {node:g} nm by Stillmaker & Baas")
    return costs.having(energy=made)
