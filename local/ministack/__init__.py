"""Adds behaviour of AWS that MiniStack lacks: ``python -m local.ministack``, in MiniStack's own virtual environment.

Each module adds one behaviour: it defines functions that `patching` puts in place of MiniStack's.
"""
