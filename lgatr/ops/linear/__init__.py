r"""The equivariant linear map.

:math:`y_o = \sum_i \sum_{g=0}^{4} (c_{oig} \langle x_i \rangle_g + c_{oi(5+g)} \langle x_i
\rangle_g I)` (arXiv:2405.14806, proposition 2); auxiliary scalars mix with the scalars and
pseudoscalars of multivectors.

Multiplication by I from the right is a rotation inside each pair (p, p I), so with channels
pair-first the map is one matrix product for each sector,

.. math:: z' = z W_z^T + \beta, \qquad v'_\mu = v_\mu W_v^T, \qquad b'_k = b_k W_b^T,

with 2x2 blocks :math:`((a, -b), (c, d))` made of the coefficients (``matrices.py``). Every entry
of the parameters arrives at no more than two places of the matrices, with a sign, so that assembly
is one look-up. The gradients are :math:`g W` for the state and :math:`g^T x` for the matrices.
"""
