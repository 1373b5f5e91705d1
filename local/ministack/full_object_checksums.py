"""Multipart uploads with ``ChecksumType: FULL_OBJECT``, whose checksum is that of the whole object.

MiniStack has the other type only, a checksum of the parts' checksums (``COMPOSITE``).
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Any

from ministack.services import s3  # type: ignore[import-not-found]

FULL_OBJECT = "FULL_OBJECT"

_create_multipart_upload = s3._create_multipart_upload
_complete_multipart_upload = s3._complete_multipart_upload
_composite_checksum = s3._composite_checksum

_whole: ContextVar[bytes | None] = ContextVar("whole", default=None)


def extend() -> None:
    """Let multipart uploads have a checksum of the whole object."""
    s3._create_multipart_upload = create_multipart_upload
    s3._complete_multipart_upload = complete_multipart_upload
    s3._composite_checksum = composite_checksum


def create_multipart_upload(bucket: str, key: str, headers: dict[str, str]) -> Any:
    """Begin an upload, and note the type of its checksum."""
    status, answer_headers, body = _create_multipart_upload(bucket, key, headers)
    if headers.get("x-amz-checksum-type") == FULL_OBJECT and "x-amz-checksum-type" in answer_headers:
        answer_headers["x-amz-checksum-type"] = FULL_OBJECT
        (upload_id,) = re.findall("<UploadId>(.*)</UploadId>", body.decode())
        s3._multipart_uploads[upload_id]["checksum_type"] = FULL_OBJECT
    return status, answer_headers, body


def complete_multipart_upload(
    bucket: str, key: str, body: bytes, query: dict[str, Any], headers: dict[str, str] | None = None
) -> Any:
    """End an upload, with a checksum of the type that was asked for when it began."""
    upload_id = s3._qp(query, "uploadId")
    upload = s3._multipart_uploads.get(upload_id)
    if upload is None or upload.get("checksum_type") != FULL_OBJECT:
        return _complete_multipart_upload(bucket, key, body, query, headers)
    token = _whole.set(b"".join(upload["parts"][number]["body"] for number in sorted(upload["parts"])))
    try:
        status, answer_headers, answer = _complete_multipart_upload(bucket, key, body, query, headers)
    finally:
        _whole.reset(token)
    if upload_id not in s3._multipart_uploads:
        s3._buckets[bucket]["objects"][key]["checksum_type"] = FULL_OBJECT
        answer = answer.replace(b"COMPOSITE", FULL_OBJECT.encode())
    return status, answer_headers, answer


def composite_checksum(algorithm: str, part_checksums: list[str | None]) -> Any:
    """The checksum of an upload that is being completed."""
    whole = _whole.get()
    if whole is None:
        return _composite_checksum(algorithm, part_checksums)
    return s3._compute_s3_checksum(algorithm, whole)
