"""What was counted, for other people's models of energy: NeuroSim and AccelForge."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from crossbar.carried.owner import weights
from crossbar.costs import Costs
from crossbar.ledger.ledger import Ledger
from crossbar.watching import called

POOLS = tuple(getattr(nn, f"{kind}Pool2d") for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg"))


def to_neurosim(model: nn.Module, example: Any) -> str:
    """`NetWork.csv` of DNN+NeuroSim (V1.1 to V1.5): a line a layer, in the order of its use.

    Of each: length, width and depth of the input, length, width and depth of the kernel, whether a
    pool follows, stride. A linear layer is a kernel of 1 × 1 over as many positions as it has
    vectors an image. NeuroSim takes (length − kernel + 1)/stride positions, without padding; its
    own files name the input as it comes, and so does this one.

    Args:
        model: with weights on arrays in linear and two-dimensional convolutional layers.
        example: an input, one image or a batch.

    Raises:
        TypeError: a layer that the format has no words for. ValueError: none on arrays.
    """
    rows: list[list[int]] = []
    seen: set[int] = set()

    def used(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, POOLS):
            if rows:
                rows[-1][6] = 1
        elif id(module) not in seen:
            seen.add(id(module))
            rows.append(_layer(module, inputs[0]))

    handles = []
    for module in model.modules():
        if isinstance(module, POOLS) or (isinstance(module, nn.Module) and weights(module)):
            handles.append(module.register_forward_hook(used))
    try:
        called(model, example)
    finally:
        for handle in handles:
            handle.remove()
    if not rows:
        raise ValueError("the model reads no weight on an array")
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def _layer(module: Any, x: torch.Tensor) -> list[int]:
    if isinstance(module, nn.Linear):
        positions = x[0].numel() // module.in_features if x.dim() > 1 else 1
        return [positions, 1, module.in_features, 1, 1, module.out_features, 0, 1]
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"NeuroSim's network files have no {type(module).__name__}")
    odd = [name for name, plain in (("groups", 1), ("dilation", (1, 1)))
           if getattr(module, name) != plain]  # fmt: skip
    if odd or len(set(module.stride)) > 1:
        raise TypeError(
            f"NeuroSim's network files have no {', '.join(odd) or 'stride'} of {module}"
        )
    height, width = x.shape[-2:]
    kernel = [int(k) for k in module.kernel_size]
    channels = module.in_channels, module.out_channels
    return [height, width, channels[0], *kernel, channels[1], 0, int(module.stride[0])]


def to_accelforge(ledger: Ledger, costs: Costs) -> str:
    """AccelForge's YAML (1.0) of what a ledger counted in forward reads.

    A macro of one tile: memory, sums, ADC, DAC, columns, rows and cells, each action with its mean
    joules in this run; a product for each weight, as many vectors as it met; counts themselves are
    variables `counted_…`. An action of the ADC is all that makes one output of a tile, one of the
    DAC all that drives one input; sums are those of digits, columns and tiles. So the joules of
    AccelForge's best mapping are those of the ledger's arrays, where tiles are filled (1.0.467:
    to the six digits written). Values count as 8 bits each, whatever the converters: an action is
    a value. Leakage and area are left at 0.

    Args:
        ledger: with forward reads of arrays behind converters.
        costs: what events cost.

    Raises:
        ValueError: no such reads, or arrays with tiles of several sizes.
    """
    counts = ledger.counts.select(lambda key: key.phase == "forward")
    names = {key.weight for key in counts if key.event == "mac"}
    places = {name: m for (name, _), m in ledger.matrices.items() if name in names}
    if not places:
        raise ValueError("the ledger has no forward reads of arrays")
    tiles = {matrix.chip.tile or tuple(matrix.lines[-2:]) for matrix in places.values()}
    if len(tiles) > 1:
        raise ValueError(f"one macro has tiles of one size, and there are {sorted(tiles)}")
    rows, columns = tiles.pop()
    joules = ledger.price(costs).select(lambda line: line.phase == "forward").by("event")

    def mean(number: float, *events: str) -> float:
        return sum(joules[event].joules for event in events if event in joules) / number

    brought, made = counts.total("load"), counts.total("store") + counts.total("partial_sum")

    each = [(n, name, places[name]) for n, name in enumerate(sorted(places))]
    inputs, outputs, held = (" | ".join(f"{t}{n}" for n, *_ in each) for t in "IOW")
    nodes = [
        _node("Memory", "Buffer", f"{inputs} | {outputs}",
              {"read": mean(brought, "load"), "write": mean(counts.total("store"), "store")}),
        _node("Memory", "Sums", outputs,
              {"read": 0.0, "write": mean(made, "partial_sum", "shift_add")}),
        _node("Toll", "ADC", outputs, {"read": mean(made, "adc", "integrate")}, "up"),
        _node("Toll", "DAC", inputs,
              {"read": mean(brought, "dac", "row_drive", "line_charge")}, "down"),
        f"  - !Container\n    name: Column\n    spatial:\n"
        f"    - {{name: columns, fanout: {columns}, may_reuse: {inputs}}}\n",
        f"  - !Container\n    name: Row\n    spatial:\n"
        f"    - {{name: rows, fanout: {rows}, may_reuse: {outputs}}}\n",
        _node("Memory", "Cells", held, {"read": mean(counts.total("mac"), "array"), "write": 0.0}),
        "  - !Compute\n    name: Product\n    leak_power: 0\n    area: 0\n    actions:\n"
        "    - {name: compute, energy: 0, throughput: inf, latency: 0}\n",
    ]  # fmt: skip
    sizes, products = [], []
    for n, name, matrix in each:
        *_, driven, sensed = matrix.lines
        vectors = counts.total("mac", weight=name) / (driven * sensed)  # of groups one by one
        sizes += [f"M{n}: {round(vectors)}", f"K{n}: {driven}", f"N{n}: {sensed}"]
        products.append(
            f"  - name: L{n}  # {name}\n    tensor_accesses:\n"
            f"    - {{name: I{n}, projection: [m{n}, k{n}], bits_per_value: 8}}\n"
            f"    - {{name: W{n}, projection: [k{n}, n{n}], bits_per_value: 8}}\n"
            f"    - {{name: O{n}, projection: [m{n}, n{n}], output: True, bits_per_value: 8}}\n"
        )
    counted = [f"  counted_{event}: {counts.total(event):.12g}\n" for event in _events(counts)]
    return (
        f"# joules: {costs.name}, {costs.boundary}\nvariables:\n{''.join(counted)}\n"
        f"arch:\n  nodes:\n{''.join(nodes)}\n"
        f"workload:\n  rank_sizes: {{{', '.join(sizes)}}}\n  einsums:\n{''.join(products)}"
    )


def _node(kind: str, name: str, keep: str, actions: dict[str, float], direction: str = "") -> str:
    way = f"    direction: {direction}\n" if direction else "    size: inf\n"
    listed = "".join(
        f"    - {{name: {action}, bits_per_action: 8, energy: {joules:.6g}, "
        "throughput: inf, latency: 0}\n"
        for action, joules in actions.items()
    )
    return (
        f"  - !{kind}\n    name: {name}\n    tensors: {{keep: {keep}}}\n{way}"
        f"    leak_power: 0\n    area: 0\n    actions:\n{listed}"
    )


def _events(counts: Iterable[Any]) -> list[str]:
    return sorted({key.event for key in counts})
