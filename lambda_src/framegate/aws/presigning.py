"""Pre-signs URLs that carry the id of the request that got them into S3's access log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REQUEST_ID_PARAMETER = "x-request-id"
"""The query parameter with the id. S3 ignores parameters whose names start with ``x-``, and logs them.

References
----------
Amazon S3 user guide, "Amazon S3 server access log format", "Custom access log information".
"""

_OPERATIONS = ("GetObject", "HeadObject")


def accept_request_ids(client: S3Client) -> None:
    """Let `presigned_url` give request ids to the client. botocore would refuse a parameter that it does not know."""
    handlers: dict[str, Any] = {"provide-client-params": _keep_request_id, "before-sign": _add_request_id}
    for operation in _OPERATIONS:
        for event, handler in handlers.items():
            client.meta.events.register(f"{event}.s3.{operation}", handler)


def presigned_url(
    client: S3Client,
    bucket: str,
    key: str,
    lifetime_seconds: int,
    *,
    cache_control: str | None,
    for_head: bool,
    request_id: str | None,
    content_type: str | None = None,
) -> str:
    """Return a pre-signed URL (SigV4) to GET or HEAD an object. The signature covers the request id, if there is one.

    Parameters
    ----------
    client : S3Client
        Signs the URL. It must accept request ids; see `accept_request_ids`.
    bucket, key : str
        The object.
    lifetime_seconds : int
        Seconds until the URL expires.
    cache_control : str or None
        What S3 answers as Cache-Control, instead of the object's own (Amazon S3 API reference, ``GetObject``,
        ``response-cache-control``).
    for_head : bool
        Whether the URL is for HEAD instead of GET.
    request_id : str or None
        The id to log.
    content_type : str, optional
        What S3 answers as Content-Type, instead of the object's own (``response-content-type``).
    """
    given = {
        "ResponseCacheControl": cache_control,
        "ResponseContentType": content_type,
        REQUEST_ID_PARAMETER: request_id,
    }
    return client.generate_presigned_url(
        "head_object" if for_head else "get_object",
        Params={"Bucket": bucket, "Key": key, **{name: value for name, value in given.items() if value}},
        ExpiresIn=lifetime_seconds,
    )


def _keep_request_id(params: dict[str, Any], context: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Move the request id from the parameters to the context of the call."""
    context[REQUEST_ID_PARAMETER] = params.get(REQUEST_ID_PARAMETER)
    return {name: value for name, value in params.items() if name != REQUEST_ID_PARAMETER}


def _add_request_id(request: Any, **_: Any) -> None:
    """Add the request id to the URL that is about to be signed."""
    if request_id := request.context.get(REQUEST_ID_PARAMETER):
        separator = "&" if "?" in request.url else "?"
        request.url += separator + urlencode({REQUEST_ID_PARAMETER: request_id})
