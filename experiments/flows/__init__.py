"""Normalizing flows of events: coordinates, base distributions, velocity fields, likelihoods."""
