"""The marshaller writes the same documents as awslambdaric's own: the oldest version with the attribute and ours."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.aws.lambda_runtime import Base64Marshaller, Base64Text, install_marshaller
from framegate.rest.http import HttpResponse, JsonWithBase64
from framegate.rest.routes import FRAME_ROUTE, INDEX_ROUTE
from tests.unit.conftest import SERVED, Client

OLDEST = Path(__file__).parent / "oldest-awslambdaric.txt"
RUNTIME_PACKAGES = ("awslambdaric", "runtime_client")
PYTHON_313 = "AWS_Lambda_python3.13"
"""From 3.12, the runtime's documents contain characters outside ASCII unescaped."""


@pytest.fixture(scope="module")
def oldest(tmp_path_factory):
    """The folder of the oldest version. Its binary part is for another Python, but serialising does not need it."""
    folder = tmp_path_factory.mktemp("oldest")
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
        "--no-deps", "--only-binary=:all:", "--python-version=3.9", "--platform=manylinux2014_x86_64",
        "--target", str(folder), "--requirement", str(OLDEST),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return folder


@pytest.fixture(params=["oldest", "newest"])
def version(request):
    return request.param


@pytest.fixture(params=["AWS_Lambda_python3.11", PYTHON_313])
def runtime(request, version, monkeypatch):
    """The module with the runtime's client, as a function finds it."""
    monkeypatch.setenv("AWS_EXECUTION_ENV", request.param)
    if version == "oldest":
        monkeypatch.syspath_prepend(request.getfixturevalue("oldest"))
    _forget_runtime(monkeypatch)
    module = importlib.import_module("awslambdaric.lambda_runtime_client")
    is_oldest = Path(module.__file__).is_relative_to(request.getfixturevalue("oldest"))
    assert is_oldest is (version == "oldest")
    yield module
    _forget_runtime(monkeypatch)


def _forget_runtime(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in RUNTIME_PACKAGES]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def original(runtime):
    return runtime.LambdaRuntimeClient.marshaller


def documents(original, response):
    """The document of a response by the original marshaller, and by ours, as bytes with their media types."""
    text, media_type = original.marshal_response(response.to_event())
    ours = Base64Marshaller(original).marshal_response(response.to_event(base64_apart=True))
    return (text.encode(), media_type), (ours[0] if isinstance(ours[0], bytes) else ours[0].encode(), ours[1])


# Without surrogates, which no header and no document of the API contains.
texts = st.text(st.characters(exclude_categories=["Cs"]))
bodies = st.one_of(st.binary(max_size=300), texts, st.builds(JsonWithBase64, texts, st.binary(max_size=300), texts))
responses = st.builds(HttpResponse, st.integers(100, 599), st.dictionaries(texts, texts, max_size=4), bodies)


def test_every_response_has_the_document_of_the_runtimes_marshaller(original):
    @given(responses)
    def check(response):
        expected, found = documents(original, response)
        assert found == expected

    check()


@pytest.mark.parametrize("size", [185_000, 2_600_000, 4_712_523])
@pytest.mark.parametrize("wrap", [bytes, lambda content: JsonWithBase64('{"imageFrameBlob": "', content, '"}')])
def test_frame_has_the_document_of_the_runtimes_marshaller(original, size, wrap):
    expected, found = documents(
        original, HttpResponse(200, {"Content-Type": "image/jph"}, wrap(bytes(range(250)) * (size // 250)))
    )
    assert found == expected


@pytest.fixture
def recording(new_api, original):
    """A client of the API as the function with the marshaller has it, which records the documents of the answers."""
    return RecordingClient(new_api(base64_apart=True), original)


class RecordingClient(Client):
    """Calls the API, and serialises each answer with both marshallers."""

    def __init__(self, api, original):
        super().__init__(self)
        self._api, self._original = api, original
        self.documents = []

    def answer(self, event, remaining_ms):
        response = self._api.answer(event, remaining_ms)
        text, media_type = self._original.marshal_response({**response, "body": str(response["body"])})
        found, found_type = Base64Marshaller(self._original).marshal_response(response)
        found = found if isinstance(found, bytes) else found.encode()
        self.documents.append(((found, found_type), (text.encode(), media_type)))
        return json.loads(text)


REQUESTS = [
    ("", {}),
    ("", {"Accept": "application/json"}),
    ("", {"Range": "bytes=1-5"}),
    ("", {"If-None-Match": "*"}),
    ("", {"If-Match": '"another"'}),
    ("", {"Accept": "text/html"}),
    ("delivery=url", {}),
    ("delivery=url", {"Accept": "application/json"}),
    ("delivery=pigeon", {}),
]


def test_every_answer_of_the_api_has_the_document_of_the_runtimes_marshaller(health_imaging, recording):
    frame = health_imaging.add_frame(SERVED, b"\x00\xff frame of the test" * 9, "image/jph")
    path = {"datastoreId": frame.datastore_id, "imageSetId": frame.image_set_id}
    frame_path = {**path, "imageFrameId": frame.image_frame_id}
    statuses = {recording.call(method, INDEX_ROUTE, path).status for method in ("GET", "HEAD")}
    statuses |= {
        recording.call(method, FRAME_ROUTE, frame_path, query, headers).status
        for method in ("GET", "HEAD", "DELETE")
        for query, headers in REQUESTS
    }
    assert statuses >= {200, 206, 303, 304, 400, 405, 406, 412}
    assert all(found == expected for found, expected in recording.documents)


def test_installed_marshaller_serialises_the_answers_of_the_runtimes_client(runtime):
    assert install_marshaller()
    client = runtime.LambdaRuntimeClient("127.0.0.1:1")
    document, media_type = client.marshaller.marshal_response({"body": Base64Text('{"a": "', b"AA==", '"}')})
    assert (document, media_type) == (b'{"body": "{\\"a\\": \\"AA==\\"}"}', "application/json")


def test_installed_marshaller_passes_everything_else_to_the_original(runtime, original):
    assert install_marshaller()
    ours = runtime.LambdaRuntimeClient.marshaller
    for response in ({"body": "text"}, {"statusCode": 200}, "text", b"bytes", None, [1, 2.5]):
        assert ours.marshal_response(response) == original.marshal_response(response)
    assert ours.unmarshal_request(b'{"a": 1}') == {"a": 1}
    assert ours.unmarshal_request(b"text", "text/plain") == b"text"
    with pytest.raises(Exception, match="Unable to marshal response"):
        ours.marshal_response({"body": Base64Text("", b"", ""), "other": object()})


def test_serialised_response_keeps_no_base64_in_memory(original):
    response = HttpResponse(200, {}, b"frame").to_event(base64_apart=True)
    Base64Marshaller(original).marshal_response(response)
    assert response["body"] == ""


# A runtime with another interface


class OtherMethods:
    def marshal_response(self, response):
        return json.dumps(response), "application/json"

    def unmarshal_request(self, request, content_type):
        return request

    def marshal_stream(self, response):
        return response


class OtherSignature:
    def marshal_response(self, response, context):
        return json.dumps(response), "application/json"

    def unmarshal_request(self, request, content_type):
        return request


class EscapedSlashes:
    def marshal_response(self, response):
        return json.dumps(response).replace("/", "\\/"), "application/json"

    def unmarshal_request(self, request, content_type):
        return request


@pytest.mark.parametrize("marshaller", [OtherMethods, OtherSignature, EscapedSlashes])
def test_runtime_with_another_marshaller_remains_unchanged_and_the_log_says_so(
    runtime, marshaller, monkeypatch, log_lines
):
    owner = next(each for each in runtime.LambdaRuntimeClient.__mro__ if "marshaller" in vars(each))
    other = marshaller()
    monkeypatch.setattr(owner, "marshaller", other)
    assert not install_marshaller()
    assert runtime.LambdaRuntimeClient.marshaller is other
    (line,) = log_lines()
    assert line["message"] == "the runtime serialises responses with its own marshaller"


def test_runtime_without_the_attribute_remains_unchanged_and_the_log_says_so(runtime, monkeypatch, log_lines):
    owner = next(each for each in runtime.LambdaRuntimeClient.__mro__ if "marshaller" in vars(each))
    monkeypatch.delattr(owner, "marshaller")
    assert not install_marshaller()
    assert [line["reason"] for line in log_lines()] == ["it has no marshaller"]


def test_process_without_awslambdaric_remains_unchanged(monkeypatch, log_lines):
    _forget_runtime(monkeypatch)
    assert not install_marshaller()
    assert [line["reason"] for line in log_lines()] == ["it has no marshaller"]
    assert not [name for name in sys.modules if name.partition(".")[0] in RUNTIME_PACKAGES]
