"""What a client requests of a frame."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from framegate.delivery.portions import Portion

if TYPE_CHECKING:
    from framegate.delivery.portions import ByteRange, Selection


class DeliveryMode(StrEnum):
    """How the client wants the frame: in the response, by pre-signed URL, or as its size decides."""

    AUTO = "auto"
    INLINE = "inline"
    URL = "url"


NAMED_MODES = tuple(mode for mode in DeliveryMode if mode is not DeliveryMode.AUTO)
"""The modes that a request can name. Without a name, the frame's size decides."""


class Negotiation(Protocol):
    """What the client accepts. Delivery asks as soon as it knows the frame's media type, before it reads a byte."""

    def require_acceptable(self, content_type: str) -> None:
        """Raise a problem if the client accepts no representation of a frame with this media type."""

    def sends_bytes(self, content_type: str) -> bool:
        """Whether the client gets the frame's own bytes. Byte ranges do not apply to a JSON document."""


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """What a client requests of a frame.

    Attributes
    ----------
    mode : DeliveryMode
        How to deliver the frame.
    negotiation : Negotiation
        What the client accepts.
    selection : Selection, optional
        The levels to deliver. A URL always leads to the whole frame.
    byte_range : ByteRange, optional
        The bytes of the frame, or of the selection, to deliver.
    headers_only : bool
        Whether the client needs no body (HEAD). A frame of known length is then not read.
    request_id : str, optional
        API Gateway's id of the request, which a pre-signed URL carries into S3's access log.
    """

    mode: DeliveryMode
    negotiation: Negotiation
    selection: Selection | None = None
    byte_range: ByteRange | None = None
    headers_only: bool = False
    request_id: str | None = None

    @property
    def is_partial(self) -> bool:
        """Whether delivery may stop reading before the frame's end."""
        return self.mode is not DeliveryMode.URL and (
            self.selection is not None or self.byte_range is not None or self.headers_only
        )

    @property
    def whole_portion(self) -> Portion | None:
        """How the whole frame answers the request; None if the request selects no levels."""
        return Portion(is_whole=True) if self.selection else None

    def range_for(self, content_type: str) -> ByteRange | None:
        """The byte range that applies to a frame with this media type.

        Raises
        ------
        Problem
            As `Negotiation.require_acceptable` raises it.
        """
        self.negotiation.require_acceptable(content_type)
        if self.mode is DeliveryMode.URL or not self.negotiation.sends_bytes(content_type):
            return None
        return self.byte_range
