r"""Linear maps of four-vectors and of scalars, apart from each other.

:math:`v'_\mu = v_\mu W_v^T` for all four components and :math:`s' = s W_s^T + \beta`; the gradients
are :math:`g W` and :math:`g^T x`.
"""
