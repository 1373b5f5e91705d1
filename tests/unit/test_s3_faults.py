"""Faults of S3 and of its KMS key, at every S3 call of a request."""

from __future__ import annotations

import json
import os

import pytest
import requests

from framegate.identifiers import ImageSetRef
from framegate.rest.http import INLINE_LIMIT
from framegate.storage.object_writer import PART_BYTES
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.test_index import ask

LARGE = os.urandom(2 * PART_BYTES + 1)

REFUSALS = [
    (403, "AccessDenied", 502),
    (400, "ExpiredToken", 502),
    (403, "InvalidAccessKeyId", 502),
    (403, "RequestTimeTooSkewed", 502),
    (404, "NoSuchBucket", 502),
    (400, "KMS.DisabledException", 502),
    (400, "KMS.NotFoundException", 502),
    (400, "KMS.KMSInvalidStateException", 502),
    (400, "KMS.ThrottlingException", 429),
    (400, "RequestTimeout", 502),
    (500, "InternalError", 502),
    (503, "ServiceUnavailable", 502),
    (503, "SlowDown", 429),
]


# For tests that transfer megabytes before the fault.
FEW_REFUSALS = [each for each in REFUSALS if each[1] in ("ExpiredToken", "KMS.DisabledException", "SlowDown")]


@pytest.fixture(scope="module")
def large(emulator):
    return emulator.add_frame(SERVED, LARGE, "video/mp4")


@pytest.fixture(scope="module")
def small(emulator):
    return emulator.add_frame(SERVED, b"small", "image/jph")


def is_problem(answer, status):
    document = answer.json()
    return (
        answer.status == status == document["status"]
        and answer.headers["Content-Type"] == "application/problem+json"
        and document["type"].removeprefix("urn:framegate:problem:") in ("upstream-failed", "throttled")
        and ("Retry-After" in answer.headers) == (status == 429)
        and answer.headers["Access-Control-Allow-Origin"] == "*"
    )


def leftovers(s3):
    objects = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    return [each["Key"] for each in objects] + s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


@pytest.mark.parametrize(("status", "code", "expected"), FEW_REFUSALS)
@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_large_frame_that_s3_rejects_is_a_problem_and_leaves_nothing(
    client, large, s3, s3_server, log_lines, operation, status, code, expected
):
    with s3_server.refusing(operation, status, code) as calls:
        assert is_problem(client.get(large), expected)
    assert calls
    assert log_lines()[-1]["upstream_error"] == code
    assert leftovers(s3) == []
    assert requests.get(client.get(large).headers["Location"], timeout=5).content == LARGE


@pytest.mark.parametrize(("status", "code", "expected"), REFUSALS)
def test_small_frame_that_s3_rejects_is_a_problem(client, small, s3, s3_server, status, code, expected):
    with s3_server.refusing("PutObject", status, code):
        assert is_problem(client.get(small, "delivery=url"), expected)
    assert leftovers(s3) == []
    # Inline delivery does not need S3.
    assert client.get(small).body == b"small"


@pytest.mark.parametrize(("status", "expected"), [(400, 502), (403, 502), (429, 429), (500, 502), (503, 502)])
def test_failing_head_is_a_problem(client, large, s3, s3_server, status, expected):
    # A response to HEAD has no body, so only its status tells the reason.
    with s3_server.refusing("HeadObject", status, str(status)):
        assert is_problem(client.get(large), expected)
    assert leftovers(s3) == []


@pytest.mark.parametrize(("status", "code", "expected"), FEW_REFUSALS)
def test_stored_frame_that_s3_does_not_return_is_a_problem(client, large, s3, s3_server, status, code, expected):
    client.get(large)
    end = {"Range": f"bytes={INLINE_LIMIT + 1}-{INLINE_LIMIT + 100}"}
    with s3_server.refusing("GetObject", status, code):
        assert is_problem(client.get(large, headers=end), expected)
    assert client.get(large, headers=end).body == LARGE[INLINE_LIMIT + 1 : INLINE_LIMIT + 101]


@pytest.mark.parametrize(("status", "code", "expected"), REFUSALS)
@pytest.mark.parametrize("operation", ["GetObject", "PutObject"])
def test_index_that_s3_neither_returns_nor_accepts_is_a_problem(
    client, emulator, s3, s3_server, operation, status, code, expected
):
    frame = emulator.add_frame(SERVED, b"x", "image/jph")
    image_set = ImageSetRef(SERVED, frame.image_set_id)
    with s3_server.refusing(operation, status, code):
        assert is_problem(ask(client, image_set), expected)
    assert len(ask(client, image_set).json()["imageFrames"]) == 1


def test_frame_that_is_removed_during_the_request_is_a_problem(client, large, s3, s3_server):
    client.get(large)
    with s3_server.refusing("GetObject", 404, "NoSuchKey"):
        assert is_problem(client.get(large, headers={"Range": f"bytes={INLINE_LIMIT + 1}-{INLINE_LIMIT + 100}"}), 502)


def test_credentials_that_expire_during_an_upload_deliver_nothing(client, large, s3, s3_server, log_lines):
    """The upload cannot be aborted either. Nobody can read it, and the bucket's lifecycle rule removes it."""
    with (
        s3_server.refusing("UploadPart", 400, "ExpiredToken", after=1),
        s3_server.refusing("CompleteMultipartUpload", 400, "ExpiredToken"),
        s3_server.refusing("AbortMultipartUpload", 400, "ExpiredToken"),
    ):
        assert is_problem(client.get(large), 502)
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
    assert "multipart upload not aborted" in [line["message"] for line in log_lines()]
    assert requests.get(client.get(large).headers["Location"], timeout=5).content == LARGE


def test_cause_is_in_the_log_and_not_in_the_response(client, small, s3, s3_server, log_lines):
    with s3_server.refusing("PutObject", 400, "KMS.DisabledException"):
        answer = client.get(small, "delivery=url")

    assert "KMS" not in answer.body.decode()
    assert BUCKET not in answer.body.decode()
    assert "KMS.DisabledException" in json.dumps(log_lines()[-1])
