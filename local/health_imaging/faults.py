"""Faults that can be armed in the emulator, and the record of the calls that it answered."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from local.health_imaging.protocol import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUSES: dict[str, int] = {
    **{shape.name: shape.metadata["error"]["httpStatusCode"] for shape in SERVICE.error_shapes},
    # Not in the service's model: AWS HealthImaging API reference, "Common Errors".
    "ExpiredTokenException": 403,
    "IncompleteSignature": 403,
    "InvalidSignatureException": 403,
    "RequestExpired": 400,
    "UnrecognizedClientException": 403,
    "InternalFailure": 500,
    "ServiceUnavailable": 503,
    # Those of the protocol itself (Smithy, protocol tests of restJson1 for malformed requests).
    "SerializationException": 400,
    "UnknownOperationException": 404,
    "UnsupportedMediaTypeException": 415,
}
"""HTTP status by exception, of all that the service can answer."""

_NUMBERS = {"latency": 0, "after": 0, "bytes_per_second": 1, "times": 0, "probability": 0, "stall_seconds": 0}
"""The parameters of a fault that are numbers, and the least that each may be."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with a call.

    Parameters
    ----------
    operation : str
        The operation that it befalls, such as ``GetImageFrame``; None is every one.
    error : str, optional
        The service exception to answer with.
    latency : float
        Seconds to wait before anything else.
    then : {"reset", "close", "stall"}, optional
        What becomes of the connection: reset (RST), closed in good order, or kept open in silence.
    after : int, optional
        Bytes of the body that are sent before that; None is before the status line.
    bytes_per_second : int, optional
        How fast the body is sent.
    times : int, optional
        How many calls it befalls; None is all.
    probability : float
        The share of calls that it befalls.
    image_frame_id, image_set_id, datastore_id : str, optional
        The only frame, image set or data store that it befalls.
    stall_seconds : float, optional
        How long a stall lasts before the answer goes on; None is until the client gives up or the emulator closes.
    """

    operation: str | None = "GetImageFrame"
    error: str | None = None
    latency: float = 0.0
    then: Literal["reset", "close", "stall"] | None = None
    after: int | None = None
    bytes_per_second: int | None = None
    times: int | None = None
    probability: float = 1.0
    image_frame_id: str | None = None
    image_set_id: str | None = None
    datastore_id: str | None = None
    stall_seconds: float | None = None

    def __post_init__(self) -> None:
        for name, least in _NUMBERS.items():
            value = getattr(self, name)
            if value is not None and (type(value) not in (int, float) or value < least):
                raise ValueError(f"{name} must be a number from {least}")
        for name in ("after", "bytes_per_second", "times"):
            if isinstance(getattr(self, name), float):
                raise ValueError(f"{name} must be a whole number")
        if self.latency is None or self.probability is None or self.probability > 1:
            raise ValueError("latency must be a number, probability one from 0 to 1")
        if self.error is not None and self.error not in STATUSES:
            raise ValueError(f"error must be one of {', '.join(STATUSES)}")
        if self.then not in (None, "reset", "close", "stall"):
            raise ValueError("then must be reset, close or stall")

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Fault:
        """Read a fault as ``POST /_emulator/faults`` takes it: the parameters above, by name.

        Raises
        ------
        ValueError
            If a parameter is unknown or has no such value.
        """
        known = {each.name for each in fields(cls)}
        if unknown := set(document) - known:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; a fault has {', '.join(sorted(known))}")
        return cls(**document)


class Faults:
    """The faults that are armed; the first that fits a call befalls it."""

    def __init__(self) -> None:
        self._armed: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()
        self._random = random.Random(0)  # noqa: S311 - repeatable on purpose

    def arm(self, fault: Fault) -> None:
        """Add a fault."""
        with self._lock:
            self._armed.append((fault, [0]))

    def clear(self) -> None:
        """Disarm all; what comes by chance after this comes as it did at first."""
        with self._lock:
            self._armed.clear()
            self._random.seed(0)

    def next_for(self, call: Call) -> Fault | None:
        """The fault that befalls a call, counted as having happened."""
        with self._lock:
            for fault, happened in self._armed:
                if (
                    fault.operation in (None, call.operation)
                    and fault.image_frame_id in (None, call.image_frame_id)
                    and fault.image_set_id in (None, call.image_set_id)
                    and fault.datastore_id in (None, call.datastore_id)
                    and (fault.times is None or happened[0] < fault.times)
                    and self._random.random() < fault.probability
                ):
                    happened[0] += 1
                    return fault
        return None

    def to_json(self) -> list[dict[str, Any]]:
        """All armed faults, as ``GET /_emulator/faults`` gives them."""
        with self._lock:
            return [asdict(fault) for fault, _ in self._armed]


@dataclass(slots=True)
class Call:
    """A call that was answered: what it asked for, and how much of the answer's body the client took.

    ``bytes_sent`` counts what went into the socket, which holds more than a client has read. ``aborted`` says that the
    body was not sent to its end, whoever's doing that was.
    """

    operation: str
    datastore_id: str | None = None
    image_set_id: str | None = None
    image_frame_id: str | None = None
    status: int = 0
    bytes_sent: int = 0
    aborted: bool = False
    done: threading.Event = field(default_factory=threading.Event, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The call, as ``GET /_emulator/calls`` gives it."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "done"}


class Calls:
    """The calls since the last `clear`; looking at them first waits a moment for those under way to end."""

    PATIENCE = 3.0

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def begin(self, call: Call) -> None:
        """Record a call as it comes in."""
        with self._lock:
            self._calls.append(call)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._calls.clear()

    def __iter__(self) -> Iterator[Call]:
        return iter(self._settled())

    def __len__(self) -> int:
        return len(self._settled())

    def _settled(self) -> list[Call]:
        with self._lock:
            calls = list(self._calls)
        patience = time.monotonic() + self.PATIENCE
        for call in calls:
            call.done.wait(max(0.0, patience - time.monotonic()))
        return calls
