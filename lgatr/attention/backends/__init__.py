"""Attention backends: each module with a ``BACKEND`` is found by :mod:`lgatr.attention.registry`.

``base`` is their interface; ``cu_seqlens`` and ``dropout`` are shared.
"""
