"""Where the project is, and the data stores that the tests deploy it for."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DATASTORE_A = "a" * 32
DATASTORE_B = "0123456789abcdef0123456789abcdef"
