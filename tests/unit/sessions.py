"""Sessions of botocore for tests."""

from __future__ import annotations

from copy import copy
from functools import cache

import botocore.session


@cache
def _session():
    return botocore.session.Session()


def new_session():
    """Return a session without credentials that reads the current environment.

    It shares its parts with all others, because creating them takes longer than most tests.
    """
    return copy(_session())
