"""Defines the faults that can be armed in the emulator, and records the calls that it answers."""

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
    # These are not in the service's model: AWS HealthImaging API reference, "Common Errors".
    "ExpiredTokenException": 403,
    "IncompleteSignature": 403,
    "InvalidSignatureException": 403,
    "RequestExpired": 400,
    "UnrecognizedClientException": 403,
    "InternalFailure": 500,
    "ServiceUnavailable": 503,
    # These belong to the protocol (Smithy, protocol tests of restJson1 for malformed requests).
    "SerializationException": 400,
    "UnknownOperationException": 404,
    "UnsupportedMediaTypeException": 415,
}
"""The HTTP status of every exception that the service can return."""

_MINIMUMS = {"latency": 0, "after": 0, "bytes_per_second": 1, "times": 0, "probability": 0, "stall_seconds": 0}
"""The minimum of each numeric parameter of a fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure of a call.

    Parameters
    ----------
    operation : str
        The operation that it affects, such as ``GetImageFrame``; None for every operation.
    error : str, optional
        The service exception to return.
    latency : float
        Seconds to wait before the response.
    then : {"reset", "close", "stall"}, optional
        What happens to the connection: a reset (RST), a regular close (FIN), or silence while it stays open.
    after : int, optional
        Bytes of the body that are sent before that; None means before the status line.
    bytes_per_second : int, optional
        The rate at which the body is sent.
    times : int, optional
        The number of calls that it affects; None for all.
    probability : float
        The share of calls that it affects, from 0 to 1.
    image_frame_id, image_set_id, datastore_id : str, optional
        The only frame, image set or data store that it affects.
    stall_seconds : float, optional
        Duration of a stall, after which the response continues; None means until the client or the emulator closes
        the connection.
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
        for name, minimum in _MINIMUMS.items():
            value = getattr(self, name)
            if value is not None and (type(value) not in (int, float) or value < minimum):
                raise ValueError(f"{name} must be a number of at least {minimum}")
        for name in ("after", "bytes_per_second", "times"):
            if isinstance(getattr(self, name), float):
                raise ValueError(f"{name} must be a whole number")
        if self.latency is None or self.probability is None or self.probability > 1:
            raise ValueError("latency must be a number, and probability a number from 0 to 1")
        if self.error is not None and self.error not in STATUSES:
            raise ValueError(f"error must be one of {', '.join(STATUSES)}")
        if self.then not in (None, "reset", "close", "stall"):
            raise ValueError("then must be reset, close or stall")

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Fault:
        """Read a fault from the JSON of ``POST /_emulator/faults``: the parameters above, by name.

        Raises
        ------
        ValueError
            If a parameter is unknown or its value is invalid.
        """
        known = {each.name for each in fields(cls)}
        if unknown := set(document) - known:
            names, choices = ", ".join(sorted(unknown)), ", ".join(sorted(known))
            raise ValueError(f"unknown: {names}; the members of a fault are {choices}")
        return cls(**document)


class Faults:
    """The armed faults, in order. A call gets the first one that matches it."""

    def __init__(self) -> None:
        self._armed: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()
        self._random = random.Random(0)  # noqa: S311 - seeded, so that tests are repeatable

    def arm(self, fault: Fault) -> None:
        """Arm a fault, after those already armed."""
        with self._lock:
            self._armed.append((fault, [0]))

    def clear(self) -> None:
        """Disarm all faults, and restart the random sequence behind ``probability``."""
        with self._lock:
            self._armed.clear()
            self._random.seed(0)

    def next_for(self, call: Call) -> Fault | None:
        """Return the fault for a call, if any, and count it."""
        with self._lock:
            for fault, count in self._armed:
                if (
                    fault.operation in (None, call.operation)
                    and fault.image_frame_id in (None, call.image_frame_id)
                    and fault.image_set_id in (None, call.image_set_id)
                    and fault.datastore_id in (None, call.datastore_id)
                    and (fault.times is None or count[0] < fault.times)
                    and self._random.random() < fault.probability
                ):
                    count[0] += 1
                    return fault
        return None

    def to_json(self) -> list[dict[str, Any]]:
        """The armed faults, as ``GET /_emulator/faults`` returns them."""
        with self._lock:
            return [asdict(fault) for fault, _ in self._armed]


@dataclass(slots=True)
class Call:
    """A call that the emulator answered: the resource, the status, and how much of the body was sent.

    ``bytes_sent`` counts the bytes written to the socket, whose buffer may hold some that the client has not read.
    ``aborted`` tells whether the body ended early, on either side.
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
        """The call, as ``GET /_emulator/calls`` returns it."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "done"}


class Calls:
    """The calls since the last `clear`. Reading them waits up to `PATIENCE_SECONDS` for running calls to end."""

    PATIENCE_SECONDS = 3.0

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def begin(self, call: Call) -> None:
        """Record a call when it arrives."""
        with self._lock:
            self._calls.append(call)

    def clear(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._calls.clear()

    def __iter__(self) -> Iterator[Call]:
        return iter(self._settled())

    def __len__(self) -> int:
        return len(self._settled())

    def _settled(self) -> list[Call]:
        with self._lock:
            calls = list(self._calls)
        deadline = time.monotonic() + self.PATIENCE_SECONDS
        for call in calls:
            call.done.wait(max(0.0, deadline - time.monotonic()))
        return calls
