"""From physics objects to multivectors and back."""

from lgatr.interface.axialvector import embed_axialvector, extract_axialvector
from lgatr.interface.bivector import embed_bivector, extract_bivector
from lgatr.interface.pseudoscalar import embed_pseudoscalar, extract_pseudoscalar
from lgatr.interface.scalar import embed_scalar, extract_scalar
from lgatr.interface.spurions import get_num_spurions, get_spurions
from lgatr.interface.vector import embed_vector, extract_vector

__all__ = [
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
