"""Renames the ``WWW-Authenticate`` header of a function's response, as API Gateway does.

API Gateway developer guide, "Amazon API Gateway important notes for REST APIs". Gateway responses keep the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.services import apigateway_v1  # type: ignore[import-not-found]

from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

REMAPPED = {"www-authenticate": "x-amzn-Remapped-WWW-Authenticate"}

patches = Patches()


@patches.replaces(
    apigateway_v1,
    "_invoke_lambda_proxy_v1",
    digest="5651a96fa7ba",
    why="MiniStack passes WWW-Authenticate on unchanged",
)
async def invoke_lambda_proxy(original: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call the function of a proxy integration, and rename headers of its response."""
    answer = await original(*arguments, **options)
    if not isinstance(answer, tuple):
        # An error of API Gateway itself, which becomes a gateway response.
        return answer
    status, headers, body = answer
    return status, {REMAPPED.get(name.lower(), name): value for name, value in headers.items()}, body
