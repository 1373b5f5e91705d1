"""The keys, tags and media types of the bucket: code, lifecycle rules and policies take them from here.

Keys contain HealthImaging's identifiers only, except under `REQUEST_PREFIX` and `RESULT_PREFIX`: there, users choose
the names of their request manifests.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framegate.identifiers import FrameRef, ImageSetRef

FRAME_PREFIX = "frames/"
"""Frames. The REST API signs URLs for this prefix alone."""

MISMATCHED_PREFIX = "mismatched/"
"""Frames whose pixels differ from those that HealthImaging imported; no URL reaches them."""

INDEX_PREFIX = "indexes/"
"""Frame indexes, picture indexes, and the latest version and the study of each image set."""

QUEUED_PREFIX = "queued/"
"""Markers of frames that are waiting in the deferred store queue."""

METADATA_PREFIX = "metadata/"
"""DICOM metadata of series, as DICOMweb clients get it."""

BODY_PREFIX = "bodies/"
"""Response bodies that are too large for a response. The REST API signs URLs for this prefix, too."""

BODY_LIFETIME_DAYS = 2
"""Days after which a stored body expires. The next request for it stores it again."""

INSTANCE_PREFIX = "instances/"
"""DICOM files, which contain patient data. The REST API signs URLs for this prefix, too, if it delivers them."""

STUDY_PREFIX = "studies/"
"""The image sets of each study, under a keyed hash of its UID."""

STUDY_LIFETIME_DAYS = 7
"""Days after which the list of a study's image sets expires, because its image sets may all be deleted."""

CLAIM_PREFIX = "claims/"
"""Notes that an invocation is doing a piece of work, or has found nothing."""

EXPORT_PREFIX = "exports/"
"""Manifests and progress of exports, and the results of request manifests."""

REQUEST_PREFIX = "export-requests/"
"""Request manifests. Users put them here."""

RESULT_PREFIX = f"{EXPORT_PREFIX}requests/"
"""Results of request manifests."""

TABLE_PREFIX = "tables/"
"""The tables of exported instances and frames, and the home of each image set in them."""

QUERY_RESULT_PREFIX = "query-results/"
"""Results of Athena's queries of the tables."""

QUERY_RESULT_LIFETIME_DAYS = 7
"""Days after which the result of a query expires."""

MANIFEST_NAME = "manifest.jsonl"
"""The last part of a manifest's key."""

IMAGE_SET_PREFIXES = (
    FRAME_PREFIX,
    MISMATCHED_PREFIX,
    INDEX_PREFIX,
    EXPORT_PREFIX,
    QUEUED_PREFIX,
    METADATA_PREFIX,
    BODY_PREFIX,
    INSTANCE_PREFIX,
)
"""The prefixes that hold objects of image sets. A deleted image set is removed from all of them."""

MISMATCH_TAG = {"framegate-pixels": "mismatch"}
"""The tag of a frame whose pixels differ from those that HealthImaging imported."""

TEMPORARY_TAG = {"framegate-copy": "temporary"}
"""The tag of a frame that a request stored. It expires, unless an export needs it and removes this tag."""

TEMPORARY_DAYS = 7
"""Days after which a frame with `TEMPORARY_TAG` expires."""

JSON_LINES = "application/jsonl"
"""Media type of indexes, manifests and progress: JSON Lines (https://jsonlines.org)."""


def digest(*texts: str) -> str:
    """Return a short digest of texts, for a name that identifies several of them."""
    return sha256("\n".join(texts).encode()).hexdigest()[:32]


def image_set_prefix(prefix: str, image_set: ImageSetRef) -> str:
    """Return ``{prefix}{datastoreId}/{imageSetId}/``, where `prefix` is one of `IMAGE_SET_PREFIXES`."""
    return f"{prefix}{image_set.datastore_id}/{image_set.image_set_id}/"


def frame_key(frame: FrameRef) -> str:
    """Return the key of a frame."""
    return f"{image_set_prefix(FRAME_PREFIX, frame)}{frame.image_frame_id}"


def mismatched_key(frame: FrameRef) -> str:
    """Return the key to which a frame with wrong pixels moves."""
    return f"{image_set_prefix(MISMATCHED_PREFIX, frame)}{frame.image_frame_id}"


def queued_key(frame: FrameRef) -> str:
    """Return the key of the marker of a queued frame."""
    return f"{image_set_prefix(QUEUED_PREFIX, frame)}{frame.image_frame_id}"


def index_key(image_set: ImageSetRef, version_id: str, index_format: int) -> str:
    """Return the key of the frame index of an image set's version, in a format of index lines."""
    return f"{image_set_prefix(INDEX_PREFIX, image_set)}version-{version_id}.{index_format}.jsonl"


def picture_index_key(image_set: ImageSetRef, version_id: str, index_format: int) -> str:
    """Return the key of the picture index of an image set's version, in a format of its lines."""
    return f"{image_set_prefix(INDEX_PREFIX, image_set)}version-{version_id}.pictures.{index_format}.jsonl"


def study_key(image_set: ImageSetRef, version_id: str) -> str:
    """Return the key of the object that names the study of an image set's version."""
    return f"{image_set_prefix(INDEX_PREFIX, image_set)}version-{version_id}.study.json"


def listed_prefix(image_set: ImageSetRef) -> str:
    """Return the prefix of the objects that tell on which studies' lists events have put an image set."""
    return f"{image_set_prefix(INDEX_PREFIX, image_set)}listed/"


def listed_key(image_set: ImageSetRef, study_hash: str) -> str:
    """Return the key of the object that tells that a study's list has an image set."""
    return f"{listed_prefix(image_set)}{study_hash}.json"


def latest_version_key(image_set: ImageSetRef) -> str:
    """Return the key of the object that names the latest version of an image set."""
    return f"{image_set_prefix(INDEX_PREFIX, image_set)}latest.json"


def metadata_key(image_set: ImageSetRef, name: str) -> str:
    """Return the key of a series' metadata; `name` tells the versions of its image sets and the API's base URL."""
    return f"{image_set_prefix(METADATA_PREFIX, image_set)}{name}.json.gz"


def body_key(image_set: ImageSetRef, name: str) -> str:
    """Return the key of a response body."""
    return f"{image_set_prefix(BODY_PREFIX, image_set)}{name}"


def instance_key(image_set: ImageSetRef, instance_hash: str) -> str:
    """Return the key of the DICOM file of an instance; a keyed hash stands for its UID."""
    return f"{image_set_prefix(INSTANCE_PREFIX, image_set)}{instance_hash}.dcm"


def study_list_key(datastore_id: str, study_hash: str) -> str:
    """Return the key of the list of a study's image sets."""
    return f"{STUDY_PREFIX}{datastore_id}/{study_hash}.json"


def claim_key(datastore_id: str, name: str) -> str:
    """Return the key of the claim for a piece of work."""
    return f"{CLAIM_PREFIX}{datastore_id}/{name}.json"


def manifest_key(image_set: ImageSetRef, export_id: str) -> str:
    """Return the key of an export's manifest."""
    return f"{image_set_prefix(EXPORT_PREFIX, image_set)}{export_id}/{MANIFEST_NAME}"


def manifest_wildcard(datastore_id: str) -> str:
    """Return the pattern of EventBridge that the keys of a data store's manifests match."""
    return f"{EXPORT_PREFIX}{datastore_id}/*/{MANIFEST_NAME}"


def progress_prefix(image_set: ImageSetRef) -> str:
    """Return the prefix of the keys of all saved progress of an image set's exports."""
    return f"{image_set_prefix(EXPORT_PREFIX, image_set)}progress/"


def progress_key(image_set: ImageSetRef, name: str) -> str:
    """Return the key of an export's saved progress."""
    return f"{progress_prefix(image_set)}{name}.jsonl"


def table_prefix(schema: int, table: str) -> str:
    """Return the prefix of the files of a table, which Athena and DuckDB read."""
    return f"{TABLE_PREFIX}schema-{schema}/{table}/"


def partition_prefix(schema: int, table: str, datastore_id: str, month: str) -> str:
    """Return the prefix of the files of a table for a data store and a month (``yyyy-MM``), in Hive's form."""
    return f"{table_prefix(schema, table)}datastore_id={datastore_id}/month={month}/"


def part_name(part: int) -> str:
    """Return the name of a file of a table, within its partition."""
    return f"part-{part:05d}.parquet"


def table_homes_prefix(schema: int, datastore_id: str) -> str:
    """Return the prefix of the objects that name the files with the rows of image sets. It is outside the tables."""
    return f"{TABLE_PREFIX}schema-{schema}/homes/{datastore_id}/"


def table_home_key(schema: int, image_set: ImageSetRef) -> str:
    """Return the key of the object that names the files with an image set's rows."""
    return f"{table_homes_prefix(schema, image_set.datastore_id)}{image_set.image_set_id}.json"


def results_prefix(request_key: str, execution: str) -> str:
    """Return the prefix, without a slash at its end, of the results of one execution for a request manifest."""
    return f"{RESULT_PREFIX}{request_key.removeprefix(REQUEST_PREFIX)}/{execution}"


def accepted_key(prefix: str) -> str:
    """Return the key of the accepted lines of a request manifest, under its `results_prefix`."""
    return f"{prefix}/accepted.jsonl"


def rejected_key(prefix: str) -> str:
    """Return the key of the rejected lines of a request manifest, under its `results_prefix`."""
    return f"{prefix}/rejected.jsonl"


def failed_key(prefix: str) -> str:
    """Return the key of the lines of a request manifest whose exports failed, under its `results_prefix`."""
    return f"{prefix}/failed.jsonl"


def summary_key(prefix: str) -> str:
    """Return the key of the summary of a request manifest, under its `results_prefix`."""
    return f"{prefix}/summary.json"


def map_results_prefix(prefix: str) -> str:
    """Return the prefix of what Step Functions writes about the lines, under the manifest's `results_prefix`."""
    return f"{prefix}/results"
