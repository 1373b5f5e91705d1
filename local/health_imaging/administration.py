"""Serves the emulator's own paths under ``/_emulator/``: faults and calls over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from local.health_imaging.answers import json_answer
from local.health_imaging.faults import Fault

if TYPE_CHECKING:
    from local.health_imaging.answers import Answer
    from local.health_imaging.service import HealthImagingService


def administer(service: HealthImagingService, method: str, path: str, content: bytes) -> Answer:
    """Answer a request to the emulator itself."""
    match method, path:
        case "GET", "/_emulator/faults":
            return json_answer({"faults": service.faults.to_json()})
        case "POST", "/_emulator/faults":
            try:
                service.faults.arm(Fault.from_json(json.loads(content)))
            except (ValueError, TypeError) as error:
                return json_answer({"message": str(error)}, 400)
            return json_answer({"faults": service.faults.to_json()})
        case "DELETE", "/_emulator/faults":
            service.faults.clear()
            return json_answer({})
        case "GET", "/_emulator/calls":
            return json_answer({"calls": [call.to_json() for call in service.calls]})
        case "DELETE", "/_emulator/calls":
            service.calls.clear()
            return json_answer({})
    return json_answer({"message": "Use GET, POST or DELETE /_emulator/faults, or GET or DELETE /_emulator/calls"}, 404)
