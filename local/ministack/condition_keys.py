"""``events:source``, a condition key of ``events:PutEvents`` that MiniStack's policies do not know.

Where policies are enforced, a statement with a key that is not known allows nothing.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from ministack.core import iam_actions  # type: ignore[import-not-found]

_request_tag_context = iam_actions.request_tag_context


def extend() -> None:
    """Let policies have conditions on the source of the events that are sent."""
    iam_actions.request_tag_context = request_tag_context


def request_tag_context(service: str, action: str, body: bytes, parameters: Any) -> dict[str, Any]:
    """The condition keys that are read from a request."""
    context: dict[str, Any] = _request_tag_context(service, action, body, parameters)
    if action == "events:PutEvents":
        # A request of another form is refused by the service itself.
        with suppress(ValueError, KeyError, TypeError):
            sources = {str(entry["Source"]) for entry in json.loads(body)["Entries"]}
            context["events:source"] = sources.pop() if len(sources) == 1 else sorted(sources)
    return context
