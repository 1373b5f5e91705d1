"""The deployed API over HTTP, called by independent clients."""

from __future__ import annotations

import json
import subprocess
import threading
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from local.cloud import ACCESS_KEY, REGION, SECRET_KEY
from tests.e2e.conftest import CONTENT_TYPES, ORIGIN
from tests.e2e.watching import wait_for

INLINE_LIMIT = 4_712_523


@pytest.fixture(scope="session")
def small(imported):
    return min(imported.frames, key=lambda frame: abs(frame.size - 200_000))


@pytest.fixture(scope="session")
def large(imported):
    return max(imported.frames, key=lambda frame: frame.size)


@pytest.fixture
def content(cloud, small):
    return cloud.health_imaging.content(small)


def problem(answer):
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "requestId"}
    assert document["status"] == answer.status_code
    assert document["requestId"]
    return document["type"].removeprefix("urn:framegate:problem:")


# Addresses


def test_frame_by_path(api, small, content):
    answer = api.get(small)
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["Content-Type"] == CONTENT_TYPES["image/jph"]
    assert answer.headers["ETag"] == f'"{small.image_frame_id}.image/jph"'
    assert answer.headers["Cache-Control"] == "private, no-cache"


def test_frame_by_query(api, small, content):
    answer = api.request("GET", api.get_image_frame_url(small), params={"imageFrameId": small.image_frame_id})
    assert answer.content == content


@pytest.mark.parametrize("wrap", [lambda body: body, lambda body: {"imageFrameInformation": body}])
def test_frame_by_body(api, small, content, wrap):
    answer = api.request("POST", api.get_image_frame_url(small), json=wrap({"imageFrameId": small.image_frame_id}))
    assert answer.content == content


def test_signed_curl_gets_the_bytes(api, small, content, tmp_path):
    command = [
        *("curl", "-sS", "--fail", "--aws-sigv4", f"aws:amz:{REGION}:execute-api"),
        *("--user", f"{ACCESS_KEY}:{SECRET_KEY}", "-o", str(tmp_path / "frame"), api.frame_url(small)),
    ]
    subprocess.run(command, check=True)
    assert (tmp_path / "frame").read_bytes() == content


# Delivery


def test_json_response_has_the_frame_in_base64_over_http(api, small, content):
    answer = api.get(small, headers={"Accept": "application/json"})
    assert b64decode(answer.json()["imageFrameBlob"]) == content


def test_large_frame_redirects_to_s3_which_accepts_ranges(api, cloud, large):
    answer = api.get(large)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (303, "no-store")
    whole = requests.get(answer.headers["Location"], timeout=60)
    assert whole.content == cloud.health_imaging.content(large)
    assert whole.headers["Content-Type"] == CONTENT_TYPES["image/jph"]
    part = requests.get(answer.headers["Location"], headers={"Range": "bytes=100-199"}, timeout=60)
    assert (part.status_code, part.content) == (206, whole.content[100:200])


def test_large_frame_as_json_has_its_url(api, cloud, large):
    answer = api.get(large, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert requests.get(answer.json()["url"], timeout=60).content == cloud.health_imaging.content(large)


def test_tampered_url_is_refused_by_s3(api, large, small):
    location = api.get(large).headers["Location"]
    tampered = location.replace(large.image_frame_id, small.image_frame_id)
    assert requests.get(tampered, timeout=60).status_code == 403


def test_presigned_url_carries_the_request_id_of_the_audit_record(api, large, log_lines):
    location = api.get(large).headers["Location"]
    # MiniStack's header x-amzn-RequestId has another id than the event.
    (request_id,) = parse_qs(urlsplit(location).query)["x-request-id"]
    assert requests.get(location, timeout=60).status_code == 200
    assert requests.get(location.replace(request_id, "0" * len(request_id)), timeout=60).status_code == 403

    def records():
        return [line for line in log_lines() if line.get("requestId") == request_id]

    wait_for(lambda: len(records()) == 2)
    first, last = records()
    assert (first["audit"], last["audit"], last["status"], last["delivery"]) == ("request", "answer", 303, "url")
    assert last["imageFrameId"] == large.image_frame_id
    assert ":iam:" in last["principal"]
    assert last["sourceIp"] == "127.0.0.1"


def test_curl_follows_the_redirect(api, cloud, large, tmp_path):
    """``curl -L`` does not send its signature to another host. Here, only the port differs."""
    location = api.get(large).headers["Location"]
    subprocess.run(["curl", "-sS", "--fail", "-o", str(tmp_path / "frame"), location], check=True)
    assert (tmp_path / "frame").read_bytes() == cloud.health_imaging.content(large)


def test_held_frame_answers_304_without_a_call_of_healthimaging(api, emulator, datastore_id):
    # A new frame, which no export requests meanwhile.
    frame = emulator.add_frame(datastore_id, b"pixels", "image/jph")
    tag = api.get(frame).headers["ETag"]
    answer = api.get(frame, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
    assert [call.operation for call in emulator.calls if call.image_set_id == frame.image_set_id] == ["GetImageFrame"]


@pytest.mark.parametrize("size", [INLINE_LIMIT - 1, INLINE_LIMIT, INLINE_LIMIT + 1])
@pytest.mark.parametrize("accept", ["image/*", "application/json"])
def test_frames_around_the_inline_limit_are_delivered_whole(api, emulator, datastore_id, size, accept):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    frame = emulator.add_frame(datastore_id, content, "image/j2c")
    answer = api.get(frame, headers={"Accept": accept})
    linked = size > INLINE_LIMIT
    if accept == "application/json":
        document = answer.json()
        arrived = requests.get(document["url"], timeout=60).content if linked else b64decode(document["imageFrameBlob"])
    else:
        assert answer.status_code == (303 if linked else 200)
        arrived = requests.get(answer.headers["Location"], timeout=60).content if linked else answer.content
    assert arrived == content


def test_large_frame_is_stored_once(api, emulator, s3, deployment, datastore_id):
    frame = emulator.add_frame(datastore_id, bytes(40_000_000), "video/mp4")
    key = f"frames/{datastore_id}/{frame.image_set_id}/{frame.image_frame_id}"
    api.get(frame)
    first = s3.head_object(Bucket=deployment.frame_bucket, Key=key)["LastModified"]
    emulator.calls.clear()
    assert api.get(frame).status_code == 303
    assert s3.head_object(Bucket=deployment.frame_bucket, Key=key)["LastModified"] == first
    assert all(call.aborted for call in emulator.calls if call.image_frame_id == frame.image_frame_id)


def test_two_concurrent_requests_for_a_large_frame_succeed(api, emulator, datastore_id):
    content = bytes(range(256)) * 80_000
    frame = emulator.add_frame(datastore_id, content, "video/mp4")
    together = threading.Barrier(2)

    def get():
        together.wait()
        return requests.get(api.get(frame).headers["Location"], timeout=60).content

    with ThreadPoolExecutor(2) as pool:
        assert [future.result() == content for future in [pool.submit(get), pool.submit(get)]] == [True, True]


def test_concurrent_requests_each_get_their_own_frame(api, cloud, imported):
    frames = [frame for frame in imported.frames if frame.size < INLINE_LIMIT] * 2
    with ThreadPoolExecutor(6) as pool:
        answers = pool.map(lambda frame: (frame, api.get(frame).content), frames)
        assert all(content == cloud.health_imaging.content(frame) for frame, content in answers)


# Refusals


def test_unsigned_request_gets_a_problem_document(api, small):
    answer = requests.get(api.frame_url(small), headers={"Origin": ORIGIN}, timeout=60)
    assert (answer.status_code, problem(answer)) == (403, "missing-authentication")


@pytest.mark.parametrize(
    ("change", "arguments", "status", "slug"),
    [
        ({"image_frame_id": "0" * 32}, {}, 404, "frame-not-found"),
        ({"image_set_id": "0" * 32}, {}, 404, "frame-not-found"),
        ({"datastore_id": "0" * 32}, {}, 403, "datastore-not-served"),
        ({"image_frame_id": "Mueller%5EHans"}, {}, 400, "invalid-identifier"),
        ({"image_frame_id": "f" * 32 + "%0A"}, {}, 400, "invalid-identifier"),
        ({}, {"params": {"delivery": "pigeon"}}, 400, "invalid-request"),
        ({}, {"params": [("delivery", "url"), ("delivery", "inline")]}, 400, "invalid-request"),
        ({}, {"headers": {"Accept": "text/html"}}, 406, "not-acceptable"),
    ],
)
def test_invalid_request_gets_its_problem(api, small, change, arguments, status, slug):
    arguments = {**arguments, "headers": {"Origin": ORIGIN, **arguments.get("headers", {})}}
    answer = api.get(replace(small, **change), **arguments)
    assert (answer.status_code, problem(answer)) == (status, slug)


def test_inline_delivery_above_the_limit_answers_413(api, large):
    answer = api.get(large, params={"delivery": "inline"}, headers={"Origin": ORIGIN})
    assert (answer.status_code, problem(answer)) == (413, "frame-too-large")


def test_unknown_path_answers_404_and_other_method_405(api, small):
    answer = api.request("GET", f"{api.url}/datastores", headers={"Origin": ORIGIN})
    assert (answer.status_code, problem(answer)) == (404, "unknown-route")
    answer = api.request("PUT", api.frame_url(small), headers={"Origin": ORIGIN})
    assert answer.status_code in (404, 405)  # MiniStack hands it to the catch-all route, AWS to the frame's own


def test_preflight_needs_no_signature(api, small):
    asked = {"accept", "authorization", "baggage", "cache-control", "traceparent", "x-amz-date", "x-amz-user-agent"}
    answer = requests.options(
        api.frame_url(small),
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": ",".join(sorted(asked)),
        },
        timeout=60,
    )
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "GET" in answer.headers["Access-Control-Allow-Methods"]
    assert asked <= set(answer.headers["Access-Control-Allow-Headers"].lower().split(","))


# Logs


def test_request_logs_one_json_line_with_ids_and_times(api, small, content, log_lines):
    before = len(log_lines())
    api.get(small)
    lines = log_lines()[before:]
    (line,) = [line for line in lines if line.get("message") == "request answered"]
    assert (
        line.items()
        >= {
            "level": "INFO",
            "status": 200,
            "route": "/datastore/{datastoreId}/imageSet/{imageSetId}/imageFrame/{imageFrameId}",
            "datastore_id": small.datastore_id,
            "image_set_id": small.image_set_id,
            "image_frame_id": small.image_frame_id,
            "delivery": "inline",
            "content_type": "image/jph",
            "bytes": len(content),
        }.items()
    )
    assert line["correlation_id"]
    assert line["upstream_ms"] > 0
    (emf,) = [line for line in lines if "_aws" in line]
    assert emf["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Framegate"
    assert (emf["Frames"], emf["FrameBytes"], emf["delivery"]) == ([1.0], [float(len(content))], "inline")


def test_request_content_is_not_logged(api, small, log_lines):
    api.get(replace(small, image_frame_id="Mueller%5EHans"), params={"patient": "Mueller"})
    api.request("POST", api.get_image_frame_url(small), data=b'{"Mueller": "Hans"', headers={"User-Agent": "Mueller"})
    assert "Mueller" not in json.dumps(log_lines())


# HEAD and preconditions through API Gateway


@pytest.mark.parametrize("accept", ["image/*", "application/json"])
def test_head_has_the_headers_of_get(api, small, accept):
    get, head = (
        api.request(method, api.frame_url(small), headers={"Accept": accept, "Origin": ORIGIN})
        for method in ("GET", "HEAD")
    )
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get.content))
    changing = {"date", "x-amzn-requestid", "x-amz-apigw-id", "x-amz-request-id", "x-amz-id-2"}
    of_get, of_head = (
        {name.lower(): value for name, value in answer.headers.items() if name.lower() not in changing}
        for answer in (get, head)
    )
    assert of_head == of_get


def test_signed_curl_head_follows_the_redirect_of_a_large_frame(api, large):
    command = ["curl", "-sS", "--fail", "-I", "--aws-sigv4", f"aws:amz:{REGION}:execute-api"]
    command += ["--user", f"{ACCESS_KEY}:{SECRET_KEY}", api.frame_url(large)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (location,) = (
        line.split(" ", 1)[1].strip() for line in answer.splitlines() if line.lower().startswith("location:")
    )
    followed = requests.head(location, timeout=60)
    assert (followed.status_code, followed.headers["Content-Length"]) == (200, str(large.size))


def test_304_has_the_media_type_of_the_200(api, small):
    get = api.get(small)
    not_modified = api.get(small, headers={"If-None-Match": get.headers["ETag"]})
    assert (not_modified.status_code, not_modified.headers["Content-Type"]) == (304, get.headers["Content-Type"])


def test_if_match_guards_a_frame(api, small):
    tag = api.get(small).headers["ETag"]
    assert api.get(small, headers={"If-Match": tag}).status_code == 200
    answer = api.get(small, headers={"If-Match": '"another"', "Origin": ORIGIN})
    assert (answer.status_code, problem(answer)) == (412, "precondition-failed")


def test_signed_curl_accepts_a_sorted_query(api, small):
    command = ["curl", "-sS", "--fail", "--aws-sigv4", f"aws:amz:{REGION}:execute-api"]
    command += ["--user", f"{ACCESS_KEY}:{SECRET_KEY}", f"{api.frame_url(small)}?endLevel=1&startLevel=0"]
    assert subprocess.run(command, check=True, capture_output=True).stdout
