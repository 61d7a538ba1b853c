"""Weights in parts on several processes (FSDP2), which no array holds."""

from __future__ import annotations

from types import FrameType

from torch import Tensor

from crossbar.weight import AnalogWeight


def sharded(value: Tensor, analog: AnalogWeight, frame: FrameType) -> Tensor:
    """A Parameter in parts on several processes, which only what gathers them may ask for.

    Args:
        value: the DTensor.
        analog: its weight.
        frame: of the code that asks.

    Raises:
        TypeError: in situ, or a product with the parts.
    """
    if analog.in_situ:
        raise TypeError(
            f"{analog.name} is trained in situ and cannot be sharded: every process needs all of "
            "x and δ; use DistributedDataParallel and InSituSGD(ddp, lr), or HardwareAware()"
        )
    home = frame.f_globals.get("__name__", "")
    books = home in ("torch.nn.modules.module", "torch.nn.modules.rnn")  # torch's bookkeeping
    if not home.startswith("torch.distributed") and (
        not books or frame.f_code.co_name == "forward"
    ):
        raise TypeError(
            f"{analog.name} is a DTensor in a forward (tensor parallelism), whose parts are on no "
            "array: use fully_shard or DistributedDataParallel"
        )
    return value
