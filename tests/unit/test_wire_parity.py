"""Requests that Framegate signs itself equal the SDK's, except for a list of intended differences."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit
from zlib import crc32

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from framegate.access.decision import API as LAMBDA
from framegate.access.decision import API_VERSION as LAMBDA_VERSION
from framegate.access.decision import Action, DecisionFunction, Question
from framegate.access.principal import Principal
from framegate.aws import clients
from framegate.aws.endpoints import endpoint_url
from framegate.aws.errors import THROTTLING_CODES, TRANSIENT_CODES
from framegate.healthimaging.client import API, API_VERSION, HOST_PREFIX, HealthImaging
from framegate.healthimaging.regions import REGIONS
from framegate.identifiers import FrameRef, ImageSetRef
from framegate.observability import metrics
from framegate.storage.object_store import ObjectStore
from framegate.storage.s3_put import S3Put
from framegate.time_budget import TimeBudget
from tests.unit.conftest import forget_clients
from tests.unit.scripted_server import Reply, ScriptedServer
from tests.unit.sessions import LOADER

FRAME = FrameRef("d" * 32, "5" * 32, "f" * 32)
IMAGE_SET = {"datastoreId": FRAME.datastore_id, "imageSetId": FRAME.image_set_id}
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:image-access:live"
BUCKET, KEY = "frames-of-the-test", f"frames/{'d' * 32}/a b~+ü=é"
CONTENT = b"content of the test"
CHECKSUM = b64encode(crc32(CONTENT).to_bytes(4, "big")).decode()
ETAG = '"0123456789abcdef"'

INTENDED = {
    "user-agent": "CloudTrail and access logs show Framegate rather than a version of Python.",
    "amz-sdk-invocation-id": "Distinguishes the SDK's attempts at a call; the services do not need it.",
    "amz-sdk-request": "Tells the service about the SDK's attempts; the services do not need it.",
    "expect": "Waiting for 100 (Continue) costs a round trip, and S3 rarely refuses an object of at most 16 MiB.",
    "accept-encoding": "Both transports ask for no coding; the SDK's adds the header later.",
    "host": "The SDK's transport adds it. `test_endpoint_equals_the_sdks` compares it.",
    "authorization": "`test_signed_headers_equal_the_sdks` compares it.",
    "x-amz-date": "The time of day.",
    "x-amz-content-sha256": "The body is not signed, but its CRC32 is, and it travels over TLS.",
}
"""The headers that may differ, and why. Methods, paths, queries, bodies and all other headers are equal."""


def new_session():
    session = botocore.session.Session()
    session.register_component("data_loader", LOADER)
    return session


def sdk_request(service, operation, **parameters):
    """Return the request that botocore would send."""
    s3_style = {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"}
    config = Config(signature_version="s3v4" if service == "s3" else None, s3=s3_style)
    client = new_session().create_client(service, config=config)
    sent = []

    def stop(request, **_):
        sent.append(request)
        return AWSResponse(request.url, 200, {}, None)

    # Register first: moto's S3 from another test file may answer the same event.
    client.meta.events.register_first("before-send", stop)
    with suppress(Exception):
        # The parsers of some operations fail on a response without a body, but the request is recorded by then.
        getattr(client, operation)(**parameters)
    (request,) = sent
    return request


def texts(headers):
    return {name.lower(): value.decode() if isinstance(value, bytes) else str(value) for name, value in headers.items()}


def body_of(request):
    body = request.body
    if hasattr(body, "read"):
        body.seek(0)
        body = body.read()
    return body.encode() if isinstance(body, str) else body or b""


def answer(request):
    if request.method == "PUT":
        return Reply(headers={"ETag": ETAG})
    if request.path.endswith("/getImageSet"):
        return Reply(body=json.dumps({"versionId": "1", "imageSetState": "ACTIVE"}).encode())
    if request.path.endswith("/getImageSetMetadata"):
        return Reply(body=gzip.compress(b"{}"))
    if request.path.endswith("/searchImageSets"):
        return Reply(body=b'{"imageSetsMetadataSummaries": []}')
    if request.path.endswith("/invocations"):
        return Reply(body=b'{"allow": true}')
    return Reply(headers={"Content-Type": "image/jph"}, body=b"frame")


@pytest.fixture(autouse=True)
def forgotten_clients():
    yield
    forget_clients()


@pytest.fixture
def server(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-test")
    forget_clients()
    with ScriptedServer(answer) as running:
        yield running


def from_health_imaging(use):
    def send(server, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", server.url)
        use(HealthImaging(new_session()))
        monkeypatch.delenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING")

    return send


def to_lambda(use):
    def send(server, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", server.url)
        use(DecisionFunction(new_session(), FUNCTION, 0))
        monkeypatch.delenv("AWS_ENDPOINT_URL_LAMBDA")
        metrics.clear_metrics()

    return send


def to_s3(use):
    def send(server, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        with ThreadPoolExecutor(1) as threads:
            use(ObjectStore(new_session(), clients.s3, BUCKET, threads))
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
        # With an IP address, the bucket is in the path. `test_endpoint_equals_the_sdks` compares the usual host.
        server.requests[0].target = server.requests[0].target.removeprefix(f"/{BUCKET}")

    return send


def upload_part(objects):
    bucket = objects._bucket
    bucket.put.upload_part(KEY, "upload/id+of=the.test", 2, CONTENT, TimeBudget(10))


QUESTION = Question(Principal("somebody"), ImageSetRef(FRAME.datastore_id, FRAME.image_set_id), None, Action.READ_FRAME)

CALLS = {
    "Invoke": (
        to_lambda(lambda function: function.decide(QUESTION, TimeBudget(10))),
        (LAMBDA, "invoke", {"FunctionName": FUNCTION, "Payload": QUESTION.to_json()}),
    ),
    "GetImageFrame": (
        from_health_imaging(lambda source: source.fetch(FRAME, lambda stream: b"".join(stream), TimeBudget(10))),
        (API, "get_image_frame", {**IMAGE_SET, "imageFrameInformation": {"imageFrameId": FRAME.image_frame_id}}),
    ),
    "GetImageSet": (
        from_health_imaging(lambda source: source.image_set_version(FRAME, TimeBudget(10))),
        (API, "get_image_set", IMAGE_SET),
    ),
    "GetImageSetMetadata": (
        from_health_imaging(lambda source: source.fetch_metadata(FRAME, None, list, TimeBudget(10))),
        (API, "get_image_set_metadata", IMAGE_SET),
    ),
    "GetImageSetMetadata of a version": (
        from_health_imaging(lambda source: source.fetch_metadata(FRAME, "3", list, TimeBudget(10))),
        (API, "get_image_set_metadata", {**IMAGE_SET, "versionId": "3"}),
    ),
    "SearchImageSets": (
        from_health_imaging(lambda source: source.search_study(FRAME.datastore_id, "1.2.3", TimeBudget(10))),
        (
            API,
            "search_image_sets",
            {
                "datastoreId": FRAME.datastore_id,
                "searchCriteria": {"filters": [{"operator": "EQUAL", "values": [{"DICOMStudyInstanceUID": "1.2.3"}]}]},
                "maxResults": 50,
            },
        ),
    ),
    "PutObject": (
        to_s3(lambda objects: objects.put(KEY, "image/jph", [CONTENT], TimeBudget(10), "private, max-age=1")),
        ("s3", "put_object", {"ContentType": "image/jph", "CacheControl": "private, max-age=1"}),
    ),
    "PutObject if none exists": (
        to_s3(lambda objects: objects.put_if_unchanged(KEY, CONTENT, None, TimeBudget(10))),
        ("s3", "put_object", {"ContentType": "application/json", "IfNoneMatch": "*"}),
    ),
    "PutObject if unchanged": (
        to_s3(lambda objects: objects.put_if_unchanged(KEY, CONTENT, ETAG, TimeBudget(10))),
        ("s3", "put_object", {"ContentType": "application/json", "IfMatch": ETAG}),
    ),
    "UploadPart": (
        to_s3(upload_part),
        ("s3", "upload_part", {"PartNumber": 2, "UploadId": "upload/id+of=the.test"}),
    ),
}


@pytest.fixture(params=CALLS)
def requests(request, server, monkeypatch):
    """Framegate's request for an operation, and the SDK's."""
    ours, (service, operation, parameters) = CALLS[request.param]
    ours(server, monkeypatch)
    if service == "s3":
        body = {"Body": CONTENT, "ChecksumAlgorithm": "CRC32", "ChecksumCRC32": CHECKSUM}
        parameters = {"Bucket": BUCKET, "Key": KEY, **body, **parameters}
    (sent,) = server.requests
    return sent, sdk_request(service, operation, **parameters)


def test_method_path_query_and_body_equal_the_sdks(requests):
    ours, sdks = requests
    url = urlsplit(sdks.url)
    assert (ours.method, ours.path, ours.query) == (sdks.method, url.path, url.query)
    assert ours.body == body_of(sdks)


def test_headers_equal_the_sdks_except_for_intended_differences(requests):
    ours, sdks = requests
    compared = [{k: v for k, v in texts(each.headers).items() if k not in INTENDED} for each in (ours, sdks)]
    assert compared[0] == compared[1]


def test_signed_headers_equal_the_sdks(requests):
    ours, sdks = requests
    values = [texts(each.headers)["authorization"] for each in (ours, sdks)]
    # All but the signature: algorithm, credential scope with Region and service, and the signed headers.
    compared = [value.rpartition(", Signature=")[0] for value in values]
    assert compared[0] == compared[1]
    assert compared[0].startswith("AWS4-HMAC-SHA256 Credential=testing/")


def test_every_intended_difference_exists(server, monkeypatch):
    differing = set()
    for ours, (service, operation, parameters) in CALLS.values():
        server.requests.clear()
        ours(server, monkeypatch)
        if service == "s3":
            parameters = {"Bucket": BUCKET, "Key": KEY, "Body": CONTENT, "ChecksumCRC32": CHECKSUM, **parameters}
        pair = texts(server.requests[0].headers), texts(sdk_request(service, operation, **parameters).headers)
        differing |= {name for name in pair[0] | pair[1] if pair[0].get(name) != pair[1].get(name)}
    # Both requests can be signed in the same second.
    assert set(INTENDED) - differing <= {"x-amz-date"}


def test_content_type_is_sent_only_with_a_body(requests):
    ours, _ = requests
    assert ("content-type" in ours.headers) <= bool(ours.body)
    assert ours.headers["content-length"] == str(len(ours.body))


ENDPOINT_SETTINGS = [
    {},
    {"AWS_USE_FIPS_ENDPOINT": "true"},
    {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
    {"AWS_USE_FIPS_ENDPOINT": "false", "AWS_USE_DUALSTACK_ENDPOINT": "FALSE"},
]


def product_client_of_s3():
    forget_clients()
    return clients.s3()


@pytest.mark.parametrize("region", [*sorted(REGIONS), "eu-central-1", "us-gov-west-1"])
@pytest.mark.parametrize("settings", ENDPOINT_SETTINGS, ids=str)
def test_endpoint_equals_the_sdks(monkeypatch, region, settings):
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    sdks = sdk_request(API, "get_image_set", **IMAGE_SET).url
    assert sdks.startswith(f"{HealthImaging(new_session())._url}/datastore/")
    sdks = sdk_request(LAMBDA, "invoke", FunctionName=FUNCTION).url
    assert DecisionFunction(new_session(), FUNCTION, 0)._url == sdks
    sdks = sdk_request("s3", "put_object", Bucket=BUCKET, Key=KEY, Body=CONTENT).url
    assert S3Put(new_session(), product_client_of_s3, BUCKET)._url(KEY) == sdks


def test_fips_endpoint_of_frames():
    session = new_session()
    session.set_config_variable("use_fips_endpoint", True)
    url = endpoint_url(session, API, API_VERSION, HOST_PREFIX)
    assert url == "https://runtime-medical-imaging-fips.us-east-1.amazonaws.com"


def test_endpoint_from_the_environment_is_used_unchanged(monkeypatch):
    session = new_session()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/all/")
    assert endpoint_url(session, API, API_VERSION, HOST_PREFIX) == "http://127.0.0.1:1/all"
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", "http://127.0.0.1:2")
    assert endpoint_url(session, API, API_VERSION, HOST_PREFIX) == "http://127.0.0.1:2"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    session = new_session()
    url = endpoint_url(session, API, API_VERSION, HOST_PREFIX)
    assert url == "https://runtime-medical-imaging.us-east-1.amazonaws.com"


def test_fips_with_a_custom_endpoint_is_an_error_as_with_the_sdk(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", "http://127.0.0.1:2")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    with pytest.raises(BotoCoreError, match="FIPS and custom endpoint are not supported"):
        HealthImaging(new_session())


def test_endpoint_is_resolved_with_the_models_version_and_host_prefix():
    model = new_session().get_service_model(API)
    assert (model.service_name, model.api_version, model.signing_name) == (API, API_VERSION, API)
    for operation in ("GetImageFrame", "GetImageSet", "GetImageSetMetadata"):
        assert model.operation_model(operation).endpoint == {"hostPrefix": HOST_PREFIX}


def test_version_of_lambdas_model_is_the_one_that_the_sdk_uses():
    model = new_session().get_service_model(LAMBDA)
    assert (model.service_name, model.api_version, model.signing_name) == (LAMBDA, LAMBDA_VERSION, LAMBDA)


def test_throttling_and_transient_codes_equal_the_sdks():
    from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

    sdks = set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES)
    # S3 and SQS pass on errors of KMS.
    assert THROTTLING_CODES - sdks == {"KMS.ThrottlingException", "KmsThrottled"}
    assert sdks < THROTTLING_CODES
    assert set(TransientRetryableChecker._TRANSIENT_ERROR_CODES) == TRANSIENT_CODES


@pytest.mark.parametrize(
    ("service", "operation"),
    [("sqs", "SendMessage"), ("sqs", "ChangeMessageVisibility"), ("events", "PutEvents"), ("s3", "PutObject")],
)
def test_modelled_throttling_errors_count_as_throttling(service, operation):
    shapes = new_session().get_service_model(service).operation_model(operation).error_shapes
    throttling = {shape.error_code for shape in shapes if "Throttl" in shape.name}
    assert throttling <= THROTTLING_CODES
    assert throttling or service != "sqs"
