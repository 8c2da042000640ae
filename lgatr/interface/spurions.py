"""Reference multivectors that break the Lorentz symmetry at the input (spurions)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lgatr.algebra import BLADES
from lgatr.interface.bivector import embed_bivector
from lgatr.interface.vector import embed_vector
from lgatr.utils.arguments import check_flags
from lgatr.utils.devices import checked_device

_BEAM_ENERGY = {"lightlike": 1.0, "spacelike": 0.0, "timelike": math.sqrt(2.0)}
_XY = BLADES.index((1, 2)) - BLADES.index((0, 1))
BEAM_OPTIONS = (*_BEAM_ENERGY, "xyplane", None)


def get_num_spurions(
    beam_spurion: str | None = "xyplane", add_time_spurion: bool = True, beam_mirror: bool = True
) -> int:
    """How many multivectors :func:`get_spurions` returns for these options."""
    return len(get_spurions(beam_spurion, add_time_spurion, beam_mirror))


def get_spurions(
    beam_spurion: str | None = "xyplane",
    add_time_spurion: bool = True,
    beam_mirror: bool = True,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Reference multivectors for the beam axis and the laboratory frame.

    Parameters
    ----------
    beam_spurion
        ``"lightlike"``, ``"spacelike"`` or ``"timelike"``: vectors (E, 0, 0, 1) with E = 1, 0,
        sqrt(2); ``"xyplane"``: the bivector e12 of the transverse plane; None: no beam.
    add_time_spurion
        Whether to add the time axis (1, 0, 0, 0).
    beam_mirror
        Whether to add the opposite beam (E, 0, 0, -1) to a beam vector.
    device, dtype
        Of the result.

    Returns
    -------
    ``(num_spurions, 16)``: beams first, then time.

    Raises
    ------
    ValueError
        If an option is none of the above, ``dtype`` has no real numbers, or there is no such
        device.
    """
    if beam_spurion not in BEAM_OPTIONS:
        options = ", ".join(map(str, BEAM_OPTIONS))
        raise ValueError(f"beam_spurion must be one of {options}; not {beam_spurion!r}")
    check_flags(add_time_spurion=add_time_spurion, beam_mirror=beam_mirror)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be one of real floating-point numbers, not {dtype!r}")
    device = checked_device(device)
    spurions = []
    if beam_spurion == "xyplane":
        plane = [0.0] * 6
        plane[_XY] = 1.0
        spurions.append(embed_bivector(torch.tensor(plane, device=device, dtype=dtype)))
    elif beam_spurion is not None:
        energy = _BEAM_ENERGY[beam_spurion]
        for direction in (1.0, -1.0) if beam_mirror else (1.0,):
            beam = torch.tensor([energy, 0.0, 0.0, direction], device=device, dtype=dtype)
            spurions.append(embed_vector(beam))
    if add_time_spurion:
        time = torch.tensor([1.0, 0.0, 0.0, 0.0], device=device, dtype=dtype)
        spurions.append(embed_vector(time))
    return torch.stack(spurions) if spurions else torch.empty(0, 16, device=device, dtype=dtype)
