"""Files of other people, described in YAML: which field of them holds what.

``description`` is what the YAML may say, ``expressions`` the arithmetic in it, ``sources`` open
files of each kind, ``reader`` reads entries and ``assembly`` makes jets of them; ``sample`` is a
description with its files.
"""
