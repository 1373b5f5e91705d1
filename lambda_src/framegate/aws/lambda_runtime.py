"""Writes responses for Lambda's Python runtime without scanning their base64 for characters to escape."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from framegate.observability import logger

_CLIENT_MODULE = "awslambdaric.lambda_runtime_client"

# Every character of base64, among them those that a JSON encoder might escape.
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=="


@dataclass(frozen=True, slots=True)
class Base64Text:
    """A text that contains base64, in three parts.

    Attributes
    ----------
    before, after : str
        The text around the base64.
    base64 : bytes
        The base64, as ASCII.
    """

    before: str
    base64: bytes
    after: str

    def __str__(self) -> str:
        return f"{self.before}{self.base64.decode('ascii')}{self.after}"


class Marshaller(Protocol):
    """Converts events and responses of the runtime, as ``awslambdaric``'s ``LambdaMarshaller`` does."""

    def unmarshal_request(self, request: Any, content_type: str | None = ...) -> Any:
        """Parse an event."""

    def marshal_response(self, response: Any) -> tuple[str | bytes, str]:
        """Serialise a response; return it with its media type."""


_INTERFACE = {name for name in vars(Marshaller) if not name.startswith("_")}


class Base64Marshaller:
    """Serialises a response whose body is a `Base64Text`, and passes everything else to the original marshaller.

    JSON escapes no character of base64. The original marshaller therefore serialises the response with a placeholder,
    which the base64 then replaces. The document has the same bytes as the original's.

    Parameters
    ----------
    original : Marshaller
        The runtime's own marshaller.
    """

    def __init__(self, original: Marshaller) -> None:
        self._original = original
        # No request can guess it, so it appears nowhere else in a response.
        self._placeholder = secrets.token_hex(16)

    def unmarshal_request(self, request: Any, content_type: str | None = "application/json") -> Any:
        """Parse an event with the original marshaller."""
        return self._original.unmarshal_request(request, content_type)

    def marshal_response(self, response: Any) -> tuple[str | bytes, str]:
        """Serialise a response; return it with its media type. A response with a `Base64Text` loses its body."""
        body = response.get("body") if isinstance(response, dict) else None
        if not isinstance(body, Base64Text):
            return self._original.marshal_response(response)
        text = f"{body.before}{self._placeholder}{body.after}"
        document, media_type = self._original.marshal_response({**response, "body": text})
        before, _, after = str(document).partition(self._placeholder)
        # The runtime keeps the response while it sends the document, so the base64 would take memory until then.
        response["body"] = ""
        # The runtime sends bytes as they are. It would copy a string in order to encode it.
        return b"".join((before.encode(), body.base64, after.encode())), media_type


def install_marshaller() -> bool:
    """Make the runtime that runs this process serialise responses with a `Base64Marshaller`.

    A runtime without `awslambdaric`, or with one that has another interface, remains as it is, and a log line says so.

    Returns
    -------
    bool
        Whether a response may have a `Base64Text` as its body.

    References
    ----------
    ``BaseLambdaRuntimeClient.marshaller`` of ``awslambdaric``: a class attribute that "allows for function authors to
    override the default implementation". Before version 3.1, the attribute is in ``LambdaRuntimeClient``.
    """
    client = getattr(sys.modules.get(_CLIENT_MODULE), "LambdaRuntimeClient", None)
    owner = next((each for each in getattr(client, "__mro__", ()) if "marshaller" in vars(each)), None)
    if owner is None:
        return _not_installed("it has no marshaller")
    marshaller = Base64Marshaller(owner.marshaller)
    try:
        if {name for name in vars(type(owner.marshaller)) if not name.startswith("_")} != _INTERFACE:
            return _not_installed("its marshaller has other methods")
        if not all(_is_identical(marshaller, owner.marshaller, text) for text in _SAMPLES):
            return _not_installed("its marshaller writes other documents")
    except Exception as error:
        return _not_installed(f"its marshaller raised {type(error).__name__}")
    owner.marshaller = marshaller
    return True


_SAMPLES = (Base64Text("", _ALPHABET, ""), Base64Text('{"imageFrameBlob": "', _ALPHABET, '"}'))


def _is_identical(ours: Marshaller, original: Marshaller, body: Base64Text) -> bool:
    response = {"statusCode": 200, "headers": {"Content-Type": "image/jph"}, "isBase64Encoded": True}
    document, media_type = original.marshal_response({**response, "body": str(body)})
    return ours.marshal_response({**response, "body": body}) == (str(document).encode(), media_type)


def _not_installed(reason: str) -> bool:
    logger.info("the runtime serialises responses with its own marshaller", extra={"reason": reason})
    return False
