"""The frame store on S3, played by moto."""

import os
import re
import socket
import threading
import time
import tracemalloc
import zlib
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
import requests
from botocore.config import Config

from framegate.aws.signed_http import CONNECT_TIMEOUT_SECONDS
from framegate.bucket_layout import frame_key
from framegate.identifiers import FrameRef
from framegate.problems import Throttled, UpstreamFailed, UpstreamTimeout
from framegate.storage.frame_store import FrameStore
from framegate.storage.object_store import ObjectStore, Written
from framegate.storage.object_writer import CLEANUP_SECONDS, MAX_PUT_BYTES, PART_BYTES
from framegate.storage.s3_put import S3Put, SentPart
from framegate.time_budget import TimeBudget
from tests.unit.conftest import BUCKET
from tests.unit.sessions import new_session

FRAME = FrameRef("d" * 32, "5" * 32, "f" * 32)
KEY = frame_key(FRAME)


def pieces(content, size=200_001):
    return (content[start : start + size] for start in range(0, len(content), size))


def stored(s3):
    return s3.get_object(Bucket=BUCKET, Key=KEY, ChecksumMode="ENABLED")


def open_uploads(s3):
    return s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def objects(s3):
    return s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])


def test_key_consists_of_identifiers():
    assert frame_key(FRAME) == f"frames/{'d' * 32}/{'5' * 32}/{'f' * 32}"


@pytest.mark.parametrize(
    "size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 4 * PART_BYTES, 6 * PART_BYTES + 12_345]
)
def test_stored_frame_is_byte_identical(s3, store, size):
    content = os.urandom(size)
    written = store.store(FRAME, "video/mp4", pieces(content), TimeBudget(60))
    assert written == Written(size, b64encode(zlib.crc32(content).to_bytes(4, "big")).decode())
    answer = stored(s3)
    assert answer["Body"].read() == content
    assert answer["ContentType"] == "video/mp4"
    assert answer["CacheControl"] == "private, no-cache"
    assert answer["ChecksumCRC32"]
    found = store.find(FRAME, TimeBudget(60))
    assert (found.content_type, found.size) == ("video/mp4", size)


def test_pieces_larger_than_a_part_are_split(s3, store):
    content = os.urandom(3 * PART_BYTES + 5)
    store.store(FRAME, "image/jph", [content], TimeBudget(60))
    assert stored(s3)["Body"].read() == content


@pytest.mark.parametrize(("size", "in_parts"), [(MAX_PUT_BYTES, False), (MAX_PUT_BYTES + 1, True)])
def test_frame_of_known_size_takes_one_request_up_to_a_limit(s3, s3_server, store, size, in_parts):
    content = os.urandom(size)
    with s3_server.counting("PutObject") as whole, s3_server.counting("UploadPart") as parts:
        store.store(FRAME, "video/mp4", pieces(content), TimeBudget(60), size)
    assert (len(whole), len(parts)) == ((0, 3) if in_parts else (1, 0))
    assert stored(s3)["Body"].read() == content


def test_frame_larger_than_expected_is_stored_whole(s3, store):
    content = os.urandom(2 * MAX_PUT_BYTES + 5)
    store.store(FRAME, "video/mp4", pieces(content), TimeBudget(60), 10)
    assert stored(s3)["Body"].read() == content


def test_absent_frame_is_not_found(store):
    assert store.find(FRAME, TimeBudget(60)) is None


def test_failing_source_leaves_nothing(s3, store):
    def broken():
        yield os.urandom(2 * PART_BYTES)
        raise UpstreamFailed("HealthImaging", "broke the connection")

    with pytest.raises(UpstreamFailed, match="HealthImaging broke the connection"):
        store.store(FRAME, "image/jph", broken(), TimeBudget(60))
    assert (open_uploads(s3), objects(s3)) == ([], [])


def test_source_that_fails_within_the_first_part_leaves_nothing(s3, store):
    def broken():
        yield b"x"
        raise UpstreamFailed("HealthImaging", "broke the connection")

    with pytest.raises(UpstreamFailed):
        store.store(FRAME, "image/jph", broken(), TimeBudget(60))
    assert (open_uploads(s3), objects(s3)) == ([], [])


def test_upload_without_enough_time_leaves_nothing(s3, store):
    with pytest.raises(UpstreamTimeout):
        store.store(FRAME, "image/jph", pieces(os.urandom(6 * PART_BYTES)), TimeBudget(0))
    assert (open_uploads(s3), objects(s3)) == ([], [])


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize(
    ("status", "code", "problem"),
    [
        (403, "AccessDenied", UpstreamFailed),
        (503, "SlowDown", Throttled),
        (400, "KMS.DisabledException", UpstreamFailed),
    ],
)
def test_upload_that_s3_rejects_leaves_nothing(s3, s3_server, store, operation, status, code, problem):
    with s3_server.refusing(operation, status, code), pytest.raises(problem) as failed:
        store.store(FRAME, "image/jph", pieces(os.urandom(2 * PART_BYTES)), TimeBudget(60))
    assert failed.value.evidence == {
        "upstream_status": status,
        "upstream_error": code,
        "upstream_operation": operation,
    }
    assert (open_uploads(s3), objects(s3)) == ([], [])


@pytest.mark.parametrize(("operation", "size"), [("PutObject", 1), ("UploadPart", PART_BYTES + 1)])
def test_broken_connection_to_s3_is_a_failure_and_leaves_nothing(s3, s3_server, store, operation, size):
    with s3_server.breaking_off(operation), pytest.raises(UpstreamFailed, match="S3 broke the connection"):
        store.store(FRAME, "image/jph", [bytes(size)], TimeBudget(60))
    assert (open_uploads(s3), objects(s3)) == ([], [])


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
@pytest.mark.parametrize("status", [500, 503, "closed"])
def test_transient_failure_of_s3_is_retried(s3, s3_server, store, operation, status):
    content = os.urandom(PART_BYTES + 1 if operation == "UploadPart" else 1000)
    failing = (
        s3_server.breaking_off(operation, times=1)
        if status == "closed"
        else s3_server.refusing(operation, status, "InternalError", times=1)
    )
    with failing as calls:
        store.store(FRAME, "image/jph", [content], TimeBudget(60))
    assert len(calls) >= 2
    assert stored(s3)["Body"].read() == content


def test_permanent_rejection_by_s3_is_not_retried(s3_server, store):
    with s3_server.refusing("PutObject", 403, "AccessDenied") as calls, pytest.raises(UpstreamFailed):
        store.store(FRAME, "image/jph", [b"frame"], TimeBudget(60))
    assert len(calls) == 1


def test_unreachable_s3_is_a_failure(threads):
    nowhere = boto3.client("s3", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1}))
    store = FrameStore(ObjectStore(new_session(), lambda: nowhere, BUCKET, threads))
    with pytest.raises(UpstreamFailed, match="S3 could not be reached"):
        store.find(FRAME, TimeBudget(60))
    with pytest.raises(UpstreamFailed, match="S3 could not be reached"):
        store.store(FRAME, "image/jph", [b"frame"], TimeBudget(60))


@pytest.mark.parametrize("key", ["a/../b.jsonl", "a/./b", "a//b", "a b+c%20d~é"])
def test_object_is_stored_under_its_exact_key(s3, objects, key):
    objects.put(key, "application/jsonl", [b"line"], TimeBudget(60))
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == [key]


class SlowS3:
    """Accepts `rate` bytes a second of a body for some seconds, then all of it; answers after a pause."""

    def __init__(self, rate, seconds, answer=0.0):
        self._rate, self._seconds, self._answer = rate, seconds, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _serve(self):
        connection, _ = self._listener.accept()
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1024)
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
            received, began = len(head.partition(b"\r\n\r\n")[2]), time.monotonic()
            while received < length:
                time.sleep(0.02)
                if time.monotonic() - began < self._seconds and received > (time.monotonic() - began) * self._rate:
                    continue
                piece = connection.recv(1024 * 1024)
                if not piece:
                    return
                received += len(piece)
            time.sleep(self._answer)
            connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n')

    def store(self, threads):
        client = boto3.client("s3", endpoint_url=self.url)
        return FrameStore(ObjectStore(new_session(), lambda: client, BUCKET, threads))


def test_slow_upload_succeeds(threads):
    # Longer than the connect timeout, which urllib3 would also apply to sending.
    with SlowS3(1_000_000, CONNECT_TIMEOUT_SECONDS + 1) as slow:
        assert slow.store(threads).store(FRAME, "image/jph", [bytes(7_000_000)], TimeBudget(60)).size == 7_000_000


def test_stalled_upload_ends_with_the_time_budget(threads):
    with SlowS3(0, 6.0) as stuck:
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            stuck.store(threads).store(FRAME, "image/jph", [bytes(7_000_000)], TimeBudget(1))
        assert time.monotonic() - began < 5


def test_sending_and_waiting_for_the_response_share_the_time_budget(threads):
    with SlowS3(1_000_000, 1.0, answer=5.0) as slow:
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            slow.store(threads).store(FRAME, "image/jph", [bytes(7_000_000)], TimeBudget(2))
        assert time.monotonic() - began < 5


def test_problem_without_traceback_keeps_no_frame_bytes_alive(s3_server, store):
    with s3_server.refusing("PutObject", 403, "AccessDenied"), pytest.raises(UpstreamFailed) as failed:
        store.store(FRAME, "image/jph", [b"frame"], TimeBudget(60))
    kept = failed.value.without_traceback()
    assert (kept.__traceback__, kept.__context__, kept.__cause__) == (None, None, None)


SILENCE_SECONDS = 3.0


def test_wait_for_silent_s3_ends_with_the_time_budget(s3, s3_server, store):
    started = time.monotonic()
    with s3_server.silent("HeadObject", SILENCE_SECONDS), pytest.raises(UpstreamTimeout):
        store.find(FRAME, TimeBudget(0.3))
    assert time.monotonic() - started < SILENCE_SECONDS


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_upload_to_silent_s3_ends_in_time_and_leaves_nothing(s3, s3_server, store, operation):
    started = time.monotonic()
    with s3_server.silent(operation, SILENCE_SECONDS), pytest.raises(UpstreamTimeout):
        store.store(FRAME, "image/jph", [bytes(2 * PART_BYTES)], TimeBudget(0.5))
    assert time.monotonic() - started < 0.5 + CLEANUP_SECONDS + 2.0
    # When S3 wakes up, it creates the upload after all, which must then be aborted.
    time.sleep(SILENCE_SECONDS + 1.0)
    assert (open_uploads(s3), objects(s3)) == ([], [])


def test_small_frame_that_s3_stores_late_is_complete_or_absent(s3, s3_server, store):
    started = time.monotonic()
    with s3_server.silent("PutObject", SILENCE_SECONDS), pytest.raises(UpstreamTimeout):
        store.store(FRAME, "image/jph", [b"frame"], TimeBudget(0.3))
    assert time.monotonic() - started < SILENCE_SECONDS
    time.sleep(SILENCE_SECONDS)
    assert [each["Size"] for each in objects(s3)] in ([], [5])


def test_denied_head_is_not_mistaken_for_an_absent_frame(s3, s3_server, store):
    with s3_server.refusing("HeadObject", 403, "AccessDenied"), pytest.raises(UpstreamFailed):
        store.find(FRAME, TimeBudget(60))


def test_missing_bucket_is_a_failure_with_evidence(s3, new_object_store):
    store = FrameStore(new_object_store("no-such-bucket-anywhere"))
    with pytest.raises(UpstreamFailed) as failed:
        store.store(FRAME, "image/jph", [b"x"], TimeBudget(60))
    assert failed.value.evidence == {
        "upstream_status": 404,
        "upstream_error": "NoSuchBucket",
        "upstream_operation": "PutObject",
    }


def test_upload_keeps_only_a_few_parts_in_memory(objects, monkeypatch):
    store = FrameStore(objects)
    block = bytes(PART_BYTES // 4)
    # moto would keep all parts in the memory of this process.
    monkeypatch.setattr(
        S3Put, "upload_part", lambda _, key, upload, number, part, budget: SentPart('"e"', len(part), 0)
    )
    monkeypatch.setattr(objects._bucket.client(), "complete_multipart_upload", lambda **_: {})
    tracemalloc.start()
    try:
        store.store(FRAME, "video/mp4", (block for _ in range(4 * 64)), TimeBudget(60))
        assert tracemalloc.get_traced_memory()[1] < 6 * PART_BYTES
    finally:
        tracemalloc.stop()


def test_presigned_url_uses_sigv4_and_returns_the_frame(s3, store):
    store.store(FRAME, "image/jph", [b"frame"], TimeBudget(60))
    before = datetime.now(UTC)
    signed = store.presigned_url(FRAME, 300)
    query = parse_qs(urlsplit(signed.url).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["300"]
    assert timedelta(seconds=299) < signed.expires_at - before < timedelta(seconds=301)
    assert requests.get(signed.url, timeout=5).content == b"frame"


# Temporary copies


def tags_of(s3):
    return {each["Key"]: each["Value"] for each in s3.get_object_tagging(Bucket=BUCKET, Key=KEY)["TagSet"]}


@pytest.mark.parametrize("size", [9, 2 * PART_BYTES + 1])
@pytest.mark.parametrize("is_size_known", [False, True])
def test_copy_for_a_request_is_tagged_as_temporary(s3, store, size, is_size_known):
    content = os.urandom(size)
    written = store.store_temporarily(
        FRAME, "video/mp4", pieces(content), TimeBudget(60), size if is_size_known else None
    )

    assert written.size == size
    assert tags_of(s3) == {"framegate-copy": "temporary"}
    assert stored(s3)["Body"].read() == content
    assert store.look_up(FRAME, TimeBudget(60)).is_temporary
    assert store.find(FRAME, TimeBudget(60)).size == size


@pytest.mark.parametrize("size", [9, 2 * PART_BYTES + 1])
def test_copy_for_a_request_never_replaces_a_copy_of_an_export(s3, store, size):
    content = os.urandom(size)
    store.store(FRAME, "video/mp4", pieces(content), TimeBudget(60))
    before = stored(s3)["LastModified"], stored(s3)["ETag"]
    written = store.store_temporarily(FRAME, "video/mp4", pieces(content), TimeBudget(60))

    assert (stored(s3)["LastModified"], stored(s3)["ETag"]) == before
    assert tags_of(s3) == {}
    assert written.size == size
    assert open_uploads(s3) == []


def test_copy_for_a_request_replaces_the_mismatched_copy_that_it_found(s3, store):
    store.store(FRAME, "image/jph", [b"wrong"], TimeBudget(60))
    s3.put_object_tagging(
        Bucket=BUCKET, Key=KEY, Tagging={"TagSet": [{"Key": "framegate-pixels", "Value": "mismatch"}]}
    )
    found = store.look_up(FRAME, TimeBudget(60))
    assert found.is_mismatched
    store.store_temporarily(FRAME, "image/jph", [b"right"], TimeBudget(60), mismatched_etag=found.stored.etag)

    assert (stored(s3)["Body"].read(), tags_of(s3)) == (b"right", {"framegate-copy": "temporary"})


def test_copy_for_a_request_fails_if_the_stored_copy_turned_out_wrong_meanwhile(s3, store):
    store.store(FRAME, "image/jph", [b"wrong"], TimeBudget(60))
    s3.put_object_tagging(
        Bucket=BUCKET, Key=KEY, Tagging={"TagSet": [{"Key": "framegate-pixels", "Value": "mismatch"}]}
    )
    with pytest.raises(UpstreamFailed):
        store.store_temporarily(FRAME, "image/jph", [b"right"], TimeBudget(60))

    assert stored(s3)["Body"].read() == b"wrong"


def test_retried_copy_for_a_request_counts_its_own_first_attempt(s3, store, s3_server):
    """S3 stores the object, but the response is lost; the second attempt finds the first one's object."""
    with s3_server.answering_nothing("PutObject", times=1):
        written = store.store_temporarily(FRAME, "image/jph", [b"frame"], TimeBudget(60), 5)

    assert (written.size, stored(s3)["Body"].read()) == (5, b"frame")


def test_permanent_copy_keeps_the_tags_of_other_tools(s3, store):
    store.store_temporarily(FRAME, "image/jph", [b"frame"], TimeBudget(60))
    s3.put_object_tagging(
        Bucket=BUCKET,
        Key=KEY,
        Tagging={"TagSet": [{"Key": "framegate-copy", "Value": "temporary"}, {"Key": "scanned", "Value": "yes"}]},
    )
    assert store.make_permanent(FRAME, store.look_up(FRAME, TimeBudget(60)), TimeBudget(60))

    assert tags_of(s3) == {"scanned": "yes"}
    assert not store.look_up(FRAME, TimeBudget(60)).is_temporary


@pytest.mark.parametrize(("age_days", "is_kept"), [(5.9, True), (6.1, False), (8, False)])
def test_temporary_copy_that_s3_may_be_removing_does_not_become_permanent(s3, store, age_days, is_kept):
    store.store_temporarily(FRAME, "image/jph", [b"frame"], TimeBudget(60))
    found = store.look_up(FRAME, TimeBudget(60))
    aged = replace(found, stored=replace(found.stored, modified_at=datetime.now(UTC) - timedelta(days=age_days)))

    assert store.make_permanent(FRAME, aged, TimeBudget(60)) is is_kept
    assert tags_of(s3) == ({} if is_kept else {"framegate-copy": "temporary"})
