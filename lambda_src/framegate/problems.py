"""What can go wrong on the way to a frame, in the words that a caller gets to read.

Inner modules raise these; the edges translate them: ``rest/problem_documents.py`` to a status and a document.
No message repeats a value that came from outside, since such a value may be anything, a patient's name included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Sequence


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """The base of all errors that Framegate raises on purpose.

    Attributes
    ----------
    slug : str
        Names the kind of problem, stable across releases: ``urn:framegate:problem:<slug>``.
    title : str
        The kind of problem in a few words, the same for every occurrence.
    detail : str
        This occurrence, and what the caller can do about it.
    evidence : dict
        What the operator needs to find the cause: for the log, not for the caller.
    """

    slug: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.evidence: dict[str, str | int] = {}

    def to_keep(self) -> Self:
        """The problem without its traceback, which keeps alive whatever was there, such as the bytes of a frame."""
        self.__traceback__ = self.__context__ = None
        return self


class InvalidRequest(Problem):
    """The request cannot be understood; the detail says which part and what it should be."""

    slug = "invalid-request"
    title = "The request is not valid"


class InvalidIdentifier(InvalidRequest):
    """An identifier is not of HealthImaging's form."""

    slug = "invalid-identifier"
    title = "An identifier is malformed"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} must be 32 characters, each a digit 0-9 or a lower-case letter a-z.")


class DatastoreNotServed(Problem):
    """The data store is not on this deployment's list."""

    slug = "datastore-not-served"
    title = "The data store is not served here"

    def __init__(self) -> None:
        super().__init__(
            "This deployment does not serve that data store. Its operator lists the served ones in `datastore_ids`."
        )


class DatastoreNotGranted(Problem):
    """The caller's token lists data stores, and not this one."""

    slug = "datastore-not-granted"
    title = "The data store is not granted"

    def __init__(self) -> None:
        super().__init__("The caller's token does not list that data store among those that its holder may read.")


class TokenExpired(Problem):
    """The caller's token has ended since it was checked."""

    slug = "token-expired"
    title = "The token has expired"

    def __init__(self) -> None:
        super().__init__("The caller's token has expired. Get a new one from its issuer, and send the request again.")


class UnknownRoute(Problem):
    """No route has this path."""

    slug = "unknown-route"
    title = "There is nothing at this path"

    def __init__(self, templates: Sequence[str]) -> None:
        super().__init__(f"The paths of this API are {', '.join(templates)}.")


class MethodNotAllowed(Problem):
    """The path exists, the method does not."""

    slug = "method-not-allowed"
    title = "The path does not take this method"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"Use {' or '.join(allowed)}.")
        self.allowed = allowed


class NotAcceptable(Problem):
    """The client accepts neither the frame's own media type nor JSON."""

    slug = "not-acceptable"
    title = "No representation is acceptable"

    def __init__(self, media_type: str) -> None:
        super().__init__(
            f"The frame is {media_type}; the request's Accept header takes neither that nor application/json."
        )


class FrameNotAvailable(NotAcceptable):
    """HealthImaging has no form of the frame that it gives out, whatever the client accepts."""

    def __init__(self) -> None:
        Problem.__init__(
            self,
            "HealthImaging does not give out this frame in any form that Framegate can ask for. Trying again does not "
            "help.",
        )


class PreconditionFailed(Problem):
    """A condition in the request's header does not hold for what the server has.

    References
    ----------
    RFC 9110, section 15.5.13.
    """

    slug = "precondition-failed"
    title = "A precondition failed"

    def __init__(self, field: str) -> None:
        super().__init__(f"The current entity tag does not satisfy the request's {field} header.")


class FrameTooLarge(Problem):
    """The frame does not fit an inline answer, and inline was asked for."""

    slug = "frame-too-large"
    title = "The frame does not fit an inline answer"

    def __init__(self, size: int | None, limit: int) -> None:
        has = "more" if size is None else f"{size:,}"
        super().__init__(
            f"An inline answer holds at most {limit:,} bytes and the frame has {has}. "
            "Use delivery=url, or leave delivery out."
        )


class PortionTooLarge(FrameTooLarge):
    """The levels of a frame that are asked for do not fit an inline answer."""

    def __init__(self, limit: int) -> None:
        Problem.__init__(
            self,
            f"An inline answer holds at most {limit:,} bytes and these levels have more. Ask for fewer of them, or for "
            "the whole frame with delivery=url.",
        )


class RangeNotSatisfiable(Problem):
    """Nothing of the range is in the representation."""

    slug = "range-not-satisfiable"
    title = "The range is not satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The representation has {size:,} bytes, and none of them is in the range.")
        self.size = size


class UpstreamRejected(Problem):
    """HealthImaging calls the request invalid."""

    slug = "upstream-rejected"
    title = "HealthImaging rejected the request"

    def __init__(self) -> None:
        super().__init__(
            "HealthImaging finds the request invalid, and will again. Check data store, image set and image frame id."
        )


class AccessDenied(Problem):
    """HealthImaging denies the function's role access to the image set."""

    slug = "access-denied"
    title = "Access is denied"

    def __init__(self) -> None:
        super().__init__(
            "HealthImaging denies Framegate's role access. Its operator finds the cause in the log, by the request id."
        )


class FrameNotFound(Problem):
    """There is no such frame."""

    slug = "frame-not-found"
    title = "There is no such image frame"

    def __init__(self) -> None:
        super().__init__("HealthImaging knows no such data store, image set or image frame.")


class ImageSetNotFound(Problem):
    """There is no such image set."""

    slug = "image-set-not-found"
    title = "There is no such image set"

    def __init__(self) -> None:
        super().__init__("HealthImaging knows no such data store or image set, or the image set is deleted.")


class VersionNotFound(Problem):
    """The image set is there, that version of it is not."""

    slug = "version-not-found"
    title = "There is no such version"

    def __init__(self) -> None:
        super().__init__("HealthImaging has the image set, but not in that version. Check versionId, or leave it out.")


class FrameConflict(Problem):
    """The image set is being changed."""

    slug = "conflict"
    title = "The image set is being changed"

    def __init__(self) -> None:
        super().__init__("HealthImaging is changing the image set. Try again when its update is done.")


class ServiceProblem(Problem):
    """The base of what goes wrong in a service that Framegate calls.

    Attributes
    ----------
    service : str
        ``HealthImaging``, ``S3``, ``SQS`` or ``EventBridge``.
    """

    def __init__(self, service: str, detail: str) -> None:
        super().__init__(f"{service} {detail}")
        self.service = service


class Throttled(ServiceProblem):
    """The service throttles, and retries did not help in the time there was."""

    slug = "throttled"
    title = "Too many requests"

    def __init__(self, service: str) -> None:
        super().__init__(service, "is throttling this account. Try again after the seconds in Retry-After.")


class UpstreamFailed(ServiceProblem):
    """The service answered with a fault, or the connection broke before all was through."""

    slug = "upstream-failed"
    title = "A service failed"

    def __init__(self, service: str, what: str) -> None:
        super().__init__(service, f"{what}. Nothing was delivered or stored in part; try again.")


class UpstreamRefused(ServiceProblem):
    """The service refuses the call, and would refuse it again."""

    slug = "upstream-refused"
    title = "A service refused the call"

    def __init__(self, service: str) -> None:
        super().__init__(
            service,
            "refused the call, and trying again does not help. The operator finds the cause in the log, by the "
            "request id.",
        )


class UpstreamTimeout(ServiceProblem):
    """The time ran out before the service had done what it was asked for."""

    slug = "upstream-timeout"
    title = "A service was too slow"

    def __init__(self, service: str) -> None:
        super().__init__(
            service,
            "took longer than there is time. Nothing was delivered or stored in part; try again.",
        )


class ExportProblem(Problem):
    """The base of what only an export meets; it reaches manifests, events and the log, and no HTTP client."""


class PixelMismatch(ExportProblem):
    """The pixels of a stored frame are not those that HealthImaging imported."""

    slug = "pixel-mismatch"
    title = "The pixels differ"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} The object is under mismatched/, out of reach of the API.")


class ExportIncomplete(ExportProblem):
    """Frames are missing that a later attempt may get."""

    slug = "export-incomplete"
    title = "The export is not complete"

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing:,} frames could not be exported for now; the manifest names them.")


class InvalidRequestManifest(ExportProblem):  # Step Functions know it by this name
    """The request manifest as a whole cannot be worked off."""

    slug = "invalid-request-manifest"
    title = "The request manifest is not valid"


class DuplicateRequest(ExportProblem):
    """A line of a request manifest asks for the same as an earlier one."""

    slug = "duplicate-request"
    title = "The request is in the manifest already"

    def __init__(self, line: int) -> None:
        super().__init__(f"Line {line:,} of this manifest asks for the same export.")


class InternalError(Problem):
    """A fault of Framegate's own."""

    slug = "internal-error"
    title = "Framegate failed"

    def __init__(self) -> None:
        super().__init__("This is a fault in Framegate. Its operator finds the cause in the log, by the request id.")
