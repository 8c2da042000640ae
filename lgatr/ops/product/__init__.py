r"""The geometric product, channel by channel, and the bilinear layer's product of two linear maps.

Multiplication by I from the right is a complex structure: a pair (p, p I) holds one complex
number per channel. Write a multivector as even part plus :math:`e_0` times another even part,
:math:`x = E + e_0 O`. Even elements are :math:`z + \sum_k b_k\,e_{0k}`, and the :math:`e_{0k}`
multiply like Pauli matrices (whose imaginary unit is :math:`e_{01} e_{02} e_{03} = -I`), so E and
O are complex 2x2 matrices,

.. math:: E = \begin{pmatrix} z + b_3 & b_1 + i b_2 \\ b_1 - i b_2 & z - b_3 \end{pmatrix},

and O likewise from :math:`V_0, \ldots, V_3`, because :math:`e_0 e_k = e_{0k}`. Moving
:math:`e_0` past an even element gives :math:`e_0 E e_0 = \tilde E`, the adjugate of the
conjugate transpose, and therefore

.. math:: x y = (E_x E_y + \tilde O_x O_y) + e_0\,(O_x E_y + \tilde E_x O_y):

a complex 4x4 matrix times a complex 4x2 matrix, half as many products of numbers as the table of
blades has. These are the Weyl (light-cone) components of the spinor formalism.

**Gradient.** The derivatives are geometric products again. With the Hermitian conjugate
:math:`x^\dagger = e_0 \tilde x e_0` (reversal, then reflection of space) the sum of squares of
the coefficients is the scalar part of :math:`x^\dagger x`, so that for :math:`u = x y` the
gradients are :math:`g_x = g_u\,y^\dagger` and :math:`g_y = x^\dagger g_u`.
"""
