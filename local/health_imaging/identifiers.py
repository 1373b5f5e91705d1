"""The identifiers of data stores, image sets, image frames and import jobs."""

from __future__ import annotations

import os
import re
import string

from local.health_imaging.errors import ServiceError

_ALPHABET = string.digits + string.ascii_lowercase
_IDENTIFIER = re.compile(r"[0-9a-z]{32}")


def new_identifier() -> str:
    """A new identifier: 32 characters of 0-9 and a-z."""
    # Every answer carries one, so this must be fast: a random choice for each character is not.
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(32))


def check_identifier(name: str, value: str) -> None:
    """Check the form of an identifier.

    Raises
    ------
    ServiceError
        If it is not 32 characters of 0-9 and a-z; the message says which parameter is wrong.
    """
    if not _IDENTIFIER.fullmatch(value):
        raise ServiceError("ValidationException", f"{name} must match [0-9a-z]{{32}}")
