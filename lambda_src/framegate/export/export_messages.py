"""What comes to the export function by its queue: events of HealthImaging, and messages of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from framegate.delivery.deferred_store import STORE_FRAME
from framegate.export.exporter import ExportOrder
from framegate.export.manifest import progress_prefix
from framegate.identifiers import FrameRef, ImageSetRef

EXPORT, REMOVE = "export", "remove"
"""What a message of our own asks for; `STORE_FRAME` is the third."""

CREATED, UPDATED, COPIED = "Created", "Updated", "Copied"
"""What can happen to an image set, as HealthImaging's events name it after ``Image Set``."""

MAX_VERSION_DIGITS = 10


class UnknownMessageError(ValueError):
    """A message that is none of these; it goes to the dead-letter queue, for a person to look at."""


@dataclass(frozen=True, slots=True)
class ImageSetChange:
    """HealthImaging has ``Created``, ``Updated`` or ``Copied`` an image set; `order` would export it."""

    kind: str
    order: ExportOrder


@dataclass(frozen=True, slots=True)
class Removal:
    """An image set to remove; ``again`` where this is the second time."""

    image_set: ImageSetRef
    again: bool = False


def parse(message: dict[str, Any], *, verify: bool) -> ImageSetChange | ExportOrder | Removal | FrameRef:
    """Read a message: an image set that changed, one to export, one to remove, or a frame to store.

    Parameters
    ----------
    message : dict
        The message's body.
    verify : bool
        Whether exports on events are verified.

    Raises
    ------
    UnknownMessageError
        If it is something else.
    InvalidIdentifier
        If an identifier in it is malformed.

    References
    ----------
    AWS HealthImaging developer guide, "Using Amazon EventBridge with HealthImaging". There, the image set is
    ``imagesetId`` in the detail; the API spells it ``imageSetId``. The ARN in ``resources`` can name another one.
    """
    try:
        match message.get("framegate"), message.get("detail-type"):
            case wanted, _ if wanted == EXPORT:
                return order_of(message)
            case wanted, _ if wanted == REMOVE:
                return Removal(_image_set(message), again=bool(message["again"]))
            case wanted, _ if wanted == STORE_FRAME:
                return FrameRef(message["datastoreId"], message["imageSetId"], message["imageFrameId"])
            case None, "Image Set Deleted":
                return Removal(_image_set(message["detail"]))
            case None, str(happened) if happened.removeprefix("Image Set ") in (CREATED, UPDATED, COPIED):
                return ImageSetChange(happened.removeprefix("Image Set "), _order_of_event(message["detail"], verify))
    except (KeyError, TypeError, AttributeError):
        pass
    raise UnknownMessageError("The message is neither an event of HealthImaging's nor one of Framegate's own.")


def _order_of_event(detail: dict[str, Any], verify: bool) -> ExportOrder:
    version_id = _version_id(detail.get("imageSetVersion"))
    return ExportOrder(_image_set(detail), f"version-{version_id or 'latest'}", version_id, verify=verify)


def _version_id(value: object) -> str | None:
    """The version that an event names, None if it names none.

    The documentation has a decimal number in a string. Anything else would end up in a URL and a key.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or len(text) > MAX_VERSION_DIGITS or not (text.isascii() and text.isdecimal()):
        return None
    return str(int(text))


def _image_set(holder: dict[str, Any]) -> ImageSetRef:
    return ImageSetRef(holder["datastoreId"], holder.get("imagesetId") or holder["imageSetId"])


def order_of(document: dict[str, Any]) -> ExportOrder:
    """An order as `order_document` writes it.

    Raises
    ------
    KeyError, TypeError, AttributeError
        If it is none, or if its progress is not that of its image set: an export removes its progress when it is over.
    InvalidIdentifier
        If an identifier in it is malformed.
    """
    frame_ids = document["imageFrameIds"]
    progress = document["progress"]
    if progress is not None and not progress.startswith(progress_prefix(_image_set(document))):
        raise KeyError("progress")
    return ExportOrder(
        _image_set(document),
        document["exportId"],
        document["versionId"],
        None if frame_ids is None else tuple(frame_ids),
        document["verify"],
        progress,
    )


def order_document(order: ExportOrder) -> dict[str, Any]:
    """An order, to go on with in another invocation."""
    return {
        "framegate": EXPORT,
        "datastoreId": order.image_set.datastore_id,
        "imageSetId": order.image_set.image_set_id,
        "exportId": order.export_id,
        "versionId": order.version_id,
        "imageFrameIds": order.image_frame_ids,
        "verify": order.verify,
        "progress": order.progress,
    }


def removal_document(image_set: ImageSetRef) -> dict[str, Any]:
    """A second removal of an image set."""
    return {
        "framegate": REMOVE,
        "datastoreId": image_set.datastore_id,
        "imageSetId": image_set.image_set_id,
        "again": True,
    }
