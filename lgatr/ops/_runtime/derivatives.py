"""Which derivatives are being taken: custom kernels have the ordinary ones."""

from __future__ import annotations

import torch


def needs_plain_formula() -> bool:
    """Whether derivatives are being taken that the fused kernels do not have.

    Those are forward-mode derivatives (``jvp``, ``jacfwd``) and everything inside ``torch.func``
    transformations such as ``vmap``. Torch has no public question for either.
    """
    if torch.compiler.is_compiling():
        return False
    transforms = getattr(torch._C, "_functorch", None)
    # Inside a transformation custom functions fail even on tensors that it does not touch.
    if transforms is not None and transforms.peek_interpreter_stack() is not None:
        return True
    return getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0
