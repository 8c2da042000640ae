r"""The equivariant layer norm (arXiv:2411.00446, section 2).

Multivectors are divided by the root mean square of their norms over the channels, with a floor,

.. math:: y = g\,w_k\,f\,x, \qquad f = \max(|x|^2 / C, \epsilon)^{-1/2}, \qquad
    |x|^2 = \sum_c \sum_k |\langle \tilde x_c x_c \rangle_k|,

where g is a number and :math:`w_k` an optional gain of each channel and grade; auxiliary scalars go
through an ordinary layer norm.

**Gradient.** With h the gradient of y times g w, that of x is :math:`f h - f^3 \eta x\,(h \cdot x)
/ C`, where :math:`2 \eta x` is the derivative of :math:`|x|^2`: :math:`\eta` has the signs of the
metric, times the sign of each vector's and bivector's square. Where the floor is reached it is just
:math:`f h`. Without gains, y = g f x may stand for x: the same formula over f, so that a fused
stage needs not keep x.
"""
