"""Media types pass through unchanged, and agree with AWS's documentation."""

import gzip
import json
import os
import re
from base64 import b64encode

import botocore.session
import pytest

from framegate.healthimaging import media_types
from framegate.healthimaging.client import MAX_ATTEMPTS, HealthImaging
from framegate.healthimaging.media_types import STORED, UNKNOWN, WITHOUT_SYNTAX, of_stored, pass_through, stored_syntax
from framegate.identifiers import ImageSetRef
from framegate.index.frame_index import FrameIndex, IndexQuery
from framegate.problems import Throttled, UpstreamFailed
from framegate.time_budget import TimeBudget
from tests.unit.conftest import SERVED, Client
from tests.unit.indexing import ask
from tests.unit.scripted_server import Reply, ScriptedServer
from tests.unit.sessions import new_session


@pytest.mark.parametrize("content_type", ["image/jph", "video/H256", "image/jxl", "x", "a/b;c=d", "a" * 255])
def test_media_type_passes_through_unchanged(content_type):
    assert pass_through(content_type) == content_type


@pytest.mark.parametrize("content_type", [None, "", "a" * 256])
def test_missing_or_overlong_media_type_becomes_octet_stream(content_type):
    assert pass_through(content_type) == "application/octet-stream"


def model():
    return botocore.session.Session().get_service_model("medical-imaging")


def documented():
    """Parse botocore's documentation of ``contentType``: media types by transfer syntax, the default, and a count."""
    shape = model().operation_model("GetImageFrame").output_shape.members["contentType"]
    sentences = re.findall(r"<p>(If the stored transfer syntax .*?)</p>", shape.documentation)
    table = {}
    for sentence in sentences:
        *syntaxes, content_type = re.findall(r"<code>(.*?)</code>", sentence.replace("<code>contentType</code>", ""))
        for syntax in syntaxes:
            table[syntax] = content_type
        if "<i>missing</i>" in sentence:
            table[None] = content_type
    default = re.search(r"Default is <code>(.*?)</code>", shape.documentation)[1]
    return table, default, len(sentences)


def test_media_types_equal_those_in_the_documentation():
    table, default, sentences = documented()
    # The parser missed no entry of the documentation's list.
    shape = model().operation_model("GetImageFrame").output_shape.members["contentType"]
    assert sentences == shape.documentation.count("<li>")
    assert table.pop(None) == WITHOUT_SYNTAX
    assert (table, default) == (STORED, UNKNOWN)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.3", ""])
def test_undocumented_transfer_syntax_has_the_documented_default(syntax):
    assert of_stored(syntax) == "application/octet-stream"


def test_data_stores_have_two_lossless_formats():
    assert model().shape_for("LosslessStorageFormat").enum == ["HTJ2K", "JPEG_2000_LOSSLESS"]
    assert set(media_types._OWN_SYNTAXES.values()) == {"1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.90"}


@pytest.mark.parametrize(
    ("uid", "content_type", "syntax"),
    [
        ("1.2.840.10008.1.2.4.50", "image/jph", "1.2.840.10008.1.2.4.50"),
        (None, "image/jph", "1.2.840.10008.1.2.4.202"),
        (None, "IMAGE/JPH; x=y", "1.2.840.10008.1.2.4.202"),
        (None, "image/j2c", "1.2.840.10008.1.2.4.90"),
        (None, "image/jp2", "1.2.840.10008.1.2.4.90"),
        (None, "application/octet-stream", None),
        (None, "", None),
        ("", "image/jph", "1.2.840.10008.1.2.4.202"),
    ],
)
def test_media_type_tells_the_syntax_that_the_metadata_omits(uid, content_type, syntax):
    assert stored_syntax(uid, content_type) == syntax


IMAGE_SET = ImageSetRef(SERVED, "5" * 32)


@pytest.fixture
def server(health_imaging, monkeypatch):
    # Depends on health_imaging, so that the endpoint of this server is set last.
    with ScriptedServer() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", running.url)
        yield running


@pytest.fixture
def index_client(server, objects, delivery_from, new_api):
    source = HealthImaging(new_session())
    delivery = delivery_from(source)
    return Client(new_api(delivery=delivery, index=FrameIndex(source, objects)))


def metadata(instances):
    instances = {
        uid: {
            "ImageFrames": [{"ID": frame} for frame in frames],
            **({"StoredTransferSyntaxUID": syntax} if syntax else {}),
        }
        for uid, (syntax, frames) in instances.items()
    }
    document = {"Study": {"Series": {"1.2": {"Instances": instances}}}}
    return Reply(body=gzip.compress(json.dumps(document).encode()))


def answering(server, instances, frame):
    def reply(request):
        if request.path.endswith("/getImageSet"):
            return Reply(body=json.dumps({"versionId": "1", "imageSetState": "ACTIVE"}).encode())
        return metadata(instances) if request.path.endswith("/getImageSetMetadata") else frame

    server.reply = reply
    return lambda: [each for each in server.requests if each.path.endswith("/getImageFrame")]


@pytest.mark.parametrize("content_type", ["image/jph", "image/j2c", "application/octet-stream"])
def test_index_has_the_media_type_of_the_data_stores_format(index_client, server, content_type):
    instances = {
        "1.2.1": (None, ["a" * 32, "b" * 32]),
        "1.2.2": ("1.2.840.10008.1.2.4.50", ["c" * 32]),
        "1.2.3": (None, ["e" * 32]),
    }
    frames = answering(server, instances, Reply(headers={"Content-Type": content_type}, body=b"frame"))
    listed = ask(index_client, IMAGE_SET).json()["imageFrames"]
    assert [each["contentType"] for each in listed] == [content_type, content_type, "image/jpeg", content_type]
    # One frame is enough.
    assert [json.loads(each.body)["imageFrameId"] for each in frames()] == ["a" * 32]


def test_index_requests_no_frame_if_the_metadata_tells_the_media_type(index_client, server):
    frames = answering(server, {"1.2.1": ("1.2.840.10008.1.2.4.112", ["a" * 32])}, Reply(500))
    assert [each["contentType"] for each in ask(index_client, IMAGE_SET).json()["imageFrames"]] == ["image/jxl"]
    assert frames() == []


@pytest.mark.parametrize("error", ["ResourceNotFoundException", "NotAcceptableException", "BadRequestException"])
def test_index_has_the_documented_media_type_if_the_frame_is_unavailable(index_client, server, error):
    answering(server, {"1.2.1": (None, ["a" * 32])}, Reply(400, {"x-amzn-ErrorType": error}))
    assert [each["contentType"] for each in ask(index_client, IMAGE_SET).json()["imageFrames"]] == ["image/jph"]


def large_metadata(instances):
    """Metadata of 10 MB, which is more than the sockets buffer, with the instances at its beginning."""
    document = json.loads(gzip.decompress(metadata(instances).body))
    document["Study"]["Series"]["1.2"]["DICOM"] = {"Text": b64encode(os.urandom(10_000_000)).decode()}
    return Reply(body=gzip.compress(json.dumps(document).encode(), compresslevel=1))


def test_one_pooled_connection_suffices_to_ask_for_a_frame_while_metadata_streams(server, objects, caplog):
    source = HealthImaging(new_session(), max_connections=1)
    index = FrameIndex(source, objects)
    frame_requests = answering(server, {}, Reply(headers={"Content-Type": "image/j2c"}, body=b"frame"))
    reply = server.reply
    # The server is still sending the metadata when the index requests the frame.
    streamed = large_metadata({"1.2.1": (None, ["a" * 32])})
    server.reply = lambda request: streamed if request.path.endswith("/getImageSetMetadata") else reply(request)
    for number in range(2):
        image_set = ImageSetRef(SERVED, str(number) * 32)
        (line,) = index.page(image_set, "1", IndexQuery(), TimeBudget(20)).frames
        assert json.loads(line)["contentType"] == "image/j2c"

    # Nothing waited in vain and was retried.
    assert (len(frame_requests()), len(server.requests)) == (2, 4)
    # One connection for the metadata and one for the frame; both are reused.
    assert server.connections == 2
    assert caplog.records == []


@pytest.mark.parametrize("status", [429, 500])
def test_failing_frame_and_metadata_are_requested_as_often_as_each_other(server, objects, status):
    index = FrameIndex(HealthImaging(new_session()), objects)
    frame_requests = answering(server, {"1.2.1": (None, ["a" * 32])}, Reply(status))
    with pytest.raises((Throttled, UpstreamFailed)):
        index.page(IMAGE_SET, "1", IndexQuery(), TimeBudget(20))

    # Retries within retries would multiply: three requests for the frame for each request for the metadata.
    assert len(frame_requests()) == MAX_ATTEMPTS
    assert len(server.requests) == 2 * MAX_ATTEMPTS
