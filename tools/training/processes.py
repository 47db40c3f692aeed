"""Several processes that train one model, each on its share of the clips, as torchrun starts them:

    torchrun --standalone --nproc-per-node 2 tools/train_vae.py ...

So small a network spends much of its time between operations, where further threads of one process would wait; further
processes do not. A script that is started without torchrun is a team of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Team:
    """The processes and this one's place among them."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Team:
        """Joins the processes that torchrun started, if it did."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        dist.init_process_group("gloo")
        return cls(dist.get_rank(), size)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that prints and saves."""
        return self.rank == 0

    def leave(self) -> None:
        """To be called once, at the end: waits for all the others, since none may go while one still talks to it."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()

    def agree(self, value: float) -> float:
        """The leader's value, so that all take the same decision."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(shared, 0)
        return shared.item()

    def sum(self, tensor: torch.Tensor) -> None:
        """Replaces a tensor by its sum over the processes."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the processes, in one message."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        self.sum(flat)
        flat /= self.size
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
