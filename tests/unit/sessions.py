"""Sessions of botocore for tests. Creating their parts anew takes longer than most tests."""

from __future__ import annotations

from copy import copy
from functools import cache

import botocore.session
from botocore.loaders import create_loader

LOADER = create_loader()
"""Caches the service models."""


@cache
def _session():
    session = botocore.session.Session()
    session.register_component("data_loader", LOADER)
    return session


def new_session():
    """Return a session without credentials that reads the current environment and shares its parts with all others."""
    return copy(_session())
