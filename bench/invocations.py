"""Makes API Gateway events and a Lambda context for handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from bench.origin import DATASTORE, IMAGE_SET

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

OURS, USUAL = "framegate.entrypoints.api.lambda_handler", "bench.usual_handler.lambda_handler"
"""Handlers as Lambda names them: ours and the baseline."""

ROUTE = "/datastore/{datastoreId}/imageSet/{imageSetId}/imageFrame/{imageFrameId}"


def context() -> LambdaContext:
    """Make a context for an invocation."""
    return cast("LambdaContext", _Context())


class _Context:
    """The part of Lambda's context that handlers use."""

    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """The remaining time, which is constant here."""
        return 28_000


def event(frame: str, query: str = "", datastore: str = DATASTORE, **headers: str) -> dict[str, Any]:
    """Make the event of a GET request for a frame."""
    parameters = dict(part.split("=") for part in query.split("&") if part)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    path = {"datastoreId": datastore, "imageSetId": IMAGE_SET, "imageFrameId": frame}
    return {
        "httpMethod": "GET",
        "resource": ROUTE,
        "path": f"/datastore/{datastore}/imageSet/{IMAGE_SET}/imageFrame/{frame}",
        "pathParameters": path,
        "headers": given,
        "multiValueHeaders": {name: [value] for name, value in given.items()},
        "queryStringParameters": parameters or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in parameters.items()} or None,
        "requestContext": {"requestId": "bench", "stage": "v1", "path": "/v1"},
        "body": None,
        "isBase64Encoded": False,
    }
