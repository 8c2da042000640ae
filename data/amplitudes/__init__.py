"""Scattering amplitudes in closed form, on events of flat phase space.

Momenta are ``(events, particles, 4)`` in the order (E, px, py, pz), in GeV and float64: two
incoming particles, then the outgoing ones.
"""
