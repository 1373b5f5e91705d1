"""The messages that Framegate receives and sends: one class each, encoded and decoded here alone.

Five kinds:

- messages of the export queue: `ImageSetChanged` and `ImageSetDeleted`, events of HealthImaging that EventBridge
  delivers; and `ExportOrder` and `RemoveImageSet`, which the export function sends;
- messages of the deferred store queue: `StoreFrame`, which the API function sends;
- messages of the table queue: `ObjectChanged`, events of S3 that EventBridge delivers; and `UpdateTables` and
  `RefreshTables`, which the table function and administrators send;
- tasks of the state machine for request manifests: `ValidateTask`, `ExportTask`, `SummarizeTask`;
- the event that announces the result of an export: `ExportAnnouncement`.

Messages contain HealthImaging's identifiers, keys and counts, and no DICOM attribute.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from framegate.bucket_layout import manifest_key, progress_prefix
from framegate.identifiers import FrameRef, ImageSetRef, is_identifier
from framegate.problems import InvalidIdentifier

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT_SOURCE = "framegate"
"""Source of the events that Framegate puts on the event bus."""

CREATED, UPDATED, COPIED = "Created", "Updated", "Copied"
"""The changes of an image set, as HealthImaging's events name them after ``Image Set``."""

ExportOutput = Literal["frames", "dicom"]
"""What an export stores: single frames, or a DICOM file of each instance."""

OUTPUTS: tuple[ExportOutput, ...] = get_args(ExportOutput)

MAX_VERSION_DIGITS = 10

MAX_IMAGE_SETS_PER_MESSAGE = 100
"""Maximum number of image sets in a message of the table queue: 10 kB of SQS's 1 MiB."""

_IMAGE_SET_EVENT = "Image Set "

# Use fullmatch for each of them: `$` would let a trailing newline through, into a URL and a key.
_VERSION = re.compile(rf"0|[1-9][0-9]{{0,{MAX_VERSION_DIGITS - 1}}}", re.ASCII)
# `ExportRecords` saves progress under a random UUID.
_PROGRESS_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.jsonl")
# AWS Step Functions API reference, "StartExecution": the characters that a name must not contain.
_EXECUTION_NAME = re.compile(r"""[^\s<>{}\[\]?*"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]{1,80}""")


class UnknownMessageError(ValueError):
    """The message has none of the known formats. It ends in the dead-letter queue, for a person to look at."""


class UnknownTaskError(ValueError):
    """The task has none of the known formats: the state machine and the function are of different releases."""

    def __init__(self) -> None:
        super().__init__("The state machine and this function are of different releases.")


@dataclass(frozen=True, slots=True)
class ImageSetChanged:
    """HealthImaging created, updated or copied an image set.

    Parameters
    ----------
    change : str
        ``Created``, ``Updated`` or ``Copied``.
    image_set : ImageSetRef
        The image set.
    version_id : str or None
        The version that the change made, a decimal number; None if the event has no valid version.
    is_primary : bool or None
        Whether DICOMweb uses the image set without being asked for it; None if the event does not tell.

    References
    ----------
    AWS HealthImaging developer guide, "Using Amazon EventBridge with HealthImaging". There, the image set is
    ``imagesetId`` in the detail; the API spells it ``imageSetId``. The ARN in ``resources`` can name another one.
    """

    change: str
    image_set: ImageSetRef
    version_id: str | None
    is_primary: bool | None = None

    @staticmethod
    def detail_type(change: str) -> str:
        """Return the detail type of the event of a change."""
        return f"{_IMAGE_SET_EVENT}{change}"

    def to_json(self) -> dict[str, Any]:
        """Return the members of HealthImaging's event that Framegate reads."""
        version = {} if self.version_id is None else {"imageSetVersion": self.version_id}
        primary = {} if self.is_primary is None else {"isPrimary": self.is_primary}
        return {
            "detail-type": self.detail_type(self.change),
            "detail": {**_image_set_detail(self.image_set), **version, **primary},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ImageSetChanged:
        """Read the event; see `decode` for errors."""
        detail = document["detail"]
        change = document["detail-type"].removeprefix(_IMAGE_SET_EVENT)
        is_primary = detail.get("isPrimary")
        return cls(
            change,
            _image_set(detail),
            _version_id(detail.get("imageSetVersion")),
            is_primary if isinstance(is_primary, bool) else None,
        )


@dataclass(frozen=True, slots=True)
class ImageSetDeleted:
    """HealthImaging deleted an image set; the same guide describes the event."""

    DETAIL_TYPE: ClassVar = "Image Set Deleted"

    image_set: ImageSetRef

    def to_json(self) -> dict[str, Any]:
        """Return the members of HealthImaging's event that Framegate reads."""
        return {"detail-type": self.DETAIL_TYPE, "detail": _image_set_detail(self.image_set)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ImageSetDeleted:
        """Read the event; see `decode` for errors."""
        return cls(_image_set(document["detail"]))


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """An export to run, from its start or from where an earlier invocation stopped.

    Parameters
    ----------
    image_set : ImageSetRef
        The image set.
    export_id : str
        Names the export among those of the image set, in the key of its manifest.
    version_id : str or None
        The image set's version; None exports the latest.
    image_frame_ids : tuple of str, or None
        The frames to export; None exports all.
    verify : bool
        Whether to decode lossless frames and compare their pixels with HealthImaging's checksums.
    progress : str or None
        Key of the progress that an earlier invocation saved.
    output : ExportOutput
        What to store: frames, or a DICOM file of each instance. DICOM files always have the latest version.
    is_primary : bool or None
        What the event that caused the export says about the image set; see `ImageSetChanged`. The message does not have
        it: the first invocation uses it.
    """

    KIND: ClassVar = "export"

    image_set: ImageSetRef
    export_id: str
    version_id: str | None = None
    image_frame_ids: tuple[str, ...] | None = None
    verify: bool = False
    progress: str | None = None
    output: ExportOutput = "frames"
    is_primary: bool | None = field(default=None, compare=False)

    @classmethod
    def on_change(cls, changed: ImageSetChanged, *, verify: bool, output: ExportOutput = "frames") -> ExportOrder:
        """Return the order for the version that a change made."""
        order = cls.of_version(changed.image_set, changed.version_id, verify=verify, output=output)
        return replace(order, is_primary=changed.is_primary)

    @classmethod
    def of_version(
        cls,
        image_set: ImageSetRef,
        version_id: str | None,
        *,
        verify: bool,
        progress: str | None = None,
        output: ExportOutput = "frames",
    ) -> ExportOrder:
        """Return the order for all frames or instances of a version; None is the latest."""
        # Each output has its own manifest.
        suffix = "" if output == "frames" else f"-{output}"
        export_id = f"version-{version_id or 'latest'}{suffix}"
        return cls(image_set, export_id, version_id, verify=verify, progress=progress, output=output)

    def to_json(self) -> dict[str, Any]:
        """Return the message that continues the export in another invocation."""
        return {
            "framegate": self.KIND,
            **_names_of(self.image_set),
            "exportId": self.export_id,
            "versionId": self.version_id,
            "imageFrameIds": self.image_frame_ids,
            "verify": self.verify,
            "progress": self.progress,
            **({} if self.output == "frames" else {"output": self.output}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ExportOrder:
        """Read the message; see `decode` for errors.

        Every member is checked as a whole. The message can only continue an export on an event, which exports all
        frames of a version: a message for some frames would replace the manifest of all.
        """
        image_set, version_id = _image_set(document), document["versionId"]
        _require(version_id is None or _matches(_VERSION, version_id))
        progress, verify = document["progress"], document["verify"]
        _require(progress is None or _is_progress_of(image_set, progress))
        output = document.get("output", "frames")
        _require(isinstance(verify, bool) and output in OUTPUTS)
        order = cls.of_version(image_set, version_id, verify=verify, progress=progress, output=output)
        _require(document["exportId"] == order.export_id and document["imageFrameIds"] is None)
        return order


@dataclass(frozen=True, slots=True)
class RemoveImageSet:
    """An image set to remove from the bucket.

    Parameters
    ----------
    image_set : ImageSetRef
        The image set.
    again : bool
        Whether this is the second removal, for what was stored while the first one ran.
    """

    KIND: ClassVar = "remove"

    image_set: ImageSetRef
    again: bool

    def to_json(self) -> dict[str, Any]:
        """Return the message."""
        return {"framegate": self.KIND, **_names_of(self.image_set), "again": self.again}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RemoveImageSet:
        """Read the message; see `decode` for errors."""
        _require(isinstance(document["again"], bool))
        return cls(_image_set(document), document["again"])


@dataclass(frozen=True, slots=True)
class StoreFrame:
    """A frame, too large for a request, to store in the bucket."""

    KIND: ClassVar = "store-frame"

    frame: FrameRef

    def to_json(self) -> dict[str, Any]:
        """Return the message."""
        return {"framegate": self.KIND, **_names_of(self.frame), "imageFrameId": self.frame.image_frame_id}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> StoreFrame:
        """Read the message; see `decode` for errors."""
        return cls(FrameRef(document["datastoreId"], document["imageSetId"], document["imageFrameId"]))


@dataclass(frozen=True, slots=True)
class ObjectChanged:
    """S3 stored or removed an object that belongs to an image set.

    Parameters
    ----------
    image_set : ImageSetRef
        The image set.
    is_removal : bool
        Whether the object was removed, by a call or because it expired.

    References
    ----------
    Amazon S3 user guide, "Using EventBridge": "EventBridge event message structure".
    """

    STORED: ClassVar = "Object Created"
    REMOVED: ClassVar = "Object Deleted"

    image_set: ImageSetRef
    is_removal: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the members of S3's event that Framegate reads."""
        key = manifest_key(self.image_set, "version-1")
        return {"detail-type": self.REMOVED if self.is_removal else self.STORED, "detail": {"object": {"key": key}}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ObjectChanged:
        """Read the event; see `decode` for errors."""
        return cls(_image_set_of_key(document["detail"]["object"]["key"]), document["detail-type"] == cls.REMOVED)


@dataclass(frozen=True, slots=True)
class UpdateTables:
    """Image sets whose rows in the tables may be out of date."""

    KIND: ClassVar = "update-tables"

    image_sets: tuple[ImageSetRef, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the message."""
        return {"framegate": self.KIND, "imageSets": [_names_of(each) for each in self.image_sets]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> UpdateTables:
        """Read the message; see `decode` for errors."""
        image_sets = document["imageSets"]
        _require(isinstance(image_sets, list) and 0 < len(image_sets) <= MAX_IMAGE_SETS_PER_MESSAGE)
        return cls(tuple(_image_set(each) for each in image_sets))


@dataclass(frozen=True, slots=True)
class RefreshTables:
    """A data store, all of whose rows in the tables may be out of date.

    Parameters
    ----------
    datastore_id : str
        The data store.
    after : str
        The key after which to continue, among the keys of manifests and then of homes; empty to begin.
    """

    KIND: ClassVar = "refresh-tables"

    datastore_id: str
    after: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the message."""
        return {
            "framegate": self.KIND,
            "datastoreId": self.datastore_id,
            **({"after": self.after} if self.after else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RefreshTables:
        """Read the message; see `decode` for errors."""
        datastore_id, after = document["datastoreId"], document.get("after", "")
        _require(isinstance(datastore_id, str) and is_identifier(datastore_id) and isinstance(after, str))
        return cls(datastore_id, after)


QueueMessage = (
    ImageSetChanged
    | ImageSetDeleted
    | ExportOrder
    | RemoveImageSet
    | StoreFrame
    | ObjectChanged
    | UpdateTables
    | RefreshTables
)
"""A message of the export queue, of the deferred store queue, or of the table queue."""

EXPORT_MESSAGES: tuple[type[QueueMessage], ...] = (ImageSetChanged, ImageSetDeleted, ExportOrder, RemoveImageSet)
"""The messages of the export queue. The API function cannot send to it."""

DEFERRED_STORE_MESSAGES: tuple[type[QueueMessage], ...] = (StoreFrame,)
"""The messages of the deferred store queue."""

TABLE_MESSAGES: tuple[type[QueueMessage], ...] = (ObjectChanged, UpdateTables, RefreshTables)
"""The messages of the table queue. Only EventBridge, the table function and administrators can send to it."""

_OWN_MESSAGES: dict[str, type[ExportOrder | RemoveImageSet | StoreFrame | UpdateTables | RefreshTables]] = {
    each.KIND: each for each in (ExportOrder, RemoveImageSet, StoreFrame, UpdateTables, RefreshTables)
}
_EVENTS: dict[str, type[ImageSetChanged | ImageSetDeleted | ObjectChanged]] = {
    ObjectChanged.STORED: ObjectChanged,
    ObjectChanged.REMOVED: ObjectChanged,
    **{ImageSetChanged.detail_type(change): ImageSetChanged for change in (CREATED, UPDATED, COPIED)},
    ImageSetDeleted.DETAIL_TYPE: ImageSetDeleted,
}


def encode(message: QueueMessage) -> str:
    """Return the body of a message of a queue."""
    return json.dumps(message.to_json())


def decode(body: str) -> QueueMessage:
    """Read the body of a message of a queue.

    Raises
    ------
    UnknownMessageError
        If it is neither an event of HealthImaging nor a message of Framegate, or has a malformed member. The error
        repeats nothing of the body.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise UnknownMessageError("The message is not JSON.") from None
    if not isinstance(document, dict):
        raise UnknownMessageError("The message is not a JSON object.")
    own = document.get("framegate")
    try:
        format_: type[QueueMessage] = _EVENTS[document["detail-type"]] if own is None else _OWN_MESSAGES[own]
        return format_.from_json(document)
    except InvalidIdentifier as invalid:
        raise UnknownMessageError(invalid.description) from None
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UnknownMessageError(
            "The message is neither an event of HealthImaging nor a message of Framegate."
        ) from None


@dataclass(frozen=True, slots=True)
class ValidateTask:
    """Checks the lines of a request manifest.

    Parameters
    ----------
    key : str
        The manifest's key.
    execution : str
        Name of the state machine's execution.
    """

    TASK: ClassVar = "validate"

    key: str
    execution: str

    def to_json(self) -> dict[str, Any]:
        """Return the task as the state machine passes it."""
        return {"task": self.TASK, "key": self.key, "execution": self.execution}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ValidateTask:
        """Read the task; see `decode_task` for errors."""
        return cls(document["key"], document["execution"])


@dataclass(frozen=True, slots=True)
class ExportTask:
    """Exports the image set of one line of a request manifest.

    Parameters
    ----------
    execution : str
        Name of the state machine's execution.
    line : int
        Number of the line, from 1.
    request : mapping
        The line's members, as the validation wrote them.
    progress : str or None
        Key of the progress that an earlier invocation saved.
    final : bool
        Whether this is the last attempt, which gives up what fails.
    """

    TASK: ClassVar = "export"

    execution: str
    line: int
    request: Mapping[str, Any]
    progress: str | None
    final: bool

    def to_json(self) -> dict[str, Any]:
        """Return the task as the state machine passes it."""
        return {
            "task": self.TASK,
            "execution": self.execution,
            "request": {"line": self.line, **self.request},
            "progress": self.progress or "",
            "final": self.final,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ExportTask:
        """Read the task; see `decode_task` for errors."""
        return cls(
            document["execution"],
            document["request"]["line"],
            cls.request_of(document),
            document["progress"] or None,
            document["final"],
        )

    @staticmethod
    def request_of(document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the line's members from a task as the state machine passes it."""
        return {name: value for name, value in document["request"].items() if name != "line"}

    def order(self, *, verify: bool) -> ExportOrder:
        """Return the order for the line's export.

        Parameters
        ----------
        verify : bool
            Whether to verify pixels even if the line does not ask for it.

        Raises
        ------
        InvalidIdentifier
            If an identifier is malformed.
        UnknownTaskError
            If another member is malformed.
        """
        image_set, version_id = _image_set(self.request), self.request.get("versionId")
        frame_ids = self.request.get("imageFrameIds")
        if not (
            _matches(_EXECUTION_NAME, self.execution)
            and isinstance(self.line, int)
            and (version_id is None or _matches(_VERSION, version_id))
            and (self.progress is None or _is_progress_of(image_set, self.progress))
            and self.request.get("output", "frames") in OUTPUTS
        ):
            raise UnknownTaskError
        return ExportOrder(
            image_set,
            f"{self.execution}-{self.line}",
            version_id,
            None if frame_ids is None else tuple(frame_ids),
            verify or self.request.get("verify", False),
            self.progress,
            self.request.get("output", "frames"),
        )


@dataclass(frozen=True, slots=True)
class ValidatedManifest:
    """The answer to `ValidateTask`: where the checked lines are, and how many.

    Parameters
    ----------
    bucket : str
        The bucket of all keys.
    key : str
        Key of the request manifest.
    prefix : str
        Prefix of the keys of all results.
    accepted_key, rejected_key : str
        Keys of the accepted and the rejected lines.
    accepted, rejected : int
        Number of lines. Every line that is not blank is one or the other.
    listed : int
        Number of rejected lines under `rejected_key`.
    """

    bucket: str
    key: str
    prefix: str
    accepted_key: str
    accepted: int
    rejected_key: str
    rejected: int
    listed: int

    @property
    def request(self) -> dict[str, str]:
        """Bucket and key of the request manifest, as summaries have them."""
        return {"bucket": self.bucket, "key": self.key}

    def to_json(self) -> dict[str, Any]:
        """Return the answer as the state machine passes it."""
        rejected = {"bucket": self.bucket, "key": self.rejected_key, "count": self.rejected, "listed": self.listed}
        return {
            "prefix": self.prefix,
            "accepted": {"bucket": self.bucket, "key": self.accepted_key, "count": self.accepted},
            "rejected": rejected,
            "request": self.request,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ValidatedManifest:
        """Read the answer; see `decode_task` for errors.

        An execution that an earlier release started has no ``listed``; that release listed every rejected line.
        """
        accepted, rejected, request = document["accepted"], document["rejected"], document["request"]
        return cls(
            request["bucket"],
            request["key"],
            document["prefix"],
            accepted["key"],
            accepted["count"],
            rejected["key"],
            rejected["count"],
            rejected.get("listed", rejected["count"]),
        )


@dataclass(frozen=True, slots=True)
class SummarizeTask:
    """Summarizes the results of a request manifest.

    Parameters
    ----------
    validated : ValidatedManifest
        The manifest after its validation.
    map_manifest : str or None
        Key of the ``manifest.json`` that lists the results of the Map state; None if no line was accepted.

    References
    ----------
    AWS Step Functions developer guide, "ResultWriter (Map)": ``ResultWriterDetails``.
    """

    TASK: ClassVar = "summarize"

    validated: ValidatedManifest
    map_manifest: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the task as the state machine passes it."""
        details = {"Bucket": self.validated.bucket, "Key": self.map_manifest}
        results = {} if self.map_manifest is None else {"results": {"ResultWriterDetails": details}}
        return {"task": self.TASK, "input": {**self.validated.to_json(), **results}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SummarizeTask:
        """Read the task; see `decode_task` for errors."""
        results = document["input"].get("results")
        key = results["ResultWriterDetails"]["Key"] if results else None
        return cls(ValidatedManifest.from_json(document["input"]), key)


Task = ValidateTask | ExportTask | SummarizeTask
"""A task of the state machine for request manifests."""

_TASKS: dict[str, type[Task]] = {each.TASK: each for each in (ValidateTask, ExportTask, SummarizeTask)}


def decode_task(document: object) -> Task:
    """Read a task of the state machine.

    Raises
    ------
    UnknownTaskError
        If it has none of the known formats.
    InvalidIdentifier
        By `ExportTask.order`, if an identifier is malformed.
    """
    try:
        return _TASKS[document["task"]].from_json(document)  # type: ignore[index, arg-type]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UnknownTaskError from None


@dataclass(frozen=True, slots=True)
class ObjectLocation:
    """Where an object is."""

    bucket: str
    key: str

    def to_json(self) -> dict[str, str]:
        """Return the location as a member of a message."""
        return {"bucket": self.bucket, "key": self.key}


@dataclass(frozen=True, slots=True)
class ExportAnnouncement:
    """The result of an export, as events and the results of request manifests have it.

    Parameters
    ----------
    image_set : ImageSetRef
        The image set.
    version_id : str or None
        The version that was asked for; None for the latest.
    export_id : str
        Names the export among those of the image set.
    completed : bool
        Whether every frame or DICOM file is stored.
    problem : str or None
        Slug of the problem that kept the image set from being exported at all.
    manifest : ObjectLocation or None
        The manifest; None if the export has none.
    frames : mapping of str to int
        Number of frames that were ``copied``, ``present`` and ``failed``, alone or within DICOM files.
    size_bytes : int
        Bytes of the frames or DICOM files that are stored.
    instances : mapping of str to int, or None
        Number of DICOM files that were ``copied``, ``present`` and ``failed``; None if the export stored frames.
    """

    image_set: ImageSetRef
    version_id: str | None
    export_id: str
    completed: bool
    problem: str | None
    manifest: ObjectLocation | None
    frames: Mapping[str, int]
    size_bytes: int
    instances: Mapping[str, int] | None = None

    @property
    def detail_type(self) -> str:
        """The detail type of the event."""
        return f"Frame Export {'Completed' if self.completed else 'Failed'}"

    def to_json(self) -> dict[str, Any]:
        """Return the detail of the event."""
        return {
            **_names_of(self.image_set),
            "versionId": self.version_id,
            "exportId": self.export_id,
            "outcome": "completed" if self.completed else "failed",
            "problem": self.problem,
            "manifest": self.manifest and self.manifest.to_json(),
            "frames": dict(self.frames),
            "bytes": self.size_bytes,
            **({} if self.instances is None else {"instances": dict(self.instances)}),
        }

    @classmethod
    def from_json(cls, detail: Mapping[str, Any]) -> ExportAnnouncement:
        """Read the detail of the event.

        Raises
        ------
        KeyError, TypeError
            If it is the detail of another event.
        InvalidIdentifier
            If an identifier in it is malformed.
        """
        manifest = detail["manifest"]
        return cls(
            _image_set(detail),
            detail["versionId"],
            detail["exportId"],
            detail["outcome"] == "completed",
            detail["problem"],
            manifest and ObjectLocation(manifest["bucket"], manifest["key"]),
            detail["frames"],
            detail["bytes"],
            detail.get("instances"),
        )


def _names_of(image_set: ImageSetRef) -> dict[str, str]:
    return {"datastoreId": image_set.datastore_id, "imageSetId": image_set.image_set_id}


def _image_set_detail(image_set: ImageSetRef) -> dict[str, str]:
    return {"datastoreId": image_set.datastore_id, "imagesetId": image_set.image_set_id}


def _image_set(holder: Mapping[str, Any]) -> ImageSetRef:
    return ImageSetRef(holder["datastoreId"], holder.get("imagesetId") or holder["imageSetId"])


def _image_set_of_key(key: str) -> ImageSetRef:
    _, datastore_id, image_set_id, _ = key.split("/", 3)
    return ImageSetRef(datastore_id, image_set_id)


def _require(condition: bool) -> None:
    """Raise the error of a message whose members are malformed; `decode` words it."""
    if not condition:
        raise KeyError


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_progress_of(image_set: ImageSetRef, value: object) -> bool:
    """Whether a value is the key of an image set's progress: the export removes that object when it ends."""
    prefix = progress_prefix(image_set)
    return (
        isinstance(value, str)
        and value.startswith(prefix)
        and _PROGRESS_NAME.fullmatch(value.removeprefix(prefix)) is not None
    )


def _version_id(value: object) -> str | None:
    """Return the version that an event names, or None.

    The documentation has a decimal number in a string. Anything else would end up in a URL and a key.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or len(text) > MAX_VERSION_DIGITS or not (text.isascii() and text.isdecimal()):
        return None
    return str(int(text))
