"""Comparisons with the peer and with the machine's limits."""
