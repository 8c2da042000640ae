"""Weights, gradients and optimizer states divided among processes (``trainer=fsdp``).

PyTorch's second kind of fully sharded data parallelism, which also runs on CPUs: Zhao et al.,
arXiv:2304.11277, and :func:`torch.distributed.fsdp.fully_shard`.
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

    from experiments.tasks.classification import Classification


class ShardedStrategy(ModelParallelStrategy):
    """Fully sharded data parallelism of the ``model`` of a task.

    Between steps each process holds its part of every parameter. Those of one block at a time are
    put together for its forward and its backward computation, all others when the model is called.
    A checkpoint is one file with the whole weights, as without sharding, and either can go on from
    the other's.

    Raises
    ------
    ValueError
        At the start, if a callback averages weights: Lightning's copies the whole model.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Connect the processes, and have Lightning shard the model before optimizers are made."""
        task: Any = self.lightning_module
        if any(isinstance(c, WeightAveraging) for c in task.trainer.callbacks):
            raise ValueError("trainer=fsdp cannot average weights; set callbacks.ema=null")
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
        # On this object alone: a task that had this hook always would make Lightning suspect
        # sharding in every run.
        task.configure_model = partial(shard, task.model, self.device_mesh["data_parallel"])


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the parameters of a model among the processes of a mesh, unless they are."""
    if isinstance(model, FSDPModule):
        return  # Lightning asks before training and before the test
    for network in model.modules():
        if isinstance(network, Network):
            for block in network.blocks:  # type: ignore[union-attr]
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def load_weights(task: Classification, weights: Mapping[str, Tensor]) -> None:
    """Load whole weights into a task, sharded or not."""
    if isinstance(task.model, FSDPModule):
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(task, dict(weights), options=options)
    else:
        task.load_state_dict(weights)


def assemble(task: Classification, make: Callable[[], nn.Module]) -> None:
    """Give a task a whole model on the first process, where its weights were sharded.

    To be called by all processes.

    Parameters
    ----------
    task
        Trained.
    make
        Makes such a model; its weights are replaced.
    """
    if not isinstance(task.model, FSDPModule):
        return
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(task, options=options)
    if weights:  # on the first process alone
        task.model = make()
        task.load_state_dict(weights)
