"""The parts of the bench that open series: the bucket, the front end, the viewers, and their simulation."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import replace

import boto3
import pytest
from botocore.exceptions import ClientError

from bench.account import Account, Bucket
from bench.bucket import MemoryBucket
from bench.durations import DEFAULT
from bench.emulated import Series
from bench.front_end import STAGE, FrontEnd, UnknownPathError, api_event
from bench.invocations import OURS
from bench.measure import environment
from bench.origin import BUCKET, DATASTORE, INSTANCE_UID, SERIES_UID, STUDY_UID, Frame, Origin
from bench.runtime_api import Function, Invocation
from bench.scaling import ACCOUNT, VIEWER_FRAMES, VIEWERS, VIEWERS_ACCOUNT, VIEWERS_CONFIG
from bench.viewer_load import Viewers, simulate_viewers
from bench.viewers import Viewer

SECONDS = 0.03


@pytest.fixture
def s3():
    with Origin({}, tls=False, keeps_objects=True) as origin, environment(origin.environment()):
        yield boto3.client("s3")


def test_origin_keeps_objects_if_it_is_told_to(s3):
    etag = s3.put_object(Bucket=BUCKET, Key="a/b", Body=b"content", ContentType="text/plain")["ETag"]
    found = s3.get_object(Bucket=BUCKET, Key="a/b")
    assert (found["Body"].read(), found["ContentType"], found["ETag"]) == (b"content", "text/plain", etag)
    assert s3.head_object(Bucket=BUCKET, Key="a/b")["ContentLength"] == 7
    s3.delete_object(Bucket=BUCKET, Key="a/b")
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket=BUCKET, Key="a/b")


@pytest.mark.parametrize(
    ("headers", "is_stored", "status"),
    [
        ({"if-none-match": "*"}, False, 200),
        ({"if-none-match": "*"}, True, 412),
        ({"if-match": '"other"'}, True, 412),
        ({"if-match": '"other"'}, False, 412),
        ({"if-match": f'"{1:032x}"'}, True, 200),
    ],
)
def test_bucket_evaluates_conditions(headers, is_stored, status):
    bucket = MemoryBucket()
    if is_stored:
        bucket.answer("PUT", "key", {}, b"before")
    assert bucket.answer("PUT", "key", headers, b"after").startswith(f"HTTP/1.1 {status} ".encode())
    stored = bucket.answer("GET", "key", {}, b"")
    assert stored.endswith(b"after" if status == 200 else b"before" if is_stored else b"</Error>")


def test_origin_finds_the_image_set_of_its_study():
    frames = {f"{number:032d}": Frame(bytes([number]) * 1000) for number in range(3)}
    target = f"{STAGE}/datastore/{DATASTORE}/studies/{STUDY_UID}/series/{SERIES_UID}/instances/{INSTANCE_UID}/frames/2"
    with Origin(frames, keeps_objects=True) as origin, Function(OURS, origin.environment()) as function:
        event = api_event("GET", target, {"Host": "127.0.0.1", "Accept": "image/jphc"})
        response = function.invoke(event).response()
    assert (response["statusCode"], response["body"]) == (200, b64encode(b"\1" * 1000).decode())


def test_event_has_the_route_and_the_parameters():
    event = api_event("GET", f"{STAGE}/datastore/{DATASTORE}/studies/1.2/series?limit=1&limit=2", {"Accept": "*/*"})
    assert event["resource"] == "/datastore/{datastoreId}/studies/{studyInstanceUID}/series"
    assert event["pathParameters"] == {"datastoreId": DATASTORE, "studyInstanceUID": "1.2"}
    assert event["multiValueQueryStringParameters"] == {"limit": ["1", "2"]}
    with pytest.raises(UnknownPathError):
        api_event("GET", f"{STAGE}/elsewhere", {})


class Answering:
    """A function that answers without a process; it fails the first requests if told to."""

    def __init__(self, refusals=0):
        self.refusals, self.targets, self.running, self.max_running = refusals, [], 0, 0

    def invoke(self, event):
        self.targets.append(event["path"])
        if self.refusals and "/frames/" in event["path"]:
            self.refusals -= 1
            return Invocation(0, b'{"statusCode": 503, "headers": {}, "body": "", "isBase64Encoded": false}')
        return Invocation(0, b'{"statusCode": 200, "headers": {"a": "b"}, "body": "YWJj", "isBase64Encoded": true}')


def opened(function, throttle=None, **options):
    series = Series(1, 20)

    async def run():
        async with FrontEnd([function], throttle) as front_end:
            viewer = Viewer(front_end.port, ["Accept: image/jphc"], connections=5, **options)
            opening = await viewer.open(STAGE + series.metadata_path(), [STAGE + each for each in series.frame_paths()])
            return opening, front_end.throttled

    return asyncio.run(run())


def test_viewer_gets_every_frame_once():
    function = Answering()
    opening, throttled = opened(function)
    assert (opening.complete, opening.missing, opening.refused, throttled) == (20, 0, 0, 0)
    assert opening.received_bytes == 3 * 20
    assert sorted(function.targets) == sorted([Series(1, 20).metadata_path(), *Series(1, 20).frame_paths()])


@pytest.mark.parametrize(("retries", "missing"), [(True, 0), (False, 4)])
def test_viewer_that_does_not_retry_misses_the_refused_frames(retries, missing):
    opening, _ = opened(Answering(refusals=4), retries=retries)
    assert (opening.complete, opening.missing, opening.refused) == (20 - missing, missing, 4)


def test_front_end_refuses_requests_above_its_throttle():
    opening, throttled = opened(Answering(), Bucket(0.001, 10, 10))
    # One request was for the metadata.
    assert (opening.complete, opening.missing, throttled) == (9, 11, 11)


# The simulation


@pytest.mark.parametrize("retries", [True, False])
@pytest.mark.parametrize(
    ("config", "account"), [(DEFAULT, ACCOUNT), (VIEWERS_CONFIG, ACCOUNT), (VIEWERS_CONFIG, VIEWERS_ACCOUNT)]
)
def test_every_frame_arrives_or_is_missing(retries, config, account):
    found = simulate_viewers(Viewers(VIEWERS, VIEWER_FRAMES, retries), config, account, SECONDS)
    assert found.complete + found.missing == VIEWERS * VIEWER_FRAMES
    assert found.missing == (0 if retries else found.refused.total())
    assert found.max_concurrent <= account.concurrency


@pytest.mark.parametrize("seconds", [0.005, 0.03, 0.5, 3.0])
@pytest.mark.parametrize("network_seconds", [0.0, 0.02, 0.2])
def test_recommended_deployment_refuses_no_viewer(seconds, network_seconds):
    viewers = Viewers(VIEWERS, VIEWER_FRAMES, retries=False, network_seconds=network_seconds)
    found = simulate_viewers(viewers, VIEWERS_CONFIG, VIEWERS_ACCOUNT, seconds)
    assert (found.missing, found.refused.total()) == (0, 0)


def test_duration_with_retries_follows_the_formula_of_the_document():
    found = simulate_viewers(Viewers(VIEWERS, VIEWER_FRAMES, retries=True), DEFAULT, ACCOUNT, SECONDS)
    expected = (VIEWERS * VIEWER_FRAMES - DEFAULT.throttle_burst) / DEFAULT.throttle_rate
    assert found.seconds == pytest.approx(expected, rel=0.12)


def test_recommendation_is_what_the_document_derives():
    assert VIEWERS_CONFIG.throttle_burst >= VIEWERS * VIEWER_FRAMES
    assert VIEWERS_ACCOUNT.frame_rate >= VIEWERS_CONFIG.throttle_rate + VIEWERS_CONFIG.export_rate
    assert VIEWERS_ACCOUNT.frame_burst >= VIEWERS_CONFIG.throttle_burst


def test_concurrency_is_a_limit_of_its_own():
    account = replace(Account(), concurrency=106)
    config = replace(VIEWERS_CONFIG, export_concurrency=2)
    found = simulate_viewers(Viewers(2, 100, retries=False), config, account, 1.0)
    assert found.complete == found.max_concurrent == 100
    assert found.refused.keys() == {"Lambda's concurrency"}
