"""Check the Lorentz symmetry of layers, networks, and whole models of your own.

Transformations are 4x4 matrices and their exterior powers; nothing here uses the algebra that the
networks are made of, so it is an independent judge of them.

>>> from lgatr.testing import assert_equivariant, report
>>> assert_equivariant(net, (multivectors, scalars))
>>> print(report(tagger, fourmomenta, inputs="vector", outputs="scalar"))
"""

from lgatr.testing.equivariance import assert_equivariant, equivariance_error
from lgatr.testing.groups import GROUPS, Group
from lgatr.testing.representations import REPRESENTATIONS, transform
from lgatr.testing.symmetry_report import SymmetryReport, report
from lgatr.testing.transformations import (
    PARITY,
    TIME_REVERSAL,
    boost,
    random_boost,
    random_lorentz,
    random_momenta,
    random_rotation,
    rotation,
)

__all__ = [
    "GROUPS",
    "PARITY",
    "REPRESENTATIONS",
    "TIME_REVERSAL",
    "Group",
    "SymmetryReport",
    "assert_equivariant",
    "boost",
    "equivariance_error",
    "random_boost",
    "random_lorentz",
    "random_momenta",
    "random_rotation",
    "report",
    "rotation",
    "transform",
]
