"""Log lines, metrics and traces."""

from __future__ import annotations

import json
import os
import socket

import pytest

from framegate.observability import count_cold_start
from framegate.rest.http import INLINE_LIMIT
from local.health_imaging import Fault
from tests.unit.conftest import SERVED

CONTENT = os.urandom(50_000)


@pytest.fixture(scope="module")
def frame(emulator):
    return emulator.add_frame(SERVED, CONTENT, "image/jph")


@pytest.fixture
def metrics(capsys):
    """Return the metrics since the last call, in CloudWatch's embedded metric format."""
    return lambda: [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in line]


def test_request_logs_one_line_with_ids_delivery_bytes_and_time(client, frame, log_lines):
    client.get(frame)
    (line,) = log_lines()
    assert (
        line.items()
        >= {
            "correlation_id": "request-of-the-test",
            "service": "framegate",
            "route": "/datastore/{datastoreId}/imageSet/{imageSetId}/imageFrame/{imageFrameId}",
            "status": 200,
            "datastore_id": SERVED,
            "image_set_id": frame.image_set_id,
            "image_frame_id": frame.image_frame_id,
            "delivery": "inline",
            "content_type": "image/jph",
            "bytes": len(CONTENT),
        }.items()
    )
    assert 0 < line["upstream_ms"] < 10_000


def test_upstream_time_is_logged_for_failures(client, frame, health_imaging, log_lines):
    health_imaging.faults.arm(Fault(latency=0.1, error="ConflictException"))
    client.get(frame)
    (line,) = log_lines()
    assert (line["level"], line["status"], line["problem"]) == ("INFO", 409, "conflict")
    assert line["upstream_ms"] > 100
    assert line["upstream_request_id"]


@pytest.mark.parametrize(
    ("query", "headers", "delivery"),
    [
        ("", {}, "inline"),
        ("", {"Accept": "application/json"}, "json"),
        ("delivery=url", {}, "url"),
    ],
)
def test_frames_and_bytes_are_counted_by_delivery(client, frame, metrics, query, headers, delivery):
    client.get(frame, query, headers)
    (emf,) = metrics()
    (definition,) = emf["_aws"]["CloudWatchMetrics"]
    assert definition["Namespace"] == "Framegate"
    assert set(definition["Dimensions"][0]) == {"service", "delivery"}
    assert {metric["Name"] for metric in definition["Metrics"]} == {"Frames", "FrameBytes", "UpstreamLatency"}
    assert (emf["delivery"], emf["Frames"], emf["FrameBytes"]) == (delivery, [1.0], [float(len(CONTENT))])


def test_not_modified_is_counted_without_bytes(client, frame, metrics):
    client.get(frame, headers={"If-None-Match": f'"{frame.image_frame_id}.image/jph"'})
    (emf,) = metrics()
    assert (emf["delivery"], emf["Frames"], emf["FrameBytes"]) == ("not-modified", [1.0], [0.0])
    assert "UpstreamLatency" not in emf


def test_errors_are_counted_by_status(client, frame, health_imaging, metrics):
    health_imaging.faults.arm(Fault(error="ResourceNotFoundException"))
    client.get(frame)
    (emf,) = metrics()
    assert set(emf["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0]) == {"service", "status"}
    assert (emf["status"], emf["Errors"]) == ("404", [1.0])


def test_requests_also_count_without_a_dimension_of_their_own(client, frame, metrics):
    client.get(frame)
    (emf,) = metrics()
    assert emf["_aws"]["CloudWatchMetrics"][0]["Dimensions"][1:] == [["service"]]
    assert emf["service"] == "framegate"


def test_cold_start_counts_only_with_the_first_invocation(metrics):
    count_cold_start.cache_clear()
    for _ in range(3):
        count_cold_start("api")
    (emf,) = metrics()
    (definition,) = emf["_aws"]["CloudWatchMetrics"]
    assert definition["Namespace"] == "Framegate"
    assert [set(each) for each in definition["Dimensions"]] == [{"service", "handler"}]
    assert (emf["service"], emf["handler"], emf["ColdStarts"]) == ("framegate", "api", [1.0])


def test_malformed_identifiers_are_not_logged(client, log_lines):
    from local.health_imaging import FrameAddress

    client.get(FrameAddress(SERVED, "Mueller^Hans", "19700101"))
    (line,) = log_lines()
    assert line["status"] == 400
    assert "Mueller" not in json.dumps(line)
    assert "19700101" not in json.dumps(line)


@pytest.fixture
def traced(monkeypatch):
    """A sampled request, and the X-Ray daemon that receives its segments."""
    from aws_xray_sdk.core import xray_recorder

    daemon = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    daemon.bind(("127.0.0.1", 0))
    daemon.settimeout(0.2)
    monkeypatch.setenv("LAMBDA_TASK_ROOT", "/var/task")
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
    from aws_xray_sdk.core.lambda_launcher import LambdaContext

    monkeypatch.setattr(xray_recorder, "_context", LambdaContext())
    monkeypatch.setattr(xray_recorder, "_emitter", type(xray_recorder.emitter)())
    xray_recorder.emitter.set_daemon_address(f"127.0.0.1:{daemon.getsockname()[1]}")

    def segments():
        """Return all segments by name. A datagram is a header line and the document."""
        received = {}
        while True:
            try:
                document = json.loads(daemon.recv(65536).split(b"\n", 1)[1])
            except TimeoutError:
                return received
            received[document["name"]] = document

    yield segments
    xray_recorder.emitter._socket.close()
    daemon.close()


def test_call_to_healthimaging_is_a_subsegment_with_the_frames_ids(client, frame, traced):
    client.get(frame)
    segment = traced()["HealthImaging"]
    assert segment["namespace"] == "remote"
    assert segment["annotations"] == {"image_set_id": frame.image_set_id, "image_frame_id": frame.image_frame_id}
    assert segment["end_time"] >= segment["start_time"]


def test_call_to_s3_is_a_subsegment(client, health_imaging, traced):
    client.get(health_imaging.add_frame(SERVED, bytes(INLINE_LIMIT + 1), "image/jph"))
    segments = traced()
    assert segments["S3"]["parent_id"] == segments["HealthImaging"]["id"]


def test_failed_call_is_a_faulty_subsegment(client, frame, health_imaging, traced):
    health_imaging.faults.arm(Fault(error="ConflictException"))
    client.get(frame)
    assert traced()["HealthImaging"]["fault"] is True
