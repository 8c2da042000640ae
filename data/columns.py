"""Names and units of the columns that jets may have besides their four-momenta.

Converters of all formats use these names, so that models need not know where jets came from.
"""

from __future__ import annotations

PARTICLES = {
    "charge": "electric charge in units of e",
    "is_charged_hadron": "1 for charged hadrons, else 0",
    "is_neutral_hadron": "1 for neutral hadrons, else 0",
    "is_photon": "1 for photons, else 0",
    "is_electron": "1 for electrons and positrons, else 0",
    "is_muon": "1 for muons and antimuons, else 0",
    "d0": "transverse impact parameter in mm, signed; 0 for neutral particles",
    "d0_error": "its uncertainty in mm",
    "dz": "longitudinal impact parameter in mm, signed; 0 for neutral particles",
    "dz_error": "its uncertainty in mm",
}
"""Columns of constituents."""

JETS = {
    "mass": "jet mass after soft drop, in GeV, where the source has it",
    "tau1": "1-subjettiness",
    "tau2": "2-subjettiness",
    "tau3": "3-subjettiness",
    "tau4": "4-subjettiness",
    "true_mass": "mass in GeV of the resonance that decayed in the jet, where the source has it",
    "weight": "of the jet, in losses, metrics and plots",
}
"""Columns of jets."""
