"""Velocity fields of flows: from events on their way to how they move on."""
