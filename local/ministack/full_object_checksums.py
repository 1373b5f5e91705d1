"""Adds multipart uploads with ``ChecksumType: FULL_OBJECT``, whose checksum covers the whole object.

MiniStack supports only ``COMPOSITE``, a checksum of the checksums of the parts.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from ministack.services import s3  # type: ignore[import-not-found]

from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

FULL_OBJECT = "FULL_OBJECT"
WHY = "MiniStack supports only checksums of type COMPOSITE"

_whole: ContextVar[bytes | None] = ContextVar("whole", default=None)

patches = Patches()


@patches.replaces(s3, "_create_multipart_upload", digest="3e8ca288f480", why=WHY)
def create_multipart_upload(original: Callable[..., Any], bucket: str, key: str, headers: dict[str, str]) -> Any:
    """Create an upload, and store the type of its checksum."""
    status, answer_headers, body = original(bucket, key, headers)
    if headers.get("x-amz-checksum-type") == FULL_OBJECT and "x-amz-checksum-type" in answer_headers:
        answer_headers["x-amz-checksum-type"] = FULL_OBJECT
        (upload_id,) = re.findall("<UploadId>(.*)</UploadId>", body.decode())
        s3._multipart_uploads[upload_id]["checksum_type"] = FULL_OBJECT
    return status, answer_headers, body


@patches.replaces(s3, "_complete_multipart_upload", digest="9e2d6452dfe1", why=WHY)
def complete_multipart_upload(
    original: Callable[..., Any],
    bucket: str,
    key: str,
    body: bytes,
    query: dict[str, Any],
    headers: dict[str, str] | None = None,
) -> Any:
    """Complete an upload with the checksum type that it was created with."""
    upload_id = s3._qp(query, "uploadId")
    upload = s3._multipart_uploads.get(upload_id)
    if upload is None or upload.get("checksum_type") != FULL_OBJECT:
        return original(bucket, key, body, query, headers)
    token = _whole.set(b"".join(upload["parts"][number]["body"] for number in sorted(upload["parts"])))
    try:
        status, answer_headers, answer = original(bucket, key, body, query, headers)
    finally:
        _whole.reset(token)
    if upload_id not in s3._multipart_uploads:
        s3._buckets[bucket]["objects"][key]["checksum_type"] = FULL_OBJECT
        answer = answer.replace(b"COMPOSITE", FULL_OBJECT.encode())
    return status, answer_headers, answer


@patches.replaces(s3, "_composite_checksum", digest="f20a4d1c31a9", why=WHY)
def composite_checksum(original: Callable[..., Any], algorithm: str, part_checksums: list[str | None]) -> Any:
    """Compute the checksum of the upload that is being completed."""
    whole = _whole.get()
    if whole is None:
        return original(algorithm, part_checksums)
    return s3._compute_s3_checksum(algorithm, whole)
