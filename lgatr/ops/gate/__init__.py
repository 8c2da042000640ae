r"""Scalar gates: every multivector times a function of its scalar.

:math:`y = f(\langle x \rangle_0)\, x` with an ordinary nonlinearity f; auxiliary scalars go
through a nonlinearity of their own.

**Gradient.** At fixed gates it is :math:`f g`; the scalar gets :math:`f'\, (g \cdot x)` on top,
with the sum over all sixteen coefficients.
"""
