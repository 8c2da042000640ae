"""Which symmetry group and which bilinear operations a network uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lgatr.algebra import NUM_GRADES
from lgatr.utils.arguments import check_flags
from lgatr.utils.config import cast_config
from lgatr.utils.legacy import GATrConfig as LGATrConfig
from lgatr.utils.legacy import gatr_config

__all__ = ["LGATrConfig", "PrimitivesConfig", "gatr_config", "primitives_config"]


@dataclass(frozen=True)
class PrimitivesConfig:
    """Choices shared by all layers of a network.

    Parameters
    ----------
    subgroup
        If True, equivariance holds under the connected subgroup SO+(1,3) and linear layers use
        all ten maps; if False, also under parity and time reversal, with five maps.
    bivector
        If False, the bivector part of every geometric product is set to zero (for studies).
    geometric_product
        If False, the bilinear layer of the MLP is replaced by a gate and a linear layer (for
        studies).
    sparse_gp, sparse_linear
        Accepted for compatibility; every path here is sparse already, results do not change.
    """

    subgroup: bool = True
    bivector: bool = True
    geometric_product: bool = True
    sparse_gp: bool = True
    sparse_linear: bool = False

    def __post_init__(self) -> None:
        check_flags(**vars(self))

    @property
    def num_pin_linear_basis_elements(self) -> int:
        """Number of independent equivariant linear maps between two multivectors: 10 or 5."""
        return 2 * NUM_GRADES if self.subgroup else NUM_GRADES


def primitives_config(value: PrimitivesConfig | Mapping[str, Any] | None) -> PrimitivesConfig:
    """The configuration from an object or a mapping; None means the defaults."""
    if value is None:
        return PrimitivesConfig(**gatr_config.defaults)
    return cast_config(PrimitivesConfig, value)
