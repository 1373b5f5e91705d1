"""Tells functions under which URL the client sees the API, as API Gateway does.

API Gateway developer guide, "Input format of a Lambda function for proxy integration": ``requestContext.path`` is the
path of the request, and ``X-Forwarded-Proto`` its scheme. MiniStack's own URLs have a path before the stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services import apigateway_v1  # type: ignore[import-not-found]

from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

patches = Patches()


@patches.replaces(
    apigateway_v1,
    "_build_lambda_event_v1",
    digest="c7ac97b91f6e",
    why="MiniStack leaves the beginning of its paths and the scheme out of the event",
)
def build_lambda_event(
    original: Callable[..., Any], api_id: str, stage_name: str, *arguments: Any, **options: Any
) -> Any:
    """Build the event of a proxy integration, and complete the URL in it."""
    event = original(api_id, stage_name, *arguments, **options)
    host = event["headers"].get("host", "")
    if not host.startswith(f"{api_id}."):
        context = event["requestContext"]
        context["path"] = f"/_aws/execute-api/{api_id}{context['path']}"
    event["headers"].setdefault("x-forwarded-proto", "http")
    event["multiValueHeaders"].setdefault("x-forwarded-proto", ["http"])
    return event
