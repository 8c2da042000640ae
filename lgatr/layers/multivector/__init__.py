"""Layers of the networks on multivectors, with auxiliary scalars."""
