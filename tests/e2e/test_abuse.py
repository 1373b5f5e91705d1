"""Attackers' requests: every response is a documented refusal, and none repeats what was sent."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import pytest
import requests

from local.cloud import ACCESS_KEY, REGION, SECRET_KEY
from local.signing import SigV4
from tests.e2e.conftest import ORIGIN

MARK = "canary7Q"
"""Part of everything that is sent. No response may have it."""

ID = "0123456789abcdef0123456789abcdef"

IDENTIFIERS = [
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2f",
    "..%5c..%5cwindows",
    f"{ID[:31]}%00",
    f"{ID}%00.jph",
    f"{ID}%0a",
    f"{ID}%0d%0aSet-Cookie:%20{MARK}=1",
    f"{ID}%20",
    f"{ID[:31]}%EF%BC%91",  # a full-width digit
    f"{ID[:31]}%D0%B0",  # a Cyrillic a
    f"{ID[:31]}%C4%B1",  # a dotless i
    ID.upper(),
    ID[:31],
    f"{ID}0",
    "%ff%fe%fd" + ID[3:],
    f"{MARK}'%20OR%201=1--",
    f"%3Cscript%3E{MARK}%3C%2Fscript%3E",
    "$%7Bjndi:ldap:%2F%2F127.0.0.1%2Fa%7D",
    "%7B%7B7*7%7D%7D",
    "a" * 5_000,
    "*",
    "null",
    "-1",
]

QUERIES = [
    f"delivery={MARK}",
    "delivery=url&delivery=inline",
    "delivery=",
    "size=-1",
    "size=0",
    "size=1e9",
    "size=NaN",
    "size=0x10",
    f"size={'9' * 5_000}",
    "size=1&size=1",
    "size=%00",
    "size=%D9%A3",  # an Arabic digit
    "resolution=-0",
    "resolution=2147483648",
    "startLevel=5&endLevel=1",
    "size=1&resolution=1",
    f"resolution={MARK}%0d%0aSet-Cookie:%20a=b",
]

BODIES = {
    "nothing": b"",
    "no JSON": MARK.encode(),
    "half of it": b'{"imageFrameId": "',
    "depth": b"[" * 200_000,
    "depth in objects": b'{"imageFrameId":' * 50_000,
    "width": json.dumps({str(number): number for number in range(50_000)}).encode(),
    "a number without end": b'{"imageFrameId": ' + b"9" * 100_000 + b"}",
    "a number": b'{"imageFrameId": 7}',
    "null": b'{"imageFrameId": null}',
    "a list": json.dumps({"imageFrameId": [ID]}).encode(),
    "an object": json.dumps({"imageFrameId": {"$ne": ""}}).encode(),
    "two that differ": json.dumps({"imageFrameId": ID, "imageFrameInformation": {"imageFrameId": "f" * 32}}).encode(),
    "information that is none": b'{"imageFrameInformation": "x"}',
    "UTF-16": json.dumps({"imageFrameId": 1}).encode("utf-16"),
    "no UTF-8": b'{"imageFrameId": "\xff\xfe"}',
    "NaN": b'{"imageFrameId": NaN}',
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "a prototype": b'{"__proto__": {"imageFrameId": "x"}, "constructor": 1}',
    "traversal": json.dumps({"imageFrameId": "../" * 10}).encode(),
}


@pytest.fixture
def send(deployment):
    """Sends a signed request with its path, query and body unchanged, and returns the response."""
    session = requests.Session()
    sign = SigV4(ACCESS_KEY, SECRET_KEY, REGION)

    def call(method, target, headers=None, body=None):
        prepared = requests.Request(
            method, deployment.api_url, headers={"Origin": ORIGIN, **(headers or {})}, data=body
        ).prepare()
        prepared.url = f"{deployment.api_url}{target}"
        sign(prepared)
        return session.send(prepared, timeout=60, allow_redirects=False)

    with session:
        yield call


def is_refusal(answer, *statuses):
    """Whether the response is a problem document with one of these statuses that repeats nothing of the request."""
    document = answer.json()
    assert answer.status_code in statuses
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Set-Cookie" not in answer.headers
    assert set(document) == {"type", "title", "status", "detail", "requestId"}
    assert document["status"] == answer.status_code
    assert MARK not in answer.text + str(answer.headers)
    assert "Traceback" not in answer.text
    return True


@pytest.fixture
def frame_path(imported):
    frame = imported.frames[0]
    return f"/datastore/{frame.datastore_id}/imageSet/{frame.image_set_id}/imageFrame/{frame.image_frame_id}"


@pytest.fixture
def set_path(frame_path):
    return frame_path.partition("/imageFrame/")[0]


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_malformed_identifier_is_refused_in_every_place(send, datastore_id, set_path, identifier):
    for target in (
        f"/datastore/{identifier}/imageSet/{ID}/imageFrame/{ID}",
        f"/datastore/{datastore_id}/imageSet/{identifier}/imageFrame/{ID}",
        f"{set_path}/imageFrame/{identifier}",
        f"{set_path}/getImageFrame?imageFrameId={identifier}",
        f"/datastore/{datastore_id}/imageSet/{identifier}/imageFrames",
        f"{set_path}/imageFrames?nextToken={identifier}",
        f"{set_path}/imageFrames?sopInstanceUID={MARK}{identifier}",
        f"/datastore/{identifier}/studies",
        f"/datastore/{datastore_id}/studies/{identifier}/series",
        f"/datastore/{datastore_id}/studies/1.2/series/{identifier}/metadata",
        f"/datastore/{datastore_id}/studies/1.2/series/1.3/instances/{identifier}/frames/1",
        f"/datastore/{datastore_id}/studies/1.2/series/1.3/instances/1.4/frames/{identifier}",
        f"/datastore/{datastore_id}/studies/1.2/series/1.3/metadata?imageSetId={identifier}",
    ):
        # A slash in an identifier changes the path.
        assert is_refusal(send("GET", target), 400, 404)


@pytest.mark.parametrize(
    "query",
    [
        f"PatientName={MARK}%0d%0aSet-Cookie:%20a=b",
        f"PatientName={MARK}&PatientName={MARK}",
        f"PatientName={MARK}{'y' * 7_000}",
        f"{MARK}=1",
        "PatientName=%ff%fe",
        "PatientName=%00",
        "includefield=all",
        "limit=1&limit=2",
        "limit=99999999999999999999",
        f"accept={MARK}",
        f"accept=application/dicom%2Bjson%0d%0aSet-Cookie:%20{MARK}",
    ],
)
def test_odd_search_is_answered_or_refused_without_its_text(send, imported, query):
    answer = send("GET", f"/datastore/{imported.datastore_id}/studies?{query}")
    assert answer.status_code == 200 or is_refusal(answer, 400, 406)
    assert MARK not in answer.text + str(answer.headers)
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("query", QUERIES)
def test_malformed_parameter_is_refused(send, frame_path, query):
    assert is_refusal(send("GET", f"{frame_path}?{query}"), 400)


def test_query_of_100_kilobytes_does_not_reach_the_function(send, frame_path):
    # API Gateway also refuses more than 10,240 bytes of request line and headers.
    assert send("GET", f"{frame_path}?x={'y' * 100_000}").status_code in (414, 431)


def test_long_query_is_ignored_or_refused(send, frame_path):
    assert send("GET", f"{frame_path}?x={'y' * 9_000}").status_code in (200, 303)
    assert is_refusal(send("GET", f"{frame_path}?delivery={MARK}{'y' * 9_000}"), 400)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_body_without_a_frame_is_refused(send, set_path, body):
    target = f"{set_path}/getImageFrame"

    assert is_refusal(send("POST", target, {"Content-Type": "application/json"}, body), 400)
    assert is_refusal(send("POST", target, {"Content-Type": "application/octet-stream"}, body), 400)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "BREW"])
def test_unsupported_methods_answer_405_with_the_allowed_ones(send, frame_path, set_path, method):
    # MiniStack, like API Gateway, may refuse an unknown HTTP method itself.
    for target, allowed in {frame_path: "GET, HEAD", f"{set_path}/getImageFrame": "GET, HEAD, POST"}.items():
        answer = send(method, target)
        assert is_refusal(answer, 405, 403, 404)
        assert answer.status_code != 405 or answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({"Accept": "image/*;q=0, application/json;q=0, */*;q=0"}, (406,)),
        ({"Accept": f"text/{MARK}"}, (406,)),
        ({"Accept": "image/jph" + ", image/jph" * 3_000}, (200, 303)),
        ({"Accept": "*/*;q=" + "9" * 5_000}, (200, 303)),
        ({"Accept": ",;,;=/*"}, (406,)),
        ({"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(1_000))}, (200, 303)),
        ({"Range": f"bytes={'9' * 20}-"}, (416, 303)),
        ({"Range": f"bytes={'9' * 5_000}-"}, (200, 303)),
        ({"Range": "bytes=0-0", "If-Range": MARK}, (200, 303)),
        ({"Range": "bytes=0-0", "If-None-Match": "*"}, (304, 303)),
        ({"If-None-Match": ('"x", ' * 2_000) + MARK}, (200, 303)),
        ({"X-HTTP-Method-Override": "DELETE", "X-Forwarded-Host": f"{MARK}.example"}, (200, 303)),
        ({"Origin": f"https://{MARK}.example"}, (200, 303)),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, (200, 303)),
    ],
    ids=lambda value: str(value)[:50],
)
def test_contradictory_or_oversized_headers_are_ignored_or_refused(send, frame_path, headers, statuses):
    answer = send("GET", frame_path, headers)

    assert answer.status_code in statuses
    assert MARK not in str(answer.headers)
    if answer.status_code >= 400:
        # A problem names the configured origin, which may read it.
        assert is_refusal(answer, *statuses)


RAW = {
    "a header in a header": b"GET %b HTTP/1.1\r\nHost: h\r\nAccept: image/*\r\n X-Folded: "
    + MARK.encode()
    + b"\r\n\r\n",
    "two lengths": b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\n{}   ",
    "length and chunks": b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    "a length that is none": b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    "a line without end": b"GET %b?" + b"a" * 200_000,
    "no HTTP": MARK.encode() + b" %b\r\n\r\n",
}


@pytest.mark.parametrize("request_", RAW.values(), ids=RAW)
def test_malformed_http_does_not_affect_other_requests(send, deployment, frame_path, request_):
    url = urlsplit(deployment.api_url)
    with socket.create_connection((url.hostname, url.port), timeout=3) as connection:
        try:
            connection.sendall(request_ % (url.path + frame_path).encode())
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65_536)
        except OSError:
            # The server closed the connection.
            answer = b""
    # At best, the request is unsigned: it never gets a frame.
    assert not answer.startswith(b"HTTP/1.1 2")
    assert send("GET", f"{frame_path}?resolution=0").status_code in (200, 303)
