"""What a deployment sets: read once from the function's environment, where the CDK stack has put it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the function behind the REST API.

    Parameters
    ----------
    datastore_ids : frozenset of str
        The data stores that are served; every other is refused before any call.
    frame_bucket : str
        The bucket of the frame store.
    presigned_url_lifetime : int
        Seconds for which a pre-signed URL is good.
    export_queue_url : str
        The queue to which frames go that are too large for a request.
    cors_origins : tuple of str
        The origins whose pages may read answers; ``("*",)`` is any.
    auth : str
        Who checked the caller: ``iam``, ``cognito``, or ``jwt``, our own authorizer.
    """

    datastore_ids: frozenset[str]
    frame_bucket: str
    presigned_url_lifetime: int
    export_queue_url: str
    cors_origins: tuple[str, ...]
    auth: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises
        ------
        KeyError, ValueError
            If a variable is missing or not a number: the stack and the function do not belong together.
        """
        return cls(
            datastore_ids=frozenset(_listed(environment["FRAMEGATE_DATASTORE_IDS"])),
            frame_bucket=environment["FRAMEGATE_FRAME_BUCKET"],
            presigned_url_lifetime=int(environment["FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS"]),
            export_queue_url=environment["FRAMEGATE_EXPORT_QUEUE_URL"],
            cors_origins=_listed(environment["FRAMEGATE_CORS_ORIGINS"]),
            auth=environment["FRAMEGATE_AUTH"],
        )


@dataclass(frozen=True, slots=True)
class AuthorizerSettings:
    """The settings of the function that checks tokens.

    Parameters
    ----------
    datastore_ids : frozenset of str
        The data stores that are served.
    issuer : str
        The OpenID Connect issuer whose tokens are taken.
    audiences : tuple of str
        Of which a token must have one.
    datastores_claim : str or None
        The claim that lists the data stores that a token's holder may read; None if there is none.
    """

    datastore_ids: frozenset[str]
    issuer: str
    audiences: tuple[str, ...]
    datastores_claim: str | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> AuthorizerSettings:
        """Read the settings.

        Raises
        ------
        KeyError
            If a variable is missing: the stack and the function do not belong together.
        """
        return cls(
            datastore_ids=frozenset(_listed(environment["FRAMEGATE_DATASTORE_IDS"])),
            issuer=environment["FRAMEGATE_JWT_ISSUER"],
            audiences=_listed(environment["FRAMEGATE_JWT_AUDIENCE"]),
            datastores_claim=environment["FRAMEGATE_JWT_DATASTORES_CLAIM"] or None,
        )


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """The settings of a function that exports.

    Parameters
    ----------
    datastore_ids : frozenset of str
        The data stores that are served; every other is refused before any call.
    frame_bucket : str
        The bucket of the frame store.
    event_bus : str
        Name or ARN of the bus that results are announced on.
    rate : float
        GetImageFrame calls per second that one worker may make.
    verify : bool
        Whether the pixels of every export are verified.
    events : frozenset of str
        What has to happen to an image set for it to be exported: ``Created``, ``Updated``, ``Copied``.
    """

    datastore_ids: frozenset[str]
    frame_bucket: str
    event_bus: str
    rate: float
    verify: bool
    events: frozenset[str]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ExportSettings:
        """Read the settings.

        Raises
        ------
        KeyError, ValueError
            If a variable is missing or not a number: the stack and the function do not belong together.
        """
        return cls(
            datastore_ids=frozenset(_listed(environment["FRAMEGATE_DATASTORE_IDS"])),
            frame_bucket=environment["FRAMEGATE_FRAME_BUCKET"],
            event_bus=environment["FRAMEGATE_EVENT_BUS"],
            rate=float(environment["FRAMEGATE_EXPORT_RATE"]),
            verify=environment["FRAMEGATE_VERIFY"] == "true",
            events=frozenset(_listed(environment["FRAMEGATE_EXPORT_EVENTS"])),
        )


def _listed(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())
