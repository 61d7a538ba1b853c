"""Sets of published hardware, energies per event.

Lines between [low-high] are the spread that anchors of one technology show among each other; where
nothing says otherwise converters may lie within a factor of 4 and digital logic of 1.5. Cells and
pulses have no range of their own: conductances are counted and the device says its voltages.
"""

from __future__ import annotations

from crossbar.costs import regression
from crossbar.costs.cost import Cost, Costs, cost, exact, nothing
from crossbar.costs.digital import digital

LOGIC = (1.5, 1.5)
LINES = (2.0, 2.0)
STILL = nothing("leakage is within the published powers of work, not apart")


def _bits(
    event: str, values: dict[int, float], low: float, high: float, node: float, source: str
) -> dict[str, Cost]:
    """Entries of several resolutions, each with the same factors of range."""
    return {f"{event}[{b}]": Cost(v, v * low, v * high, node, source) for b, v in values.items()}


def _isaac() -> Costs:
    source = "Shafiee et al., ISCA 2016, doi:10.1109/ISCA.2016.12, table 6"
    pj = {4: 0.79, 5: 0.99, 6: 1.20, 7: 1.42, 8: 1.667, 9: 1.97, 10: 2.38}
    adc = f"{source}: 8 ADCs 16 mW at 1.2 GS/s; other bits by its own scaling"
    entries = {
        **_bits("adc", {b: v * 1e-12 for b, v in pj.items()}, 0.14 / 1.667, 1.9 / 1.667, 32, adc),
        "dac[1]": cost(0.39e-12, (1.05, 1.08), 32, f"{source}: 1024 drivers 4 mW, 100 ns a step"),
        "row_drive": nothing("in the driver's (dac)"),
        "line_charge": nothing("in the driver's (dac)"),
        "integrate": cost(1e-15, LOGIC, 32, f"{source}: sample and hold"),
        "shift_add": cost(0.021e-12, LOGIC, 32, f"{source}: 16-bit shift and add"),
        "partial_sum": cost(0.021e-12, LOGIC, 32, f"{source}: 16-bit shift and add"),
        "load": cost((20.45 / 256 + 0.054) * 1e-12, (1.5, 2), 32, f"{source}: eDRAM 64 KB, bus"),
        "store": cost((20.45 / 256 + 0.054) * 1e-12, (1.5, 2), 32, f"{source}: eDRAM 64 KB, bus"),
        "activation": cost(0.22e-12, LOGIC, 32, f"{source}: 2 sigmoid units 0.52 mW at 1.2 GHz"),
    }
    return Costs(
        "isaac_32nm",
        "tile",
        entries,
        static=STILL,
        read=exact(100e-9, 32, f"{source}: one step"),
        time={
            "read": exact(100e-9, 32, f"{source}: one step"),
            "adc": exact(1 / 1.28e9, 32, f"{source}: 1.28 GS/s"),
        },
        area={
            "adc": cost(1200e-12, (2, 2), 32, f"{source}: 8 bits"),
            "dac": exact(0.166e-12, 32, f"{source}: 1-bit driver"),
            "cell": exact(25e-12 / (128 * 128), 32, f"{source}: 128 × 128 in 25 µm²"),
            "shift_add": exact(60e-12, 32, source),
        },
    ).over(digital("fp32", 32))


def _neurram() -> Costs:
    source = "Wan et al., Nature 608, 504 (2022), constants of CiMLoop's model of it, 130 nm, 1.8 V"
    row, cell = 48e-15 * 1.8**2, 2.1e-15 * 1.8**2
    adc = f"{source}: 0.4 pJ a step of the output; low NeuroSim, high the survey at 8 bits"
    steps = {b: 0.4e-12 * b for b in range(1, 13)}
    entries = {
        **_bits("adc", steps, 0.91 / 3.2, 24 / 3.2, 130, adc),
        "dac": nothing("pulses of a supply: in row_drive"),
        "row_drive": cost(row, LINES, 130, f"{source}: driver of 48 fF"),
        "line_charge": cost(cell, LINES, 130, f"{source}: 2.1 fF a cell of the wordline"),
        "integrate": cost(1.45e-12, (1.5, 1.5), 130, f"{source}: 1.2 pJ to sample, 0.25 to gather"),
        "shift_add": cost(0.1e-12, LOGIC, 130, f"{source}: a bit and step"),
        "partial_sum": cost(0.1e-12, LOGIC, 130, f"{source}: as a shift and add"),
    }
    return Costs(
        "neurram_130nm",
        "macro",
        entries,
        static=STILL,
        read=exact(10e-9, 130, f"{source}: 10 ns at 0.5 V"),
        time={
            "read": exact(0.27e-6, 130, f"{source}: a step of integration"),
            "adc": exact(0.3e-6, 130, f"{source}: a step of the output, all columns at once"),
        },
        area={"adc": exact(1270e-12, 130, f"{source}: neuron")},
    ).over(digital("fp32", 130))


def _jia() -> Costs:
    source = "Jia et al., IEEE JSSC 55, 2609 (2020), doi:10.1109/JSSC.2020.2987714, 65 nm, 1.2 V"
    entries = {
        "adc[8]": Cost(3.56e-12, 0.42e-12, 6.5e-12, 65, f"{source}; low NeuroSim, high survey"),
        "dac": nothing("inputs drive lines digitally: in the column's"),
        "row_drive": nothing("in the column's"),
        "line_charge": nothing("in the column's"),
        "array": nothing("capacitors: the column's joules are those of integrate"),
        "integrate": exact(20.4e-12, 65, f"{source}: a column of 2304 rows, whatever is driven"),
        "shift_add": cost(14.7e-12, LOGIC, 65, f"{source}: datapath of a column"),
        "partial_sum": nothing("in the datapath (shift_add)"),
    }
    read = exact(1.0, 65, "array is a stated zero")
    made = Costs("jia_65nm", "macro", entries, read=read, static=STILL)
    return made.over(digital("fp32", 65))


def _hermes() -> Costs:
    source = (
        "Le Gallo et al., Nat. Electron. 6, 680 (2023), doi:10.1038/s41928-023-01010-1: 12.48 nJ "
        "a product of 256 columns"
    )
    inside = nothing("in the column's cost (adc[8])")
    entries = {
        "adc[8]": Cost(48.8e-12, 48.8e-12 / 1.1, 52.5e-12, 14, f"{source}, all in; high: chip"),
        **dict.fromkeys(("dac", "row_drive", "line_charge", "array", "integrate"), inside),
        **dict.fromkeys(("shift_add", "partial_sum"), inside),
    }
    return Costs(
        "hermes_14nm",
        "macro",
        entries,
        static=STILL,
        read=exact(130e-9, 14, f"{source}: 130 ns"),
        time={"read": exact(130e-9, 14, source), "adc": nothing("within the read's 130 ns")},
        area={"macro": exact(0.634e-6, 14, f"{source}: core of 256 × 256")},
    ).over(digital("fp32", 14))


def _neurosim() -> Costs:
    source = "NeuroSim (DNN V2.1 18289cb, MLP V3.0 cc13863), 32 nm"
    adc = f"{source}: SAR, (1.13 b + 8.9) µW for (b + 1) ns; low HP, high the MLP's 1.346 pJ"
    values = {b: (1.13 * b + 8.9) * 1e-6 * (b + 1) * 1e-9 for b in range(1, 13)}
    vdd2, lines = 0.9**2, f"{source}: 0.2 fF/µm wires and gates at 0.9 V"
    entries = {
        **_bits("adc", values, 0.14 / 0.161, 1.346 / 0.161, 32, adc),
        "dac": nothing(f"{source}: rows are switched to the read voltage"),
        "row_drive": nothing("in line_charge"),
        "line_charge": cost((86e-18 + 26e-18) * vdd2, LINES, 32, f"{lines}, 86 + 26 aF a cell"),
        "integrate": nothing("in the converter's"),
        "shift_add": cost(0.21e-12, LOGIC, 40, "Aladdin, 40 nm: 32-bit adder"),
        "partial_sum": cost(0.21e-12, LOGIC, 40, "Aladdin, 40 nm: 32-bit adder"),
        "pulse_charge": cost(177e-18, LINES, 32, f"{source}: 177 aF a cell of a column"),
        "inhibit_charge": cost(177e-18, LINES, 32, f"{source}: 177 aF a cell of a column"),
    }
    return Costs(
        "neurosim_32nm",
        "macro",
        entries,
        static=cost(105.65e-6 / 2, (1, 1), 32, f"{source}: 105.65 µW of the two arrays of its MLP"),
        read=exact(5e-9, 32, f"{source}: pulse of a read"),
        time={"read": exact(5e-9, 32, source), "adc": exact(9e-9, 32, f"{source}: (b + 1) ns")},
        area={"cell": exact(16 * (32e-9) ** 2, 32, f"{source}: 1T1R, 16 F²")},
    ).over(digital("fp32", 32))


def _zigzag() -> Costs:
    source = "ZigZag-IMC 3d12a96 (Houshmand, Sun & Verhelst), 28 nm, 0.9 V"
    v2, gate = 0.81, 0.7e-15
    values = {b: (100e-15 * b + 1e-18 * 4**b) * v2 for b in range(1, 13)}
    dacs = {b: 50e-15 * b * v2 for b in range(2, 13)}
    adder = 24 * 6 * gate * v2
    entries = {
        **_bits("adc", values, 0.25, 4.0, 28, f"{source}: (100 fF b + 1 aF 4^b) V²"),
        **_bits("dac", dacs, 0.25, 4.0, 28, f"{source}: 50 fF b V²"),
        "dac[1]": nothing(f"{source}: one bit drives its line itself"),
        "row_drive": nothing("in line_charge"),
        "line_charge": cost(gate / 2 * v2, LINES, 28, f"{source}: half a NAND2 a cell"),
        "integrate": nothing("in the converter's"),
        "shift_add": cost(adder, LOGIC, 28, f"{source}: 24-bit accumulator, 6 NAND2 a bit"),
        "partial_sum": cost(adder, LOGIC, 28, f"{source}: 24-bit accumulator, 6 NAND2 a bit"),
    }
    read = exact(14.07244e-9, 28, f"{source}: cycle")
    made = Costs("zigzag_28nm", "macro", entries, read=read, static=STILL)
    return made.over(digital("fp32", 32))


isaac_32nm = _isaac()
neurram_130nm = _neurram()
jia_65nm = _jia()
hermes_14nm = _hermes()
neurosim_32nm = _neurosim()
zigzag_28nm = _zigzag()


def survey(node: float, rate: float = 1e8, read: float = 100e-9) -> Costs:
    """Converters by the regression of the survey; drivers of ZigZag, logic of the node.

    Args:
        node: [nm], of `scaling.ENERGY`.
        rate: conversions a second.
        read: how long a read drives its lines [s].
    """
    adc = {f"adc[{b}]": regression.energy(node, b, rate) for b in range(4, 15)}
    area = {f"adc[{b}]": regression.area(node, b, rate) for b in range(4, 15)}
    others = {k: v for k, v in zigzag_28nm.energy.items() if not k.startswith("adc")}
    name = f"survey_{node:g}nm"
    made = Costs(name, "macro", {**others, **adc}, area=area, static=STILL)
    time = exact(read, node, "given")
    return made.having(
        read=time, time={"read": time, "adc": exact(1 / rate, node, "given rate")}
    ).over(digital("fp32", node))
