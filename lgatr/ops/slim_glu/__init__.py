r"""Gated linear units of four-vectors and scalars (arXiv:2512.17011).

One linear map makes vectors a, b, c and scalars s, t; the results are :math:`a\, f_v(\langle b,
c\rangle / 2)` and :math:`s\, f(t)`.
"""
