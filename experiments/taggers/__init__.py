"""Trained taggers as one thing: what they take, the network, its weights, and what came out."""

from experiments.taggers.tagger import Tagger

__all__ = ["Tagger"]
