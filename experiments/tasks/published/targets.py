"""Single published figures, most of them counted by the ledger itself and priced by a set."""

from __future__ import annotations

import math

import torch
from torch import nn

import crossbar as xb
from crossbar.costs import regression
from crossbar.ledger import Counts
from crossbar.ledger.performance import Latency, Stages
from devices import Device
from experiments.tasks.published.rows import Kind, Row

CELL = Device(1e-6, 50e-6)
SAME, C, P = Kind.IDENTITY, Kind.COUNTED, Kind.PREDICTED


def targets() -> list[Row]:
    """The twelve of them."""
    made = (neurosim, isaac, puma, neurram_tolerances, jia, zigzag, hermes, marinella, rpu, survey)
    return [row for rows in (*made, ibm) for row in rows()]


def read(chip: xb.Chip, inputs: int, outputs: int, x: torch.Tensor) -> Counts:
    """Events of one read of an array with random weights."""
    torch.manual_seed(0)
    layer = nn.Linear(inputs, outputs, bias=False)
    model = xb.convert(layer, chip, mode=xb.Programmed(), seed=0)
    with torch.no_grad(), xb.ledger(model) as ledger:
        model(x)
    return ledger.counts


def neurosim() -> list[Row]:
    """Read energy of NeuroSim's MLP, 400-100-10, one bit a pixel, 21 % of them on."""
    source, vdd2, read2, share = "NeuroSim MLP V3.0", 0.9**2, 0.5**2, 0.21
    chip = xb.Chip(CELL, forward=xb.Periphery(adc=xb.ADC(bits=8)))
    first = read(chip, 400, 100, (torch.arange(400) < share * 400).float()[None])
    second = read(chip, 100, 10, (torch.arange(100) < 17).float()[None])
    conversion, periphery, cells = 1.346, (20.35, 3.98), 0.2  # pJ of its own run
    lines = []
    once = []
    for counts, word, bit in ((first, 8.625, 2.56), (second, 1.579, 0.973)):  # fF of a line
        columns = counts.total("integrate")
        inputs = counts.total("mac") / columns
        # NeuroSim charges the word lines of all rows, and bit lines of active ones, per column
        lines.append(counts.total("mac") * word * vdd2 * 1e-3)
        lines.append(counts.total("row_drive") * columns * bit * read2 * 1e-3)
        once.append(inputs * word * vdd2 * 1e-3 + counts.total("row_drive") * bit * read2 * 1e-3)
    as_charged = sum(lines) + (70 + 10) * conversion + sum(periphery) + cells
    conversions = first.total("adc") + second.total("adc")
    ours = sum(once) + conversions * conversion + sum(periphery) + cells
    return [
        Row(source, "read, a training image, its own counting (80 conversions, word lines once a "
            "column)", "pJ", 418.4, as_charged, C, 0.02, "26 pJ of its periphery taken from its "
            "run"),
        Row(source, "the same, each line charged once, all 110 conversions", "pJ", 419.6, ours, C,
            None, "published counting charges word lines 100 times and 70 of 100 columns"),
        Row(source, "area of the arrays", "m²", 6.2923e-9, 6.2923e-9, SAME, 0.02, "as quoted"),
        Row(source, "leakage", "µW", 105.65, 105.65, SAME, 0.02, "a quoted constant"),
        Row(source, "write, a training image", "nJ", 13.0, None, C, 0.5,
            "cannot be met: published on MNIST; its own code gives 30.7 … 51 nJ on digits, seeds "
            "scatter 2x, and 43 % are inhibited lines"),
    ]  # fmt: skip


def isaac() -> list[Row]:
    """Power of the tile and chip, in mW."""
    source = "ISAAC, ISCA 2016"
    ima = 16 + 4 + 0.01 + 2.4 + 0.2 + 1.24 + 0.23
    rest = 20.7 + 7 + 42 / 4 + 0.52 + 0.05 + 0.4 + 1.68
    tile = 12 * ima + rest
    chip = 168 * tile / 1000 + 10.4
    tops = 2 * 168 * 12 * 8 * 128 * 16 / 1.6e-6 / 1e12
    columns, step = 12 * 8 * 128, 100e-9
    adc = xb.costs.isaac_32nm.energy["adc[8]"].value

    def counted(joules: float) -> float:
        return tile - 12 * 16 + columns * joules / step * 1e3

    return [
        Row(source, "tile, sum of its parts", "mW", 329.8, tile, SAME, 0.02),
        Row(source, "chip of 168 tiles and links", "W", 65.8, chip, SAME, 0.02),
        Row(source, "MACs a second, 16 bits in 1.6 µs", "TOPS", 41.3, tops, SAME, 0.02),
        Row(source, "density on 85.4 mm²", "GOPS/mm²", 479, tops / 85.4 * 1e3, SAME, 0.02),
        Row(source, "ADCs of the tile", "share", 0.58, 12 * 16 / tile, SAME, 0.02),
        Row(source, "ADCs of the chip", "share", 0.49, 168 * 12 * 0.016 / chip, SAME, 0.02),
        Row(source, "tile from conversions at 1.667 pJ (1.2 GS/s)", "mW", 329.8, counted(adc), C,
            0.05, "128 columns in 100 ns need 1.28 GS/s, its table says 1.2"),
        Row(source, "tile from conversions at 1.5625 pJ (1.28 GS/s)", "mW", 329.8,
            counted(2e-3 / 1.28e9), C, 0.02),
    ]  # fmt: skip


def puma() -> list[Row]:
    """A product of 16-bit weights and inputs, 128 × 128: eight slices of two bits."""
    source = "PUMA, ASPLOS 2019"
    chip = xb.Chip(
        CELL,
        xb.Slices(widths=(2,) * 8),
        xb.Periphery(xb.SerialDAC(bits=17, width=1), xb.ADC(bits=8)),
    )
    counts = read(chip, 128, 128, torch.rand(1, 128))
    costs = xb.costs.isaac_32nm.energy
    adc = counts.total("adc") * costs["adc[8]"].value
    dac = counts.total("dac") * 8 * costs["dac[1]"].value  # a driver a row in each slice
    digits = counts.total("adc") / 128 / 8
    array = digits * 8 * 0.3e-3 * 100e-9
    times = dict.fromkeys(("read", "adc", "shift_add"), 128e-9)
    time = Latency([Stages("w", "forward", 0, digits, times)]).pipelined
    return [
        Row(source, "latency of the pipeline, 128 ns a stage", "ns", 2304, time * 1e9, C, 1e-9),
        Row(source, "energy: ADC, DAC, array", "nJ", 43.97, (adc + dac + array) * 1e9, C, 0.2,
            "6.4 nJ of registers are not listed anywhere"),
    ]  # fmt: skip


def neurram_tolerances() -> list[Row]:
    """Its recipe as it is printed; the fitted tables are among `tables`."""
    from_recipe = [
        ("4 bits out, 2 in", 1.793, (1, 4, 1)),
        ("6/4", 0.744, (7, 6, 1)),
        ("8/6", 0.418, (10, 13, 2)),
        ("10/8", 0.264, (22, 16, 2)),
    ]
    ops = 2 * 128 * 256 * 48
    return [
        Row("NeuRRAM, recipe", name, "TOPS", tops,
            ops / ((0.27 * a + 0.3 * b + 0.3 * c) * 1e-6) / 1e12, C, 0.10)
        for name, tops, (a, b, c) in from_recipe
    ]  # fmt: skip


def jia() -> list[Row]:
    """2304 rows, one bit: a division."""
    source = "Jia et al., JSSC 2020"
    return [
        Row(source, "0.85 V", "TOPS/W", 400, 4608 / (1.79 + 9.7), SAME, 0.01),
        Row(source, "1.2 V", "TOPS/W", 192, 4608 / (3.56 + 20.4), SAME, 0.01),
    ]


def zigzag() -> list[Row]:
    """Clock, area and joules of an analog array, 128 × 128, 8-bit weights on 8 columns each."""
    source, nand, gate, delay = "ZigZag-IMC, 28 nm", 0.614, 0.7e-15, 0.0478
    rows, outputs, bits, v2 = 128, 128, 8, 0.81
    columns, levels = outputs * bits, round(math.log2(bits))
    tree = bits * (bits - 1) + bits * (levels - 0.5)  # one-bit adders of an output
    adders, registers, xor = outputs * tree, outputs * 24, 2.4
    clock = bits * (6.53e-3 * rows + 0.640) + delay * (1 + levels * 2 * xor + 2 * (24 - bits))
    area = columns * 10 ** (1.206 - 0.0369 * bits) * 2**bits
    area += nand * (rows * columns + adders * (3 + 2 * xor) + registers * (3 + 2 * xor + 6))
    energy = xb.costs.zigzag_28nm.energy
    adc = columns * energy["adc[8]"].value
    lines = rows * columns * energy["line_charge"].value
    dac = rows * energy["dac[2]"].value
    logic = (adders * 6 + registers * (6 + 3)) * gate * v2
    pico = (adc + 2 * lines + dac + logic) * 1e12  # bit lines and multipliers alike
    return [
        Row(source, "clock", "ns", 14.07244, clock, C, 1e-6),
        Row(source, "area", "mm²", 2.2878123, area * 1e-6, C, 1e-6),
        Row(source, "joules of a cycle", "pJ", 851.37, pico, C, 1e-3),
    ]


def hermes() -> list[Row]:
    """The chip from one cost a column of the core."""
    source = "HERMES, 14 nm"
    column, ns = 12.48 / 256, 130.0
    return [
        Row(source, "core: a product", "nJ", 12.48, 256 * column, Kind.FITTED),
        Row(source, "chip, one phase", "nJ", 13.43, 256 * column, P, 0.25),
        Row(source, "chip, four phases", "nJ", 52.85, 4 * 256 * column, P, 0.25),
        Row(source, "four phases over one", "ratio", 3.94, 4.0, P, 0.25),
        Row(source, "chip, one phase", "ns", 132.9, ns, P, 0.25),
        Row(source, "chip, four phases", "ns", 521, 4 * ns, P, 0.25),
    ]


def marinella() -> list[Row]:
    """1024 × 1024, 8-bit temporal inputs, ramp converters."""
    source = "Marinella et al., JETCAS 2018"
    return [
        Row(source, "vector by matrix, and transposed", "ns", 384, 128 + 256, SAME, 1e-9),
        Row(source, "outer product", "ns", 512, 4 * 128, SAME, 1e-9),
        Row(source, "joules a MAC of 12.8 nJ", "fJ", 12.2, 12.8e6 / 1024**2, SAME, 0.02),
        Row(source, "latency over digital ReRAM", "ratio", 541, 692 / 1.28, SAME, 0.02),
        Row(source, "latency over SRAM", "ratio", 34, 44 / 1.28, SAME, 0.02),
        Row(source, "joules of a product from parts", "nJ", 12.8, None, C, 0.2,
            "cannot be met: drivers, ramp and read voltage are not stated"),
    ]  # fmt: skip


def rpu() -> list[Row]:
    """A 4096 × 4096 tile."""
    source, n = "RPU, Gokmen & Vlasov 2016; Haensch 2019", 4096
    power = n * n * 1.0**2 / 24e6
    return [
        Row(source, "converters, 23 pJ each", "nJ", 94.2, n * 23e-3, SAME, 0.01),
        Row(source, "array at 1 V, 24 MΩ, 80 ns", "nJ", 56, power * 80, SAME, 0.01),
        Row(source, "system", "TOPS/W", 84, None, SAME, 0.2,
            "cannot be met: the tile alone gives 223; what the system adds is not stated"),
    ]  # fmt: skip


def survey() -> list[Row]:
    """The regression at five points."""
    points = [
        (32, 8, 1e9, 1.714, 5972),
        (32, 8, 1.28e9, 1.929, 6469),
        (65, 10, 1e8, 12.54, 14443),
        (14, 6, 1e7, 0.2251, 623),
        (130, 12, 1e8, 405.3, 81314),
    ]
    rows = []
    for node, bits, rate, pj, um2 in points:
        name = f"{node} nm, {bits} bits, {rate / 1e6:g} MS/s"
        energy, area = (f(node, bits, rate).value for f in (regression.energy, regression.area))
        rows.append(Row("ADC survey, regression", name, "pJ", pj, energy * 1e12, C, 1e-3))
        rows.append(Row("ADC survey, regression", name, "µm²", um2, area * 1e12, C, 1e-3))
    return rows


def ibm() -> list[Row]:
    """Three boundaries of one chip."""
    ladder = {"tile, peak": 20.0, "chip, sustained": 12.4, "system, projected": 6.94}
    return [
        Row("IBM 2023, 34 tiles", name, "TOPS/W", value, value, SAME, 1e-9,
            f"quoted: boundaries alone differ {20.0 / value:.2f}x")
        for name, value in ladder.items()
    ]  # fmt: skip
