"""Finds on a CPU what would make a host wait for a GPU."""

from torch.utils._python_dispatch import TorchDispatchMode


class NothingWaits(TorchDispatchMode):
    """Refuses operations whose result a host would have to fetch from the device."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        sized = name != "repeat_interleave" or (kwargs or {}).get("output_size") is not None
        assert sized and not name.startswith(self.WAITING), f"{name} waits for the GPU"
        return function(*args, **(kwargs or {}))
