r"""Between the linear maps of slim networks and attention heads.

Norm of each head, :math:`h = f x` with f as in :mod:`lgatr.ops.slim_norm`, signs of the inner
product, flattening; and back.

**Gradient.** That of x is :math:`f (g - \eta h\,(g \cdot h) / n)`, for which the inputs are not
needed.

Legend: P parts (queries, keys, values), H heads, N = P H, c and s vector and scalar channels of a
head, D = 4 c + s.
"""
