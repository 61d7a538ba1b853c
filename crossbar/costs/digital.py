"""Digital logic and memory."""

from __future__ import annotations

from crossbar.costs.cost import Cost, Costs, cost
from crossbar.costs.scaling import logic

HOROWITZ = "Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323, 45 nm, 0.9 V"
MACS = {"int8": 0.23e-12, "fp16": 1.5e-12, "fp32": 4.6e-12}
"""Multiplication and addition [J]."""


def sram(kilobytes: float) -> float:
    """Joules a byte of a memory of so many KB at 45 nm: 0.475 pJ (C/KB)^0.473.

    A line through Horowitz's three caches, 8 KB 10, 32 KB 20 and 1 MB 100 pJ for 8 bytes.
    """
    return 0.475e-12 * kilobytes**0.473


MEMORY: dict[str, Cost] = {
    "registers": cost(8 * 9e-15, (1.5, 1.5), 40, "Aladdin library: 9 fJ a bit"),
    "cache, 8 KB": cost(10e-12 / 8, (1.5, 2), 45, f"{HOROWITZ}: 10 pJ for 8 bytes"),
    "cache, 32 KB": cost(20e-12 / 8, (1.5, 2), 45, f"{HOROWITZ}: 20 pJ for 8 bytes"),
    "SRAM, 256 KB": cost(sram(256), (1.5, 2), 45, f"{HOROWITZ}: a line through its caches"),
    "cache, 1 MB": cost(100e-12 / 8, (1.5, 2), 45, f"{HOROWITZ}: 100 pJ for 8 bytes"),
    "HBM2": cost(8 * 3.9e-12, (1.5, 1.5), None, "DNN+NeuroSim V2.1: 3.9 pJ a bit"),
    "GDDR5": cost(8 * 14e-12, (1.5, 1.5), None, "DNN+NeuroSim V2.1: 14 pJ a bit"),
    "DRAM": Cost(1950e-12 / 8, 1300e-12 / 8, 2600e-12 / 8, 45,
                 f"{HOROWITZ}: 1300 to 2600 pJ for 8 bytes"),
}  # fmt: skip
"""A byte read, by where it lies: what a machine pays that keeps weights apart from arithmetic."""


def digital(mac: str = "fp32", node: float = 45, vdd: float | None = None) -> Costs:
    """Digital logic of 45 nm, or scaled from it.

    Args:
        mac: of products, of `MACS`; accumulations and functions are those of 32 bits.
        node: [nm].
        vdd: [V], see `scaling.logic`.

    Raises:
        ValueError: another kind of product, or node.
    """
    if mac not in MACS:
        raise ValueError(f"mac must be one of {sorted(MACS)}, got {mac!r}")
    spread = (1.5, 1.5)
    byte = sram(256)
    entries = {
        "digital_mac": cost(MACS[mac], spread, 45, f"{HOROWITZ}: {mac} multiply and add"),
        "add": cost(0.1e-12, spread, 45, f"{HOROWITZ}: 32-bit integer add"),
        "activation": cost(
            0.1e-12,
            (3, 46),
            45,
            f"{HOROWITZ}: one compare or add; high: an fp32 multiply and add of an exponential",
        ),  # fmt: skip
        "norm": cost(4.6e-12, (3, 1.5), 45, f"{HOROWITZ}: fp32 multiply and add; low: fp16"),
        "pool": cost(0.1e-12, spread, 45, f"{HOROWITZ}: one compare or add"),
        "table": cost(4 * byte, (1.5, 2), 45, f"{HOROWITZ}: 4 bytes from 256 KB"),
        "optimiser_op": cost(2.3e-12, (2.6, 1.6), 45, f"{HOROWITZ}: mean of fp32 add and multiply"),
        "optimiser_byte": cost(byte, (1.5, 2), 45, f"{HOROWITZ}: a byte of 256 KB"),
        "load": cost(byte / 8, (1.5, 2), 45, f"{HOROWITZ}: a bit from 256 KB"),
        "store": cost(byte / 8, (1.5, 2), 45, f"{HOROWITZ}: a bit to 256 KB"),
    }
    made = Costs(f"digital_{45}nm_{mac}", "tile", entries)
    if node == 45 and vdd is None:
        return made
    moved = logic(made, node, vdd)
    # memory follows logic no further than half way
    return moved.having(
        energy={
            name: made.energy[name].times(
                moved.energy["add"].value / made.energy["add"].value, node, f"as logic at {node} nm"
            )
            for name in ("load", "store")
        }
    )


digital_45nm = digital()
"""fp32 at 45 nm."""
