"""The equivariant layer norm, with its gradient in as few passes as it takes.

Legend: T tokens, C multivector channels, w = 2 C, S scalar channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lgatr.layout import NUM_BIVECTORS, NUM_VECTORS, Sectors, flat, unflat
from lgatr.ops._runtime import cpu as native
from lgatr.ops._runtime.cpu import has_native_kernels
from lgatr.ops._runtime.matmul import as_rows
from lgatr.ops._runtime.stage import Optionals, Stage, Tensors
from lgatr.ops._runtime.triton import has_triton_kernels

_LAYER_NORM = 1e-5


def _signed_squares(v: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Invariant squares of the vectors ``(T, w)``, and of the bivectors ``(T, C)``."""
    vectors = v[0] * v[0]
    for i in range(1, NUM_VECTORS):
        vectors.addcmul_(v[i], v[i], value=-1)
    pairs = b[0] * b[0]
    for i in range(1, NUM_BIVECTORS):
        pairs.addcmul_(b[i], b[i])
    c = pairs.shape[-1] // 2
    return vectors, pairs[..., c:] - pairs[..., :c]


def _gains(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gain of each grade ``(C, 5)`` for the rows of the three sectors."""
    scalar, vector, bivector, axial, pseudoscalar = weight.unbind(-1)
    return (
        torch.cat([scalar, pseudoscalar]),
        torch.cat([vector, axial]),
        torch.cat([bivector, bivector]),
    )


@dataclass(frozen=True, eq=False)
class NormStage(Stage):
    """Inputs z, v, b, the gain of each channel and grade or None, of each scalar or None.

    Parameters
    ----------
    formula
        The plain formula.
    epsilon
        Floor of the mean squared norm.
    gain
        Factor on the multivectors.
    """

    formula: Callable[..., Tensors]
    epsilon: float
    gain: float

    def plain(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return self.formula(*inputs)

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return super().runs_on(x) or has_triton_kernels(x)

    def forward(self, *inputs: Tensor | None) -> tuple[Tensors, Tensors]:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        z, v, b, weight, weight_s = inputs
        assert z is not None and v is not None and b is not None
        if has_triton_kernels(z):
            return self._forward_by_triton(Sectors(z, v, b), weight, weight_s)
        if has_native_kernels(z):
            x = Sectors(z, v, b)
            out = native.empty_like(x)
            moments = native.norm(
                flat(x), flat(out), (weight, weight_s),
                self.epsilon, self.gain, _LAYER_NORM,
            )  # fmt: skip
            return tuple(out), moments
        w = v.shape[-1]
        multivector, s = z[..., :w], z[..., w:]
        vectors, bivectors = _signed_squares(v, b)
        total = vectors.abs_().addcmul_(multivector, multivector).sum(-1, keepdim=True)
        total += bivectors.abs_().sum(-1, keepdim=True)
        factor = total.mul_(2.0 / w).clamp_(min=self.epsilon).rsqrt_()
        scale = factor if self.gain == 1.0 else factor * self.gain
        of_z, of_v, of_b = (scale,) * 3 if weight is None else (scale * g for g in _gains(weight))
        out_z, out_v, out_b = torch.empty_like(z), v * of_v, b * of_b
        torch.mul(multivector, of_z, out=out_z[..., :w])
        kept = [factor]
        if s.shape[-1]:
            out_s, *moments_s = torch.native_layer_norm(
                s, s.shape[-1:], weight_s, None, _LAYER_NORM
            )
            out_z[..., w:] = out_s
            kept += moments_s
        return (out_z, out_v, out_b), tuple(kept)

    def backward(
        self, inputs: Optionals, outputs: Tensors, kept: Tensors, grads: Tensors
    ) -> Optionals:
        r"""With :math:`y = f x` and :math:`f = (|x|^2 / C)^{-1/2}`, the gradient of x is
        :math:`f g - f^3 \eta x (g \cdot x) / C`, where :math:`2 \eta x` is the derivative of
        :math:`|x|^2`; just :math:`f g` where the floor is reached.
        """
        z, v, b, weight, weight_s = inputs
        factor, *moments = kept
        gz, gv, gb = grads
        if z is not None and v is not None and b is not None and has_triton_kernels(z):
            return self._backward_by_triton(Sectors(z, v, b), weight, weight_s, grads, kept)
        # Without its inputs the stage uses its outputs, y = f x, and the same formula over f.
        from_outputs = z is None
        if z is None or v is None or b is None:
            z, v, b = outputs
        limit = self.epsilon**-0.5 * (1 - 4 * torch.finfo(z.dtype).eps)
        if has_native_kernels(z):
            x, grad = (flat(s) for s in (Sectors(z, v, b), Sectors(*grads)))
            found = native.empty_like(Sectors(z, v, b))
            of_gains = native.norm_gradients(
                x, grad, flat(found), kept, (weight, weight_s),
                self.gain, limit, from_outputs,
            )  # fmt: skip
            return *found, *of_gains
        w = v.shape[-1]
        multivector, g = z[..., :w], gz[..., :w]
        # g . x by channel; summed over channels, weighted by the gains, for the norm, and over
        # tokens for the gains.
        products = [g * multivector, gv[0] * v[0], gb[0] * b[0]]
        for i in range(1, NUM_VECTORS):
            products[1].addcmul_(gv[i], v[i])
        for i in range(1, NUM_BIVECTORS):
            products[2].addcmul_(gb[i], b[i])
        of_weight: Tensor | None = None
        scale = factor if self.gain == 1.0 else factor * self.gain
        of_z, of_v, of_b = (scale,) * 3
        if weight is not None:
            gains = _gains(weight)
            rows = scale.flatten().unsqueeze(0)
            sums = [(rows @ as_rows(p)).view(2, -1) for p in products]
            of_weight = torch.stack(
                [sums[0][0], sums[1][0], sums[2].sum(0), sums[1][1], sums[0][1]], dim=-1
            )
            for p, gain in zip(products, gains, strict=True):
                p.mul_(gain)
            of_z, of_v, of_b = (scale * gain for gain in gains)
        inner = products[0].add_(products[1]).add_(products[2]).sum(-1, keepdim=True)
        if from_outputs:
            through = inner.mul_(factor).mul_(-2.0 / (w * self.gain))
        else:
            through = (factor**3).mul_(inner).mul_(-self.gain * 2.0 / w)
        through.masked_fill_(factor >= limit, 0.0)
        dz, dv, db = torch.empty_like(gz), gv * of_v, gb * of_b
        of_multivector = torch.mul(g, of_z, out=dz[..., :w])
        of_multivector.addcmul_(multivector, through)
        vectors, bivectors = _signed_squares(v, b)
        signs = vectors.sign_().mul_(through)
        dv[0].addcmul_(v[0], signs)
        dv[1:].addcmul_(v[1:], signs, value=-1)
        signs = bivectors.sign_().mul_(through)
        db[..., w // 2 :].addcmul_(b[..., w // 2 :], signs)
        db[..., : w // 2].addcmul_(b[..., : w // 2], signs, value=-1)
        of_weight_s: Tensor | None = None
        if z.shape[-1] > w:
            mean, spread = moments
            after = spread
            if from_outputs:
                mean, spread = torch.zeros_like(mean), torch.ones_like(spread)
            of_s, of_weight_s, _ = torch.ops.aten.native_layer_norm_backward(
                gz[..., w:],
                z[..., w:],
                (z.shape[-1] - w,),
                mean,
                spread,
                weight_s,
                None,
                (True, weight_s is not None, False),
            )
            dz[..., w:] = of_s.mul_(after) if from_outputs else of_s
        return dz, dv, db, of_weight, of_weight_s

    def _forward_by_triton(
        self, x: Sectors, weight: Tensor | None, weight_s: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        from lgatr.ops.norm import triton as triton_norm

        out, kept = triton_norm.layer_norm(
            flat(x), weight, weight_s, self.epsilon, self.gain, _LAYER_NORM
        )
        return tuple(unflat(out, x)), kept

    def _backward_by_triton(
        self,
        x: Sectors,
        weight: Tensor | None,
        weight_s: Tensor | None,
        grads: Tensors,
        kept: Tensors,
    ) -> Optionals:
        from lgatr.ops.norm import triton as triton_norm

        moments = (kept[0], kept[1], kept[2])
        out, of_weight, of_weight_s = triton_norm.layer_norm_gradients(
            flat(x), weight, weight_s, flat(Sectors(*grads)), moments, self.epsilon, self.gain
        )
        return *unflat(out, x), of_weight, of_weight_s


class NormOfOutputs(NormStage):
    """The norm without gains, whose gradient needs its outputs and not its inputs."""

    needs_outputs = True

    def runs_on(self, x: Tensor) -> bool:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        return Stage.runs_on(self, x)

    def __call__(self, *inputs: Tensor | None) -> Tensors:
        """See :class:`~lgatr.ops._runtime.stage.Stage`."""
        first = inputs[0]
        if first is not None and not self.runs_on(first) and has_triton_kernels(first):
            return NormStage(self.formula, self.epsilon, self.gain)(*inputs)
        return super().__call__(*inputs)
