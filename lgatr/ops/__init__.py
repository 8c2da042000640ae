"""Operations on hidden states, one folder each, and the runtime that they share.

In every folder the package's text states the mathematics once; ``formula.py`` is the reference in
plain torch; ``stage.py`` has what layers hold and call; ``cpu.py`` has the passes written by hand
for CPUs, with a C++ file unless torch's matrix products do the work, and ``triton.py``, where there
is one, those for CUDA. Which of them runs is decided in :mod:`lgatr.ops._runtime.choice`;
``python -m lgatr`` prints the decisions for this machine.

- L-GATr: ``linear``, ``norm``, ``product``, ``gate``, ``heads``.
- L-GATr-slim: ``slim_linear``, ``slim_norm``, ``slim_glu``, ``slim_heads``.

Legend, in all files: T tokens (any leading shape), C multivector channels, w = 2 C numbers of a row
of pairs, S scalar channels; a state is ``z (T, w + S)``, ``v (4, T, w)``, ``b (3, T, w)``, see
:mod:`lgatr.layout`.
"""
