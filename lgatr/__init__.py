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
from lgatr.layers import CrossAttentionConfig, MLPConfig, SelfAttentionConfig
from lgatr.nets import ConditionalLGATr, ConditionalLGATrSlim, LGATr, LGATrSlim
from lgatr.nets.checkpoint import load_checkpoint
from lgatr.primitives import PrimitivesConfig
from lgatr.utils.autocast import naive_amp
from lgatr.utils.legacy import gatr_config

__version__ = "2.1.0"

__all__ = [
    "AttentionSpec",
    "ConditionalLGATr",
    "ConditionalLGATrSlim",
    "CrossAttentionConfig",
    "LGATr",
    "LGATrSlim",
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
    "gatr_config",
    "get_num_spurions",
    "get_spurions",
    "load_checkpoint",
    "naive_amp",
]
