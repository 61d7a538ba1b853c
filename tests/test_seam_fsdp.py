"""Fully sharded training on two gloo ranks: the chip of one process, whatever is sharded."""

from __future__ import annotations

import os
import socket
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

import crossbar as xb
from devices import ConstantStep, Device, GaussianWrite

# cells of random write errors, no noise of reads, which differs from rank to rank as in a batch
CELLS = Device(1e-6, 50e-6, ConstantStep(1e-7), write=GaussianWrite(0.02))
CHIP = xb.Chip(CELLS, forward=xb.Periphery(xb.DAC(bits=4), xb.ADC(bits=4)))
FLOATS = xb.Chip(forward=CHIP.forward)  # whose cells need not be drawn at every read


class Net(nn.Module):
    """A layer, a recurrent one, attention, a matrix and experts of its own."""

    def __init__(self):
        super().__init__()
        self.inner, self.lstm = nn.Linear(6, 8), nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.W = nn.Parameter(torch.randn(8, 4))
        self.experts = nn.Parameter(torch.randn(2, 4, 4))

    def forward(self, x):
        h = self.lstm(self.inner(x).tanh())[0]
        h = self.attention(h, h, h, need_weights=False)[0]
        return torch.bmm((h @ self.W)[:2], self.experts.mT)


def one(mode):
    torch.manual_seed(0)
    chip = FLOATS if isinstance(mode, xb.HardwareAware) else CHIP
    return xb.convert(Net(), chip, mode=mode, seed=0)


def trained(model, x):
    """Outputs of three steps; digital parameters, and float weights, are trained."""
    optimizer, said = torch.optim.SGD(model.parameters(), 0.1), []
    for _ in range(3):
        optimizer.zero_grad()
        y = model(x)
        y.square().mean().backward()
        optimizer.step()
        said.append(y.detach())
    return torch.stack(said)


def rank(number, port, queue):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", rank=number, world_size=2)
    try:
        # here, so that only the ranks pay for it
        fully_shard = __import__("torch.distributed.fsdp", fromlist=["fsdp"]).fully_shard
        mesh = init_device_mesh("cpu", (2,))
        x, said = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1)), {}
        for mode in (xb.HardwareAware(), xb.Programmed(), xb.InSitu()):
            model = one(mode)
            fully_shard(model, mesh=mesh)
            try:
                said[type(mode).__name__] = trained(model, x).tolist()
            except TypeError as error:
                said[type(mode).__name__] = str(error)
        said["alone"] = {
            type(mode).__name__: trained(one(mode), x).tolist()
            for mode in (xb.HardwareAware(), xb.Programmed())
        }
        queue.put((number, said))
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_fully_sharded_models_are_the_same_chip():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    ranks = [context.Process(target=rank, args=(n, port, queue)) for n in range(2)]
    for process in ranks:
        process.start()
    found = dict(queue.get() for _ in ranks)
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    for number in range(2):
        said = found[number]
        for mode in ("HardwareAware", "Programmed"):
            got, want = (torch.tensor(part[mode]) for part in (said, said["alone"]))
            assert torch.allclose(got, want, atol=1e-6)
            assert float((want[1:] - want[:-1]).abs().max()) > 1e-3  # it is trained
        assert "cannot be sharded" in said["InSitu"]
