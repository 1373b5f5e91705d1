"""What can go wrong, as exceptions that carry data.

Inner modules raise a problem where they understand it. Each edge words it for its readers:

- ``rest/problem_documents.py`` adds the status and what an HTTP client can do;
- an export's manifest and summary take `Problem.slug` and `Problem.description`;
- log lines take `Problem.log_fields`.

No description repeats a value that came from outside: such a value may be anything, including a patient's name.

::

    Problem
    ├── InvalidRequest
    │   └── InvalidIdentifier
    ├── TokenExpired
    ├── DatastoreNotServed
    ├── DatastoreNotGranted
    ├── ClientNotAccepted
    ├── ImageSetNotGranted
    ├── AuthorizationUnavailable
    ├── UnknownRoute
    ├── MethodNotAllowed
    ├── NotAcceptable
    ├── FrameNotAvailable
    ├── FrameNotDrawable
    ├── PreconditionFailed
    ├── FrameTooLarge
    ├── PortionTooLarge
    ├── RangeNotSatisfiable
    ├── UpstreamRejected
    ├── AccessDenied
    ├── FrameNotFound
    ├── ImageSetNotFound
    ├── VersionNotFound
    ├── InstanceNotFound
    ├── FramePending
    ├── ResultTooLarge
    ├── NotSupported
    │   └── DicomFilesOff
    ├── FrameConflict
    ├── ServiceProblem
    │   ├── Throttled
    │   ├── UpstreamFailed
    │   ├── UpstreamRefused
    │   └── UpstreamTimeout
    ├── ExportProblem
    │   ├── PixelMismatch
    │   ├── ExportIncomplete
    │   ├── InvalidRequestManifest
    │   └── DuplicateRequest
    └── InternalError
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Evidence = Mapping[str, str | int]


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it a problem
    """The base of all errors that Framegate raises on purpose.

    Parameters
    ----------
    evidence : mapping of str to str or int, optional
        What the operator needs to find the cause, such as the upstream status. Only the log shows it.

    Attributes
    ----------
    slug : str
        Names the kind of problem, stable across releases: ``urn:framegate:problem:<slug>``.
    title : str
        The kind of problem in a few words, the same for every occurrence (RFC 9457, section 3.1.3).
    description : str
        What happened this time, worded for any reader.
    """

    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, *, evidence: Evidence | None = None) -> None:
        super().__init__()
        self.evidence: Evidence = dict(evidence or {})

    @property
    def description(self) -> str:
        """What happened this time, worded for any reader."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.description

    @property
    def log_fields(self) -> Evidence:
        """The fields of a log line about the problem: its slug as ``problem``, and the evidence."""
        return {"problem": self.slug, **self.evidence}

    def without_traceback(self) -> Self:
        """Drop the traceback, which keeps the local variables of its frames alive, such as the bytes of an image frame.

        Returns
        -------
        Problem
            The same object, safe to keep.
        """
        self.__traceback__ = self.__context__ = None
        return self


class InvalidRequest(Problem):
    """The request cannot be understood.

    Parameters
    ----------
    description : str
        Which part of the request is wrong, and what it should be.
    """

    slug = "invalid-request"
    title = "The request is not valid"

    def __init__(self, description: str) -> None:
        super().__init__()
        self._description = description

    @property
    def description(self) -> str:
        return self._description


class InvalidIdentifier(InvalidRequest):
    """An identifier does not have the form of HealthImaging's identifiers.

    Parameters
    ----------
    name : str
        The parameter or member that should hold the identifier.
    """

    slug = "invalid-identifier"
    title = "An identifier is malformed"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} must be 32 characters, each a digit 0-9 or a lower-case letter a-z.")


class TokenExpired(Problem):
    """The caller's token has expired since API Gateway checked it."""

    slug = "token-expired"
    title = "The token has expired"
    description = "The caller's token has expired."


class DatastoreNotServed(Problem):
    """The data store is not on this deployment's list."""

    slug = "datastore-not-served"
    title = "The data store is not served here"
    description = "This deployment does not serve that data store."


class DatastoreNotGranted(Problem):
    """The caller's token lists data stores, but not this one."""

    slug = "datastore-not-granted"
    title = "The data store is not granted"
    description = "The caller's token does not list that data store among those that its holder may read."


class ClientNotAccepted(Problem):
    """The caller's token was issued to an app client that this deployment does not accept."""

    slug = "client-not-accepted"
    title = "The token's client is not accepted"
    description = "The caller's token was issued to an app client that this deployment does not accept."


class ImageSetNotGranted(Problem):
    """Neither the lists of the caller's token nor the deployment's decision function allow reading the image set."""

    slug = "image-set-not-granted"
    title = "The image set is not granted"
    description = "The caller may not read that image set."


class AuthorizationUnavailable(Problem):
    """The decision function gave no valid answer, so nobody knows whether the caller may read the image set."""

    slug = "authorization-unavailable"
    title = "Access could not be checked"
    description = "The function that decides who may read an image set gave no valid answer."


class UnknownRoute(Problem):
    """No route has this path.

    Parameters
    ----------
    templates : sequence of str
        The paths that the API has.
    """

    slug = "unknown-route"
    title = "There is nothing at this path"

    def __init__(self, templates: Sequence[str]) -> None:
        super().__init__()
        self.templates = tuple(templates)

    @property
    def description(self) -> str:
        return f"The paths of this API are {', '.join(self.templates)}."


class MethodNotAllowed(Problem):
    """The path exists, but it does not take this method.

    Parameters
    ----------
    allowed : sequence of str
        The methods that it takes.
    """

    slug = "method-not-allowed"
    title = "The path does not take this method"

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__()
        self.allowed = tuple(allowed)

    @property
    def description(self) -> str:
        return f"This path takes {' or '.join(self.allowed)}."


class NotAcceptable(Problem):
    """The client accepts no form in which the resource is available.

    Parameters
    ----------
    available : sequence of str
        The media types in which it is available.
    """

    slug = "not-acceptable"
    title = "No representation is acceptable"

    def __init__(self, available: Sequence[str]) -> None:
        super().__init__()
        self.available = tuple(available)

    @property
    def description(self) -> str:
        return f"The client accepts none of the available media types: {', '.join(self.available)}."


class FrameNotAvailable(Problem):
    """HealthImaging cannot return the frame in any form, whatever the client accepts."""

    slug = NotAcceptable.slug
    title = NotAcceptable.title
    description = "HealthImaging does not return this frame in any form that Framegate can request."


class FrameNotDrawable(Problem):
    """No picture of the frame can be drawn, in whatever format.

    Parameters
    ----------
    reason : str
        Why, as a sentence without its full stop.
    """

    slug = "frame-not-drawable"
    title = "The frame cannot be drawn"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    @property
    def description(self) -> str:
        return f"{self.reason}."


class PreconditionFailed(Problem):
    """A precondition of the request does not hold for the current representation.

    Parameters
    ----------
    field : str
        The header that states the precondition.

    References
    ----------
    RFC 9110, section 15.5.13.
    """

    slug = "precondition-failed"
    title = "A precondition failed"

    def __init__(self, field: str) -> None:
        super().__init__()
        self.field = field

    @property
    def description(self) -> str:
        return f"The current entity tag does not satisfy the request's {self.field} header."


class FrameTooLarge(Problem):
    """The client asked for an inline answer, and the frame does not fit.

    Parameters
    ----------
    size_bytes : int or None
        Size of the frame; None if only part of it was read.
    max_bytes : int
        Maximum size of an inline answer.
    """

    slug = "frame-too-large"
    title = "The frame does not fit an inline answer"

    def __init__(self, size_bytes: int | None, max_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self.max_bytes = max_bytes

    @property
    def description(self) -> str:
        size = "more" if self.size_bytes is None else f"{self.size_bytes:,}"
        return f"An inline answer holds at most {self.max_bytes:,} bytes and the frame has {size}."


class PortionTooLarge(Problem):
    """The client asked for levels of a frame that do not fit an inline answer.

    Parameters
    ----------
    max_bytes : int
        Maximum size of an inline answer.
    """

    slug = FrameTooLarge.slug
    title = FrameTooLarge.title

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    @property
    def description(self) -> str:
        return f"An inline answer holds at most {self.max_bytes:,} bytes and these levels have more."


class RangeNotSatisfiable(Problem):
    """The range lies outside the representation.

    Parameters
    ----------
    size_bytes : int
        Size of the representation.

    References
    ----------
    RFC 9110, section 15.5.17.
    """

    slug = "range-not-satisfiable"
    title = "The range is not satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes

    @property
    def description(self) -> str:
        return f"The representation has {self.size_bytes:,} bytes, and none of them is in the range."


class UpstreamRejected(Problem):
    """HealthImaging rejects the request as invalid."""

    slug = "upstream-rejected"
    title = "HealthImaging rejected the request"
    description = "HealthImaging rejects the request as invalid, and would reject it again."


class AccessDenied(Problem):
    """HealthImaging denies the function's role access to the image set."""

    slug = "access-denied"
    title = "Access is denied"
    description = "HealthImaging denies Framegate's role access."


class FrameNotFound(Problem):
    """HealthImaging does not have the frame."""

    slug = "frame-not-found"
    title = "There is no such image frame"
    description = "HealthImaging has no such data store, image set or image frame."


class ImageSetNotFound(Problem):
    """HealthImaging does not have the image set."""

    slug = "image-set-not-found"
    title = "There is no such image set"
    description = "HealthImaging has no such data store or image set, or the image set is deleted."


class VersionNotFound(Problem):
    """HealthImaging has the image set, but not this version of it."""

    slug = "version-not-found"
    title = "There is no such version"
    description = "HealthImaging has the image set, but not that version of it."


class InstanceNotFound(Problem):
    """No primary image set has the study, series, instance or frame."""

    slug = "instance-not-found"
    title = "There is no such study, series, instance or frame"
    description = "No primary image set has that study, series, instance or frame."


class FramePending(Problem):
    """The frame is being stored, and can be delivered afterwards."""

    slug = "frame-pending"
    title = "The frame is being stored"
    description = "Storing this frame takes longer than a request may last, so it continues in the background."


class ResultTooLarge(Problem):
    """The result of a search does not fit into a response.

    Parameters
    ----------
    max_bytes : int
        Maximum size of a response.
    """

    slug = "result-too-large"
    title = "The result does not fit into a response"

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    @property
    def description(self) -> str:
        return f"The result of the search has more than {self.max_bytes:,} bytes, the maximum of a response."


class NotSupported(Problem):
    """DICOMweb defines this retrieval, but Framegate does not offer it."""

    slug = "not-supported"
    title = "This retrieval is not supported"
    description = "Framegate does not support this retrieval of DICOMweb."


class DicomFilesOff(NotSupported):
    """The deployment does not write DICOM files."""

    description = "This deployment does not write DICOM files. The configuration key export_output=dicom turns them on."


class FrameConflict(Problem):
    """HealthImaging is changing the image set."""

    slug = "conflict"
    title = "The image set is being changed"
    description = "HealthImaging is changing the image set."


class ServiceProblem(Problem):
    """The base of failures in a service that Framegate calls.

    Parameters
    ----------
    service : str
        The service's name: ``HealthImaging``, ``S3``, ``SQS`` or ``EventBridge``.
    evidence : mapping of str to str or int, optional
        See `Problem`.
    """

    def __init__(self, service: str, *, evidence: Evidence | None = None) -> None:
        super().__init__(evidence=evidence)
        self.service = service


class Throttled(ServiceProblem):
    """The service throttles, and retries did not help in the time available."""

    slug = "throttled"
    title = "Too many requests"

    @property
    def description(self) -> str:
        return f"{self.service} is throttling this account."


class UpstreamFailed(ServiceProblem):
    """The service answered with an error, or the connection broke before the answer was complete.

    Parameters
    ----------
    service : str
        The service's name.
    failure : str
        What the service did, as a predicate: ``broke the connection``.
    evidence : mapping of str to str or int, optional
        See `Problem`.
    """

    slug = "upstream-failed"
    title = "A service failed"

    def __init__(self, service: str, failure: str, *, evidence: Evidence | None = None) -> None:
        super().__init__(service, evidence=evidence)
        self.failure = failure

    @property
    def description(self) -> str:
        return f"{self.service} {self.failure}."


class UpstreamRefused(ServiceProblem):
    """The service refuses the call, and would refuse it again."""

    slug = "upstream-refused"
    title = "A service refused the call"

    @property
    def description(self) -> str:
        return f"{self.service} refused the call, and would refuse it again."


class UpstreamTimeout(ServiceProblem):
    """The time ran out before the service was done."""

    slug = "upstream-timeout"
    title = "A service was too slow"

    @property
    def description(self) -> str:
        return f"{self.service} took longer than the time available."


class ExportProblem(Problem):
    """The base of problems that only exports have. Manifests, events and the log show them; HTTP clients never do."""


class PixelMismatch(ExportProblem):
    """The pixels of a stored frame differ from those that HealthImaging imported.

    Parameters
    ----------
    finding : str
        What was found, in a sentence or two.
    """

    slug = "pixel-mismatch"
    title = "The pixels differ"

    def __init__(self, finding: str) -> None:
        super().__init__()
        self.finding = finding

    @property
    def description(self) -> str:
        return f"{self.finding} The object is under mismatched/, out of reach of the API."


class ExportIncomplete(ExportProblem):
    """Frames are missing that a later attempt may export.

    Parameters
    ----------
    missing : int
        How many frames are missing.
    """

    slug = "export-incomplete"
    title = "The export is not complete"

    def __init__(self, missing: int) -> None:
        super().__init__()
        self.missing = missing

    @property
    def description(self) -> str:
        return f"{self.missing:,} frames could not be exported for now; the manifest names them."


class InvalidRequestManifest(ExportProblem):  # the state machine matches this class name
    """The request manifest as a whole cannot be processed.

    Parameters
    ----------
    description : str
        What is wrong with it.
    """

    slug = "invalid-request-manifest"
    title = "The request manifest is not valid"

    def __init__(self, description: str) -> None:
        super().__init__()
        self._description = description

    @property
    def description(self) -> str:
        return self._description


class DuplicateRequest(ExportProblem):
    """A line of a request manifest repeats an earlier one.

    Parameters
    ----------
    earlier_line : int
        Number of the earlier line, from 1.
    """

    slug = "duplicate-request"
    title = "The request is in the manifest already"

    def __init__(self, earlier_line: int) -> None:
        super().__init__()
        self.earlier_line = earlier_line

    @property
    def description(self) -> str:
        return f"Line {self.earlier_line:,} of this manifest asks for the same export."


class InternalError(Problem):
    """A fault in Framegate itself."""

    slug = "internal-error"
    title = "Framegate failed"
    description = "This is a fault in Framegate."
