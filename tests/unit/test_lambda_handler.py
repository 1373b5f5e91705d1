"""The function in Lambda: what it imports, and when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from framegate.settings import Settings
from tests.unit.conftest import SERVED

LAMBDA_SRC = Path(__file__).parent.parent.parent / "lambda_src"

PROGRAM = """
import json, sys
from framegate.entrypoints.api import lambda_handler

class Context:
    def get_remaining_time_in_millis(self):
        return 28_000

before = set(sys.modules)
print("loaded")
answer = lambda_handler(json.loads(sys.argv[1]), Context())
lambda_handler(json.loads(sys.argv[1]), Context())
print(json.dumps({"answer": answer, "modules": sorted(sys.modules), "late": sorted(set(sys.modules) - before)}))
"""

SETTINGS = Settings(
    datastore_ids=(SERVED,),
    frame_bucket="bucket",
    presigned_url_lifetime_seconds=300,
    deferred_store_queue_url="https://sqs.example/queue",
    cors_origins=("*",),
    auth="iam",
    uid_hash_secret="secret of the test",
)

SLOW_TO_IMPORT = {"boto3", "aws_xray_sdk", "framegate.messages"}


@pytest.fixture
def invoke(health_imaging):
    """Run the handler twice in a new process; return what the program printed last, and the metrics."""

    def run(*other_event, **environment):
        frame = health_imaging.add_frame(SERVED, b"pixels", "image/jph")
        event = {
            "httpMethod": "GET",
            "resource": "/datastore/{datastoreId}/imageSet/{imageSetId}/imageFrame/{imageFrameId}",
            "path": f"/datastore/{SERVED}/imageSet/{frame.image_set_id}/imageFrame/{frame.image_frame_id}",
            "pathParameters": {
                "datastoreId": SERVED,
                "imageSetId": frame.image_set_id,
                "imageFrameId": frame.image_frame_id,
            },
            "requestContext": {"requestId": "r"},
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(other_event[0] if other_event else event)],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(LAMBDA_SRC),
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL_MEDICAL_IMAGING": health_imaging.url,
                **SETTINGS.to_environment(),
                **environment,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        start, loaded, *metrics, result = done.stdout.splitlines()
        # This process is not run by Lambda's runtime.
        assert json.loads(start)["message"] == "the runtime serialises responses with its own marshaller"
        assert loaded == "loaded"
        return {**json.loads(result), "metrics": [json.loads(line) for line in metrics]}

    return run


def test_inline_frame_imports_only_what_it_needs(invoke):
    result = invoke()
    assert result["answer"]["body"] == "cGl4ZWxz"
    assert SLOW_TO_IMPORT.isdisjoint(result["modules"])


def test_snapshot_includes_the_lazy_imports(invoke):
    result = invoke(AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
    assert result["answer"]["body"] == "cGl4ZWxz"
    assert set(result["modules"]) >= SLOW_TO_IMPORT
    assert not [name for name in result["late"] if name.startswith(("boto", "aws_", "framegate", "urllib3"))]


@pytest.mark.parametrize("initialization", ["on-demand", "snap-start"])
def test_first_request_counts_the_cold_start_by_deployment(invoke, initialization):
    metrics = invoke(AWS_LAMBDA_INITIALIZATION_TYPE=initialization, POWERTOOLS_SERVICE_NAME="Research")["metrics"]
    starts = [each for each in metrics if "ColdStarts" in each]
    assert [(each["service"], each["handler"], each["ColdStarts"]) for each in starts] == [("Research", "api", [1.0])]
    assert {each["service"] for each in metrics} == {"Research"}


@pytest.mark.parametrize("event", [{}, {"key1": "value1"}, "warm-up", None, []], ids=str)
def test_invocation_without_an_http_request_logs_one_line_without_an_error(invoke, event):
    result = invoke(event)
    assert result["answer"]["statusCode"] == 400
    lines = [each for each in result["metrics"] if each.get("message")]
    assert [each["message"] for each in lines] == ["event is not an HTTP request of API Gateway"] * 2


def test_sampled_request_loads_the_tracer(invoke):
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    result = invoke(LAMBDA_TASK_ROOT=str(LAMBDA_SRC), _X_AMZN_TRACE_ID=trace)
    assert result["answer"]["statusCode"] == 200
    assert "aws_xray_sdk" in result["modules"]
