r"""The joint norm of four-vectors and scalars.

:math:`y = f w x` with :math:`f = ((\sum_c |v_c^2| + \sum s^2) / n + \epsilon)^{-1/2}`, n channels
of both kinds, and an optional gain w of each channel.

**Gradient.** That of x is :math:`f w g - f^3 \eta x\,(g \cdot w x) / n`, where :math:`2 \eta x`
is the derivative of the sum.
"""
