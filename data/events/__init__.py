"""Whole events of few particles and jets: what generators of events are trained on."""
