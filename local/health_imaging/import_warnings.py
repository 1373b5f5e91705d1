"""Defines the warnings that HealthImaging gives for imported instances that do not conform to DICOM."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class WarningReason(IntEnum):
    """The reason for a warning, by its code (developer guide, "HealthImaging Warning Codes")."""

    COERCION_OF_DATA_ELEMENTS = 0xB000
    TRANSCODING_EXCEPTION = 0xB100
    FRAMES_EXTRACTION_FAILURE = 0xB110
    FRAME_NUMBER_MISMATCH = 0xB111
    INVALID_OFFSET_TABLE = 0xB112
    UNSUPPORTED_TRANSFER_SYNTAX = 0xB120
    INVALID_UID_FORMAT = 0xB201
    INVALID_DICOM_VALUE_LENGTH = 0xB202


@dataclass(frozen=True, slots=True)
class InstanceWarning:
    """A warning about an imported instance, and what is wrong with its file."""

    reason: WarningReason
    message: str

    def to_json(self) -> dict[str, Any]:
        """The warning in the form of ``warning.ndjson`` (developer guide, "Understanding import jobs")."""
        return {
            "warning_reason_code": int(self.reason),
            "type": self.reason.name.title().replace("_", ""),
            "message": self.message,
        }
