"""``WWW-Authenticate`` of a function's answer, which API Gateway passes on under another name.

API Gateway developer guide, "Amazon API Gateway important notes for REST APIs". The header of a gateway response keeps
its own.
"""

from __future__ import annotations

from typing import Any

from ministack.services import apigateway_v1  # type: ignore[import-not-found]

REMAPPED = {"www-authenticate": "x-amzn-Remapped-WWW-Authenticate"}

_invoke_lambda_proxy = apigateway_v1._invoke_lambda_proxy_v1


def extend() -> None:
    """Let REST APIs rename the header."""
    apigateway_v1._invoke_lambda_proxy_v1 = invoke_lambda_proxy


async def invoke_lambda_proxy(*arguments: Any, **options: Any) -> Any:
    """Call the function of a proxy integration, and rename headers of its answer."""
    answer = await _invoke_lambda_proxy(*arguments, **options)
    if not isinstance(answer, tuple):
        # An error of API Gateway's own, of which a gateway response is made.
        return answer
    status, headers, body = answer
    return status, {REMAPPED.get(name.lower(), name): value for name, value in headers.items()}, body
