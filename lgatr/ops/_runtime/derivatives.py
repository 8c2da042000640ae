"""Which derivatives are being taken: custom kernels have the ordinary ones."""

from __future__ import annotations

import torch


def needs_plain_formula() -> bool:
    """Whether derivatives are being taken that the fused kernels do not have.

    Those are forward-mode derivatives (``jvp``, ``jacfwd``) and everything inside ``torch.func``
    transformations such as ``vmap``, or inside a mode that takes each of torch's operations (fake
    tensors, counters of operations). Torch has no public question for any of them.
    """
    if torch.compiler.is_compiling():
        return False
    if torch._C._len_torch_dispatch_stack():
        return True  # a mode looks at every operation, such as that of fake tensors
    transforms = getattr(torch._C, "_functorch", None)
    # Inside a transformation custom functions fail even on tensors that it does not touch.
    if transforms is not None and transforms.peek_interpreter_stack() is not None:
        return True
    return getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0


_VMAP_MODE = torch._C._parse_dispatch_key("VmapMode")


def gradients_are_batched() -> bool:
    """Whether a backward pass takes several gradients at once (``is_grads_batched``).

    The vectorised :func:`torch.autograd.functional.jacobian` does; such gradients have no memory
    to read.
    """
    return _VMAP_MODE is not None and torch._C._dispatch_tls_local_include_set().has(_VMAP_MODE)
