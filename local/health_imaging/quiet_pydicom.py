"""Serializes the use of pydicom, and silences its warnings, because the emulator reports problems itself."""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = threading.RLock()
"""Python's warning filters are global, and reading a data set converts its values in place."""

logging.getLogger("pydicom").setLevel(logging.CRITICAL)


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Hold the lock of pydicom, without its warnings."""
    with _LOCK, warnings.catch_warnings(action="ignore"):
        yield
