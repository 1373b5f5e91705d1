"""The bench's origin serves AWS SDKs, and its rows and plot are correct."""

from __future__ import annotations

import os
from base64 import b64decode

import boto3
import pytest
from PIL import Image

from bench.invocations import OURS, USUAL, event
from bench.measure import Row, environment, in_turns, ratios, row
from bench.origin import BUCKET, DATASTORE, IMAGE_SET, Frame, Link, Origin
from bench.plot import draw
from bench.runtime_api import Function, FunctionError

FRAME = "f" * 32
BLOCK = os.urandom(100_000)


@pytest.fixture(params=[True, False], ids=["TLS", "plain"])
def origin(request):
    frames = {FRAME: Frame(BLOCK, 3)}
    with Origin(frames, Link(0.001, 50e6), tls=request.param) as running, environment(running.environment()):
        yield running


def test_origin_serves_boto3_frames_and_metadata_and_accepts_objects_of_any_size(origin):
    health_imaging, s3 = boto3.client("medical-imaging"), boto3.client("s3")
    address = {"datastoreId": DATASTORE, "imageSetId": IMAGE_SET}
    for _ in range(2):
        answer = health_imaging.get_image_frame(**address, imageFrameInformation={"imageFrameId": FRAME})
        assert answer["imageFrameBlob"].read() == 3 * BLOCK
    assert health_imaging.get_image_set_metadata(**address)["imageSetMetadataBlob"].read()
    for size in (0, 10, 200_000):
        s3.put_object(Bucket=BUCKET, Key="key", Body=bytes(size))
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="key")["UploadId"]
    part = s3.upload_part(Bucket=BUCKET, Key="key", UploadId=upload, PartNumber=1, Body=BLOCK)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=BUCKET, Key="key", UploadId=upload, MultipartUpload=parts)


@pytest.mark.parametrize("handler", [OURS, USUAL])
def test_function_runs_a_handler_in_the_runtimes_loop(handler):
    with Origin({FRAME: Frame(BLOCK, 30)}) as origin, Function(handler, origin.environment()) as function:
        invocation = function.invoke(event(FRAME))
        response = invocation.response()
        assert (response["statusCode"], b64decode(response["body"])) == (200, 30 * BLOCK)
        assert 0 < invocation.seconds < 60
        assert function.processor_seconds() > 0
        assert function.peak_memory() > 30_000_000


def test_function_that_fails_to_start_is_an_error():
    with Function("bench.no_such_module.lambda_handler", {}) as function, pytest.raises(FunctionError):
        function.invoke({})


def test_row_has_the_median_of_the_ratios_of_each_turn():
    assert ratios([2, 9, 4], [1, 3, 4]) == [2, 3, 1]
    assert row("what", [2, 3, 1], target=2.0).value == 2


@pytest.mark.parametrize(("value", "at_most", "met"), [(1, True, True), (3, True, False), (3, False, True)])
def test_target_is_a_maximum_or_a_minimum(value, at_most, met):
    assert Row("what", value, value, value, target=2, at_most=at_most).is_met is met


def test_tasks_take_turns():
    done = []
    seconds = in_turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, turns=2, warm_up=1)

    assert done == ["a", "b"] * 3
    assert {name: len(each) for name, each in seconds.items()} == {"a": 2, "b": 2}


def test_environment_is_restored_afterwards(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "mine")
    with environment({"AWS_REGION": "bench"}):
        assert (os.environ.get("AWS_PROFILE"), os.environ["AWS_REGION"]) == (None, "bench")
    assert (os.environ["AWS_PROFILE"], os.environ.get("AWS_REGION")) == ("mine", None)


def test_plot_shows_only_rows_with_a_target(tmp_path):
    figures = [Row("met", 1, 0.5, 1.5, target=2), Row("missed", 9, 8, 10, target=2), Row("without", 1, 1, 1)]
    draw(figures, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as plot:
        higher = plot.height
    draw(figures[:1], tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.height < higher
