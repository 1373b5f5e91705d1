"""Makes and checks the identifiers of data stores, image sets, image frames and import jobs."""

from __future__ import annotations

import os
import re
import string

from local.health_imaging.errors import ServiceError

_ALPHABET = string.digits + string.ascii_lowercase
_IDENTIFIER = re.compile(r"[0-9a-z]{32}")


def new_identifier() -> str:
    """Make a random identifier: 32 characters, each 0-9 or a-z."""
    # Every response carries one, and `random.choice` for each character is too slow for that.
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(32))


def check_identifier(name: str, value: str) -> None:
    """Check the form of an identifier.

    Raises
    ------
    ServiceError
        ValidationException if it is not 32 characters, each 0-9 or a-z; the message names the parameter.
    """
    if not _IDENTIFIER.fullmatch(value):
        raise ServiceError("ValidationException", f"{name} must match [0-9a-z]{{32}}")
