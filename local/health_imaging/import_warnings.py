"""The warnings that HealthImaging attaches to instances that it imports although they do not conform to DICOM."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class WarningReason(IntEnum):
    """The reasons for a warning, by their codes (developer guide, "HealthImaging Warning Codes")."""

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
    """Why an imported instance is less useful than others, and what is wrong with its file."""

    reason: WarningReason
    message: str

    def to_json(self) -> dict[str, Any]:
        """The warning as ``warning.ndjson`` has it (developer guide, "Understanding import jobs")."""
        return {
            "warning_reason_code": int(self.reason),
            "type": self.reason.name.title().replace("_", ""),
            "message": self.message,
        }
