r"""Between linear maps and attention heads: norm of each head, signs, flattening; and back.

A head is normalised like a layer (see :mod:`lgatr.ops.norm`), :math:`h = f x` with :math:`f =
\max(|x|^2 / c, \epsilon)^{-1/2}`; its scalars by an ordinary layer norm. The invariant inner
product of multivectors is an ordinary dot product with signs: they go into the queries, so that any
attention backend computes equivariant attention without knowing it. Within a head lie the scalar
pairs, scalars, vector pairs, bivector pairs.

**Gradient.** That of x is :math:`f (g - \eta h\,(g \cdot h) / c)`, where :math:`\eta` has the signs
of the derivative of :math:`|x|^2`, and just :math:`f g` where the floor is reached: the heads
themselves are all it needs.

Legend: P parts (queries, keys, values), H heads, N = P H, c and cs multivector and scalar channels
per head, w = 2 c, D = 8 w + cs.
"""
