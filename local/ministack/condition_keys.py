"""Adds ``events:source``, the condition key of ``events:PutEvents``, to the policies that MiniStack evaluates."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ministack.core import iam_actions  # type: ignore[import-not-found]

from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

patches = Patches()


@patches.replaces(
    iam_actions,
    "request_tag_context",
    digest="d46adb816e02",
    why="MiniStack does not know events:source, and statements with an unknown condition key allow nothing",
)
def request_tag_context(
    original: Callable[..., dict[str, Any]], service: str, action: str, body: bytes, parameters: Any
) -> dict[str, Any]:
    """Read the condition keys from a request."""
    context = original(service, action, body, parameters)
    if action == "events:PutEvents":
        # The service itself rejects a malformed request.
        with suppress(ValueError, KeyError, TypeError):
            sources = {str(entry["Source"]) for entry in json.loads(body)["Entries"]}
            context["events:source"] = sources.pop() if len(sources) == 1 else sorted(sources)
    return context
