"""Fully sharded data parallelism (``trainer=fsdp``): sharded weights, gradients, optimizer states.

Uses FSDP2, :func:`torch.distributed.fsdp.fully_shard` (arXiv:2304.11277), which also runs on CPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard

from lgatr.nets.base import Network

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from experiments.tasks.base import Task


class ShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallelism of the ``model`` of a task.

    Each process holds a shard of every parameter. Parameters are gathered block by block for the
    forward and the backward pass, those outside of blocks for the whole model. A checkpoint is one
    file with the full weights, as without sharding, and either kind of run can resume from it.

    Raises
    ------
    ValueError
        At the start, if a callback averages weights, because Lightning copies the whole model.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Connect the processes, and make Lightning shard the model before optimizers are built."""
        task: Any = self.lightning_module
        if any(isinstance(c, WeightAveraging) for c in task.trainer.callbacks):
            raise ValueError("trainer=fsdp cannot average weights; set callbacks.ema=null")
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
        # Set on the object, because Lightning takes a class with this hook for a sharded model.
        task.configure_model = partial(shard, task.model, self.device_mesh["data_parallel"])


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard the parameters of a model over a mesh, unless they are sharded."""
    if isinstance(model, FSDPModule):
        return  # Lightning calls this before training and before the test
    for network in model.modules():
        if isinstance(network, Network):
            for block in network.blocks:  # type: ignore[union-attr]
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def load_weights(task: Task[Any], weights: Mapping[str, Tensor]) -> None:
    """Load full weights into a task, sharded or not."""
    if isinstance(task.model, FSDPModule):
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(task, dict(weights), options=options)
    else:
        task.load_state_dict(weights)


def assemble(task: Task[Any], make: Callable[[], nn.Module]) -> None:
    """Replace the sharded model of a task by a full one, on the first process.

    All processes must call this.

    Parameters
    ----------
    task
        Trained task.
    make
        Makes a model of the same kind, whose weights are replaced.
    """
    if not isinstance(task.model, FSDPModule):
        return
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(task, options=options)
    if weights:  # empty on other processes
        task.model = make()
        task.load_state_dict(weights)
