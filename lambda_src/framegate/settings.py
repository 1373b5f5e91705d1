"""The environment of the functions: the only module that reads ``os.environ``.

Each class writes its variables with ``to_environment``, for the stack, and reads them with ``from_environment``, in the
function. The names stand once, in the pair of methods.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from framegate.messages import ExportOutput

FrameCaching = Literal["revalidate", "immutable", "no-store"]
"""The values of the configuration key ``frame_caching``."""

CACHE_CONTROL: dict[FrameCaching, str] = {
    "revalidate": "private, no-cache",
    "immutable": "private, max-age=31536000, immutable",
    "no-store": "no-store",
}
"""The Cache-Control header of frames, by value of ``frame_caching``.

With ``revalidate``, a browser keeps a frame but asks before each use, so that the API checks the caller every time.
With ``immutable``, the browser's cache hands a frame to whoever uses the browser next.

References
----------
RFC 9111, sections 5.2.2.4 and 5.2.2.5; RFC 8246.
"""

ALLOCATOR = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864"}
"""The variable that makes the functions behind the API keep up to 64 MiB for the next response.

By default, the allocator returns each large block to the system, which clears the next one. That takes 40 % of the
processor time of a frame of 2.6 MB.

References
----------
GNU C Library manual, "Memory Allocation Tunables".
"""

CHANGEABLE_CACHE_CONTROL: dict[FrameCaching, str] = {
    **CACHE_CONTROL,
    # An update of an image set can change them, so caches ask again after a minute.
    "immutable": "private, max-age=60, must-revalidate",
}
"""The Cache-Control header of frames by UID and of pictures, by value of ``frame_caching``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the functions behind the REST API.

    Parameters
    ----------
    datastore_ids : tuple of str
        The data stores that the deployment serves; requests for any other are refused before any call.
    frame_bucket : str
        Name of the bucket that holds frames.
    presigned_url_lifetime_seconds : int
        Seconds for which a pre-signed URL is valid.
    deferred_store_queue_url : str
        URL of the queue that takes frames too large for a request; empty for the function that draws pictures, which
        stores no frames.
    cors_origins : tuple of str
        The origins whose pages may read answers; ``("*",)`` allows any.
    auth : str
        Who checks the caller: ``iam``, ``cognito``, or ``jwt`` for Framegate's own authorizer.
    uid_hash_secret : str
        The key of the hashes that stand for DICOM UIDs in keys of the bucket.
    frame_caching : FrameCaching
        What browsers may do with the frames that they received: a key of `CACHE_CONTROL`.
    audit_claim : str
        The claim that names a caller in the audit record, if callers have tokens.
    cognito_client_ids : tuple of str
        The app clients whose tokens are accepted under ``cognito``; empty accepts those of every client.
    cognito_groups_are_datastores : bool
        Whether callers may read only the data stores whose ids are names of their groups in Cognito.
    authorization_function_arn : str or None
        The Lambda function that decides who may read an image set; None if there is none.
    authorization_cache_seconds : int
        Seconds for which its answers are cached.
    dicom_files : bool
        Whether the API delivers DICOM files, which contain patient data.
    """

    datastore_ids: tuple[str, ...]
    frame_bucket: str
    presigned_url_lifetime_seconds: int
    deferred_store_queue_url: str
    cors_origins: tuple[str, ...]
    auth: str
    uid_hash_secret: str
    frame_caching: FrameCaching = "revalidate"
    audit_claim: str = "sub"
    cognito_client_ids: tuple[str, ...] = ()
    cognito_groups_are_datastores: bool = False
    authorization_function_arn: str | None = None
    authorization_cache_seconds: int = 0
    dicom_files: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings.

        Raises
        ------
        KeyError, ValueError
            If a variable is missing or not a number: the stack and the function are of different releases.
        """
        return cls(
            datastore_ids=_split(environment["FRAMEGATE_DATASTORE_IDS"]),
            frame_bucket=environment["FRAMEGATE_FRAME_BUCKET"],
            presigned_url_lifetime_seconds=int(environment["FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS"]),
            deferred_store_queue_url=environment["FRAMEGATE_DEFERRED_STORE_QUEUE_URL"],
            cors_origins=_split(environment["FRAMEGATE_CORS_ORIGINS"]),
            auth=environment["FRAMEGATE_AUTH"],
            uid_hash_secret=environment["FRAMEGATE_UID_HASH_SECRET"],
            frame_caching=cast("FrameCaching", environment["FRAMEGATE_FRAME_CACHING"]),
            audit_claim=environment["FRAMEGATE_AUDIT_CLAIM"],
            cognito_client_ids=_split(environment["FRAMEGATE_COGNITO_CLIENT_IDS"]),
            cognito_groups_are_datastores=environment["FRAMEGATE_COGNITO_GROUPS_ARE_DATASTORES"] == "true",
            authorization_function_arn=environment["FRAMEGATE_AUTHORIZATION_FUNCTION_ARN"] or None,
            authorization_cache_seconds=int(environment["FRAMEGATE_AUTHORIZATION_CACHE_SECONDS"]),
            dicom_files=environment["FRAMEGATE_DICOM_FILES"] == "true",
        )

    def to_environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads.

        Raises
        ------
        ValueError
            If an item of a list is empty, has a comma, or begins or ends with white space.
        """
        return {
            "FRAMEGATE_DATASTORE_IDS": _join(self.datastore_ids),
            "FRAMEGATE_FRAME_BUCKET": self.frame_bucket,
            "FRAMEGATE_PRESIGNED_URL_LIFETIME_SECONDS": str(self.presigned_url_lifetime_seconds),
            "FRAMEGATE_DEFERRED_STORE_QUEUE_URL": self.deferred_store_queue_url,
            "FRAMEGATE_CORS_ORIGINS": _join(self.cors_origins),
            "FRAMEGATE_AUTH": self.auth,
            "FRAMEGATE_UID_HASH_SECRET": self.uid_hash_secret,
            "FRAMEGATE_FRAME_CACHING": self.frame_caching,
            "FRAMEGATE_AUDIT_CLAIM": self.audit_claim,
            "FRAMEGATE_COGNITO_CLIENT_IDS": _join(self.cognito_client_ids),
            "FRAMEGATE_COGNITO_GROUPS_ARE_DATASTORES": str(self.cognito_groups_are_datastores).lower(),
            "FRAMEGATE_AUTHORIZATION_FUNCTION_ARN": self.authorization_function_arn or "",
            "FRAMEGATE_AUTHORIZATION_CACHE_SECONDS": str(self.authorization_cache_seconds),
            "FRAMEGATE_DICOM_FILES": str(self.dicom_files).lower(),
        }


@dataclass(frozen=True, slots=True)
class AuthorizerSettings:
    """The settings of the function that checks tokens.

    Parameters
    ----------
    datastore_ids : tuple of str
        The data stores that the deployment serves.
    issuer : str
        The OpenID Connect issuer whose tokens are accepted.
    audiences : tuple of str
        The accepted audiences; a token must name one of them.
    datastores_claim : str or None
        The claim that lists the data stores that a token grants; None if tokens grant all.
    audit_claim : str
        The claim that names a caller in the audit record.
    image_sets_claim, studies_claim : str or None
        The claims that list the image sets and the studies that a token grants; None if none is configured.
    max_lifetime_seconds : int or None
        Maximum lifetime of a token; None if there is no maximum.
    """

    datastore_ids: tuple[str, ...]
    issuer: str
    audiences: tuple[str, ...]
    datastores_claim: str | None
    audit_claim: str = "sub"
    image_sets_claim: str | None = None
    studies_claim: str | None = None
    max_lifetime_seconds: int | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> AuthorizerSettings:
        """Read the settings.

        Raises
        ------
        KeyError, ValueError
            If a variable is missing or not a number: the stack and the function are of different releases.
        """
        return cls(
            datastore_ids=_split(environment["FRAMEGATE_DATASTORE_IDS"]),
            issuer=environment["FRAMEGATE_JWT_ISSUER"],
            audiences=_split(environment["FRAMEGATE_JWT_AUDIENCE"]),
            datastores_claim=environment["FRAMEGATE_JWT_DATASTORES_CLAIM"] or None,
            audit_claim=environment["FRAMEGATE_AUDIT_CLAIM"],
            image_sets_claim=environment["FRAMEGATE_JWT_IMAGE_SETS_CLAIM"] or None,
            studies_claim=environment["FRAMEGATE_JWT_STUDIES_CLAIM"] or None,
            max_lifetime_seconds=int(environment["FRAMEGATE_JWT_MAX_LIFETIME_SECONDS"] or 0) or None,
        )

    def to_environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads.

        Raises
        ------
        ValueError
            If an item of a list is empty, has a comma, or begins or ends with white space.
        """
        return {
            "FRAMEGATE_DATASTORE_IDS": _join(self.datastore_ids),
            "FRAMEGATE_JWT_ISSUER": self.issuer,
            "FRAMEGATE_JWT_AUDIENCE": _join(self.audiences),
            "FRAMEGATE_JWT_DATASTORES_CLAIM": self.datastores_claim or "",
            "FRAMEGATE_AUDIT_CLAIM": self.audit_claim,
            "FRAMEGATE_JWT_IMAGE_SETS_CLAIM": self.image_sets_claim or "",
            "FRAMEGATE_JWT_STUDIES_CLAIM": self.studies_claim or "",
            "FRAMEGATE_JWT_MAX_LIFETIME_SECONDS": str(self.max_lifetime_seconds or ""),
        }


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """The settings of the two functions that export.

    Parameters
    ----------
    datastore_ids : tuple of str
        The data stores that the deployment serves; exports from any other fail before any call.
    frame_bucket : str
        Name of the bucket that holds frames.
    event_bus : str
        Name or ARN of the event bus that announces results.
    calls_per_second : float
        `GetImageFrame` calls per second that one worker may make.
    verify : bool
        Whether every export verifies the pixels of its frames.
    events : tuple of str
        The changes that export an image set: ``Created``, ``Updated``, ``Copied``.
    output : ExportOutput
        What exports on events store. ``dicom`` also allows DICOM files in request manifests.
    uid_hash_secret : str
        The key of the hashes that stand for DICOM UIDs in keys of the bucket; the same as that of `Settings`.
    """

    datastore_ids: tuple[str, ...]
    frame_bucket: str
    event_bus: str
    calls_per_second: float
    verify: bool
    events: tuple[str, ...]
    output: ExportOutput = "frames"
    uid_hash_secret: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ExportSettings:
        """Read the settings.

        Raises
        ------
        KeyError, ValueError
            If a variable is missing or not a number: the stack and the function are of different releases.
        """
        return cls(
            datastore_ids=_split(environment["FRAMEGATE_DATASTORE_IDS"]),
            frame_bucket=environment["FRAMEGATE_FRAME_BUCKET"],
            event_bus=environment["FRAMEGATE_EVENT_BUS"],
            calls_per_second=float(environment["FRAMEGATE_EXPORT_RATE"]),
            verify=environment["FRAMEGATE_VERIFY"] == "true",
            events=_split(environment["FRAMEGATE_EXPORT_EVENTS"]),
            output=cast("ExportOutput", environment["FRAMEGATE_EXPORT_OUTPUT"]),
            uid_hash_secret=environment["FRAMEGATE_UID_HASH_SECRET"],
        )

    def to_environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads.

        Raises
        ------
        ValueError
            If an item of a list is empty, has a comma, or begins or ends with white space.
        """
        return {
            "FRAMEGATE_DATASTORE_IDS": _join(self.datastore_ids),
            "FRAMEGATE_FRAME_BUCKET": self.frame_bucket,
            "FRAMEGATE_EVENT_BUS": self.event_bus,
            "FRAMEGATE_EXPORT_RATE": repr(float(self.calls_per_second)).removesuffix(".0"),
            "FRAMEGATE_VERIFY": str(self.verify).lower(),
            "FRAMEGATE_EXPORT_EVENTS": _join(self.events),
            "FRAMEGATE_EXPORT_OUTPUT": self.output,
            "FRAMEGATE_UID_HASH_SECRET": self.uid_hash_secret,
        }


@dataclass(frozen=True, slots=True)
class ExportQueueSettings:
    """The further settings of the function behind the export queue and the deferred store queue.

    Parameters
    ----------
    queue_url : str
        URL of the export queue.
    deferred_store_queue_url : str
        URL of the deferred store queue.
    removal_recheck_seconds : int
        Seconds after which a deleted image set is removed a second time: as long as a request that started before the
        deletion may still be storing one of its frames.
    """

    queue_url: str
    deferred_store_queue_url: str
    removal_recheck_seconds: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ExportQueueSettings:
        """Read the settings.

        Raises
        ------
        KeyError, ValueError
            If a variable is missing or not a number: the stack and the function are of different releases.
        """
        return cls(
            queue_url=environment["FRAMEGATE_EXPORT_QUEUE_URL"],
            deferred_store_queue_url=environment["FRAMEGATE_DEFERRED_STORE_QUEUE_URL"],
            removal_recheck_seconds=int(environment["FRAMEGATE_REMOVAL_RECHECK_SECONDS"]),
        )

    def to_environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads."""
        return {
            "FRAMEGATE_EXPORT_QUEUE_URL": self.queue_url,
            "FRAMEGATE_DEFERRED_STORE_QUEUE_URL": self.deferred_store_queue_url,
            "FRAMEGATE_REMOVAL_RECHECK_SECONDS": str(self.removal_recheck_seconds),
        }


@dataclass(frozen=True, slots=True)
class TableSettings:
    """The settings of the function that writes the tables of exported instances and frames.

    Parameters
    ----------
    datastore_ids : tuple of str
        The data stores that the deployment serves.
    frame_bucket : str
        Name of the bucket that holds exports and tables.
    queue_url : str
        URL of the table queue.
    uid_hash_secret : str
        The key of the hashes that stand for DICOM UIDs; the same as that of `Settings`.
    identifying_columns : tuple of str
        The keywords of the identifying columns.
    """

    datastore_ids: tuple[str, ...]
    frame_bucket: str
    queue_url: str
    uid_hash_secret: str
    identifying_columns: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> TableSettings:
        """Read the settings.

        Raises
        ------
        KeyError
            If a variable is missing: the stack and the function are of different releases.
        """
        return cls(
            datastore_ids=_split(environment["FRAMEGATE_DATASTORE_IDS"]),
            frame_bucket=environment["FRAMEGATE_FRAME_BUCKET"],
            queue_url=environment["FRAMEGATE_TABLE_QUEUE_URL"],
            uid_hash_secret=environment["FRAMEGATE_UID_HASH_SECRET"],
            identifying_columns=_split(environment["FRAMEGATE_DATASET_COLUMNS"]),
        )

    def to_environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads.

        Raises
        ------
        ValueError
            If an item of a list is empty, has a comma, or begins or ends with white space.
        """
        return {
            "FRAMEGATE_DATASTORE_IDS": _join(self.datastore_ids),
            "FRAMEGATE_FRAME_BUCKET": self.frame_bucket,
            "FRAMEGATE_TABLE_QUEUE_URL": self.queue_url,
            "FRAMEGATE_UID_HASH_SECRET": self.uid_hash_secret,
            "FRAMEGATE_DATASET_COLUMNS": _join(self.identifying_columns),
        }


@dataclass(frozen=True, slots=True)
class LoggingSettings:
    """What every function puts into its logs, metrics and traces.

    Parameters
    ----------
    service : str
        Name of the deployment: the stack's name.
    level : str
        The lowest level that is logged, such as ``INFO``. Powertools reads it by itself.

    References
    ----------
    Powertools for AWS Lambda (Python), "Environment variables".
    """

    service: str = "framegate"
    level: str = "INFO"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> LoggingSettings:
        """Read the settings; a variable that is not set has its default."""
        return cls(
            service=environment.get("POWERTOOLS_SERVICE_NAME", cls().service),
            level=environment.get("POWERTOOLS_LOG_LEVEL", cls().level),
        )

    def to_environment(self) -> dict[str, str]:
        """Return the variables that `from_environment` reads."""
        return {"POWERTOOLS_SERVICE_NAME": self.service, "POWERTOOLS_LOG_LEVEL": self.level}


def is_snapshot_start() -> bool:
    """Whether Lambda is initializing the function to take a snapshot of it.

    References
    ----------
    AWS Lambda developer guide, "Defined runtime environment variables": ``AWS_LAMBDA_INITIALIZATION_TYPE``.
    """
    return os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"


def is_sampled() -> bool:
    """Whether X-Ray records the current invocation.

    References
    ----------
    AWS X-Ray developer guide, "Tracing header": ``Sampled=1``.
    """
    return "Sampled=1" in os.environ.get("_X_AMZN_TRACE_ID", "")


def configured_endpoint_url(service: str) -> str | None:
    """Return the endpoint that the environment sets for a service, or None.

    Parameters
    ----------
    service : str
        The service as botocore names it, such as ``medical-imaging``.

    References
    ----------
    AWS SDKs and Tools reference guide, "Service-specific endpoints".
    """
    name = service.upper().replace("-", "_")
    return os.environ.get(f"AWS_ENDPOINT_URL_{name}") or os.environ.get("AWS_ENDPOINT_URL") or None


def library_path() -> str | None:
    """Return where the dynamic linker looks for libraries: Lambda's layers put theirs there."""
    return os.environ.get("LD_LIBRARY_PATH") or None


def _split(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _join(items: Iterable[str]) -> str:
    items = tuple(items)
    for item in items:
        if not item or "," in item or item != item.strip():
            raise ValueError(f"{item!r} cannot be an item of a comma-separated list")
    return ",".join(items)
