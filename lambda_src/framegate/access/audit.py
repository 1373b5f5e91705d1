"""Writes the audit records: who read what, from where, how it was delivered, and with which result.

A record is a line of JSON on standard output. Lambda sends it to the function's log group in the background, so no
request waits for it, and ``log_level`` does not suppress it. A read leaves two records with the same request id:

- ``request``, before the first byte is read, so that a crash of the function loses no access;
- ``answer``, with the result. A refused request leaves only this one.

API Gateway's access log has a line for the same request id, also for requests that never reach the function. Members
that both have share their names. HealthImaging's identifiers are the only text about images in a record.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

from framegate.access.principal import Principal, principal_of
from framegate.identifiers import is_identifier
from framegate.observability import SERVICE, logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from framegate.identifiers import ImageSetRef

EXPORTER = Principal("framegate:export")
"""The principal of the reads that Framegate's own exports make."""


class Stage(StrEnum):
    """The member ``audit`` of a record: what it reports."""

    REQUEST = "request"
    ANSWER = "answer"


MEMBERS = {
    "datastore_id": "datastoreId",
    "image_set_id": "imageSetId",
    "image_frame_id": "imageFrameId",
    "version_id": "versionId",
    "resolution": "resolution",
    "frames": "frames",
    "delivery": "delivery",
    "bytes": "bytes",
    "status": "status",
    "problem": "problem",
    "decision": "decision",
    "decisionReason": "decisionReason",
}
"""The members that describe a read and its result, by the log field with the same content."""

# `json.dumps` with separators would build an encoder for each record.
_JSON = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True)
class Access:
    """An access to images, as all of its records identify it.

    Attributes
    ----------
    principal : Principal
        Who reads.
    request_id : str or None
        API Gateway's id of the request; for an export, the id of the message or the execution.
    source_ip : str or None
        The address of the caller; None for an export.
    request_time_ms : int or None
        When API Gateway received the request, in milliseconds since 1970.
    method, route : str or None
        The method and the template of the path.
    """

    principal: Principal
    request_id: str | None
    source_ip: str | None = None
    request_time_ms: int | None = None
    method: str | None = None
    route: str | None = None

    @classmethod
    def of_request(cls, event: Mapping[str, Any], auth: str, claim: str) -> Access:
        """Read who sends a request, and from where.

        Parameters
        ----------
        event : mapping
            The event of a Lambda proxy integration, payload format 1.0.
        auth, claim : str
            See `principal_of`.

        References
        ----------
        API Gateway developer guide, "Input format of a Lambda function for proxy integration".
        """
        context = event["requestContext"]
        identity = context.get("identity")
        return cls(
            principal_of(event, auth, claim),
            context["requestId"],
            identity.get("sourceIp") if isinstance(identity, dict) else None,
            context.get("requestTimeEpoch"),
            event["httpMethod"],
            event["resource"],
        )

    def write(self, stage: Stage, record: Mapping[str, Any]) -> None:
        """Write an audit record.

        Parameters
        ----------
        stage : Stage
            What the record reports.
        record : mapping
            What is read and the result, by log field; see `MEMBERS`. Other fields are left out.
        """
        what = _members({member: record.get(name) for name, member in MEMBERS.items()})
        # One call writes the whole line, so that the lines of several threads do not mix.
        sys.stdout.write(f'{{"audit":"{stage}",{self._who}{what and ","}{what}}}\n')
        sys.stdout.flush()

    @cached_property
    def _who(self) -> str:
        """The members that all records of the access share, as JSON without braces."""
        return _members(
            {
                "service": SERVICE,
                "requestId": self.request_id,
                "requestTimeEpoch": self.request_time_ms,
                "principal": self.principal.name,
                "issuer": self.principal.issuer,
                "sourceIp": self.source_ip,
                "httpMethod": self.method,
                "resourcePath": self.route,
            }
        )


def _members(values: Mapping[str, Any]) -> str:
    """Return the members that have a value, as JSON without braces."""
    return _JSON.encode({name: value for name, value in values.items() if value is not None})[1:-1]


def identifiers_in(path: Mapping[str, str]) -> dict[str, str]:
    """Return the well-formed HealthImaging identifiers among the parameters of a path, by log field.

    Examples
    --------
    >>> identifiers_in({"datastoreId": "d" * 32, "imageSetId": "Mueller^Hans"})
    {'datastore_id': 'dddddddddddddddddddddddddddddddd'}
    """
    return {
        name: path[member]
        for name, member in MEMBERS.items()
        if name.endswith("_id") and is_identifier(path.get(member))
    }


@dataclass(slots=True)
class ExportRead:
    """What an export has read so far. The exporter updates it.

    Attributes
    ----------
    status : str
        ``completed``, ``incomplete`` (a later attempt continues or repeats it) or ``failed``.
    frames, bytes : int
        The number of frames that were read from HealthImaging, and their size.
    """

    status: str = "failed"
    frames: int = 0
    bytes: int = 0


@contextmanager
def audited_export(image_set: ImageSetRef, **record: str | None) -> Iterator[ExportRead]:
    """Write the audit records of an export: one before the block, and one with the result after it.

    Parameters
    ----------
    image_set : ImageSetRef
        The image set that is read, or one of its frames.
    **record : str
        What else identifies the read, by log field: ``version_id``, ``image_frame_id``.
    """
    access = Access(EXPORTER, logger.get_correlation_id())
    subject = {"datastore_id": image_set.datastore_id, "image_set_id": image_set.image_set_id, **record}
    access.write(Stage.REQUEST, {**subject, "delivery": "export"})
    read = ExportRead()
    try:
        yield read
    finally:
        result = {"delivery": "export", "status": read.status, "frames": read.frames, "bytes": read.bytes}
        access.write(Stage.ANSWER, {**subject, **result})
