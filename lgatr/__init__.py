"""Equivariant transformers for particle physics over the geometric algebra Cl(1,3)."""

from lgatr.attention import AttentionSpec, Packing
from lgatr.interface import (
    embed_axialvector,
    embed_bivector,
    embed_pseudoscalar,
    embed_scalar,
    embed_vector,
    extract_axialvector,
    extract_bivector,
    extract_pseudoscalar,
    extract_scalar,
    extract_vector,
    get_num_spurions,
    get_spurions,
)
from lgatr.layers import MLPConfig, SelfAttentionConfig
from lgatr.nets import LGATr
from lgatr.primitives import PrimitivesConfig

__version__ = "2.1.0"

__all__ = [
    "AttentionSpec",
    "LGATr",
    "MLPConfig",
    "Packing",
    "PrimitivesConfig",
    "SelfAttentionConfig",
    "embed_axialvector",
    "embed_bivector",
    "embed_pseudoscalar",
    "embed_scalar",
    "embed_vector",
    "extract_axialvector",
    "extract_bivector",
    "extract_pseudoscalar",
    "extract_scalar",
    "extract_vector",
    "get_num_spurions",
    "get_spurions",
]
