"""Fixtures that connect the product's code to the HealthImaging emulator and moto's S3."""

from __future__ import annotations

import io
import json
import os
import time
import uuid
import warnings
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import parse_qs

import boto3
import pytest
from botocore.config import Config
from moto import mock_aws
from moto.backends import get_backend

from framegate.access.image_sets import ImageSetAccess
from framegate.aws import clients
from framegate.aws.export_queue import ExportQueue
from framegate.aws.presigning import accept_request_ids
from framegate.delivery.deferred_store import DeferredStoreQueue
from framegate.delivery.executor import FrameDelivery
from framegate.healthimaging.client import HealthImaging
from framegate.index.frame_index import FrameIndex
from framegate.observability import logger
from framegate.rest.dicomweb import DicomWebHandlers
from framegate.rest.frame_api import FrameApi
from framegate.rest.http import INLINE_LIMIT
from framegate.rest.http_api import HttpApi
from framegate.rest.rendered import PictureHandlers
from framegate.rest.routes import FRAME_ROUTE, PICTURE_ROUTES
from framegate.settings import CACHE_CONTROL, Settings
from framegate.storage.body_store import BodyStore
from framegate.storage.frame_store import FrameStore
from framegate.storage.object_store import ObjectStore
from local.health_imaging import HealthImagingEmulator
from local.token_issuer import TokenIssuer
from tests.unit.s3_server import S3Server
from tests.unit.sessions import LOADER, new_session

BUCKET = "frames-of-the-test"
SERVED = "d" * 32


@dataclass
class Answer:
    """The function's result, as a client sees it."""

    event: dict
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


def filled(route, parameters):
    """The path of a route, as API Gateway puts it into an event."""
    for name, value in (parameters or {}).items():
        route = route.replace(f"{{{name}}}", value)
    return route


class Client:
    """Calls the API as API Gateway does."""

    def __init__(self, api, **context):
        self.api = api
        self.context = context

    def get(self, frame, query="", headers=None, remaining_ms=28_000):
        path = {
            "datastoreId": frame.datastore_id,
            "imageSetId": frame.image_set_id,
            "imageFrameId": frame.image_frame_id,
        }
        return self.call("GET", FRAME_ROUTE, path, query, headers, remaining_ms=remaining_ms)

    def call(self, method, route, path=None, query="", headers=None, body=None, remaining_ms=28_000):
        headers = {"Host": "api.example", "X-Forwarded-Proto": "https", **(headers or {})}
        event = self.api.answer(
            {
                "httpMethod": method,
                "resource": route,
                "path": filled(route, path),
                "pathParameters": path,
                "multiValueHeaders": {name: [value] for name, value in headers.items()},
                "multiValueQueryStringParameters": parse_qs(query, keep_blank_values=True) or None,
                "requestContext": {
                    "requestId": "request-of-the-test",
                    "path": f"/v1{filled(route, path)}",
                    **self.context,
                },
                "body": None if body is None else b64encode(body).decode(),
                "isBase64Encoded": body is not None,
            },
            remaining_ms,
        )
        body = b64decode(event["body"]) if event["isBase64Encoded"] else event["body"].encode()
        return Answer(event, event["statusCode"], event["headers"], body)


@pytest.fixture(scope="session", autouse=True)
def aws_environment():
    """Set invalid credentials and a Region, and remove every other AWS variable."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield


class Clock:
    """Time in seconds that moves only when a test changes it."""

    seconds = 1_000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    """The clock of an emulator that enforces quotas."""
    return Clock()


@pytest.fixture(scope="module")
def emulator():
    with HealthImagingEmulator() as running:
        running.create_datastore("unit-tests", datastore_id=SERVED)
        yield running


@pytest.fixture
def health_imaging(emulator, monkeypatch):
    """The emulator without faults and calls. The function uses it as HealthImaging."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", emulator.url)
    emulator.faults.clear()
    emulator.calls.clear()
    return emulator


@pytest.fixture(scope="session")
def running_issuer(tmp_path_factory):
    with TokenIssuer(tmp_path_factory.mktemp("issuer"), "/realms/imaging") as running:
        yield running


@pytest.fixture
def issuer(running_issuer, monkeypatch):
    """An OpenID Connect issuer without keys and requests, whose certificate is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(running_issuer.certificate))
    for state in (running_issuer.published, running_issuer.answers, running_issuer.requests):
        state.clear()
    return running_issuer


@pytest.fixture(scope="session")
def moto(aws_environment):
    with mock_aws():
        yield


@pytest.fixture(scope="session")
def s3_server(moto):
    """S3 over HTTP, as the product calls it. Clients read its endpoint from the environment."""
    with S3Server() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", running.url)
        yield running


@pytest.fixture(scope="session")
def s3_client(moto):
    # The mock without HTTP: tests see the same objects, but faster.
    return boto3.client("s3", config=Config(signature_version="s3v4", ignore_configured_endpoint_urls=True))


@pytest.fixture(scope="session")
def product_s3_client(s3_server):
    client = boto3.client("s3", config=Config(signature_version="s3v4", retries={"total_max_attempts": 1}))
    accept_request_ids(client)
    return client


def forget_clients():
    """Make the product create its session and clients again, for the current environment."""
    for each in (clients.session, clients._boto3_session, clients.s3, clients.sqs, clients.events):
        each.cache_clear()
    clients.session().register_component("data_loader", LOADER)


@pytest.fixture
def s3(s3_client, s3_server):
    """The test's own S3 client, with an empty bucket."""
    get_backend("s3").reset()
    s3_client.create_bucket(Bucket=BUCKET)
    return s3_client


@pytest.fixture
def settings():
    return Settings(
        (SERVED,), BUCKET, 300, "https://sqs.example/queue", cors_origins=("*",), auth="iam", uid_hash_secret="secret"
    )


@pytest.fixture
def source(health_imaging):
    return HealthImaging(new_session())


@pytest.fixture
def threads():
    """Threads for S3, which are idle before the next test starts."""
    with ThreadPoolExecutor(4) as running:
        yield running


@pytest.fixture
def objects(s3, new_object_store):
    return new_object_store(BUCKET)


@pytest.fixture
def new_object_store(product_s3_client, threads):
    return lambda bucket: ObjectStore(new_session(), lambda: product_s3_client, bucket, threads)


@pytest.fixture
def store(objects):
    return FrameStore(objects)


@pytest.fixture(scope="session")
def sqs_client(moto):
    return boto3.client("sqs")


@pytest.fixture
def queue(sqs_client):
    """The export queue, from which a test can receive messages."""
    return TestQueue(sqs_client, sqs_client.create_queue(QueueName=f"export-{uuid.uuid4()}")["QueueUrl"])


@pytest.fixture
def deferred_store_queue(sqs_client):
    """The deferred store queue, from which a test can receive messages."""
    return TestQueue(sqs_client, sqs_client.create_queue(QueueName=f"deferred-{uuid.uuid4()}")["QueueUrl"])


class TestQueue(ExportQueue):
    """The product's queue, from which a test can receive messages."""

    __test__ = False

    def __init__(self, client, url):
        super().__init__(lambda: client, url)
        self.client, self.url = client, url

    @property
    def arn(self):
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]

    def received(self):
        """Receive and delete all available messages; return their documents."""
        return [json.loads(message["Body"]) for message in self.receive()]

    def receive(self):
        """Receive and delete all available messages."""
        messages = []
        while batch := self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for message in batch:
                self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            messages += batch
        return messages


@pytest.fixture
def deferred_stores(objects, deferred_store_queue):
    return DeferredStoreQueue(objects, deferred_store_queue)


@pytest.fixture
def bodies(objects, settings):
    return BodyStore(objects, CACHE_CONTROL[settings.frame_caching])


@pytest.fixture
def delivery_from(store, deferred_stores, bodies):
    """Returns the delivery of frames from a client of HealthImaging."""

    def build(source, inline_limit=INLINE_LIMIT):
        return FrameDelivery(source, store, deferred_stores, inline_limit, 300, bodies)

    return build


@pytest.fixture
def frame_delivery(delivery_from, source):
    return delivery_from(source)


@pytest.fixture
def log_lines():
    """Returns the log lines of the test so far, as objects."""
    written = io.StringIO()
    before = logger.registered_handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    logger.registered_handler.setStream(before)


@pytest.fixture
def frame_index(source, objects):
    return FrameIndex(source, objects)


@pytest.fixture
def new_api(settings, frame_delivery, frame_index, source, objects, bodies):
    """Returns an API like that of a new function, with other parts where the test gives them."""

    def build(settings=settings, delivery=frame_delivery, index=frame_index, decision_function=None, **options):
        access = ImageSetAccess(settings.datastore_ids, index, decision_function)
        dicomweb = DicomWebHandlers.build(settings, access, delivery, index, source, objects, bodies)
        return FrameApi(settings, delivery, index, access, lambda: dicomweb.by_operation, **options)

    return build


@pytest.fixture
def client(new_api):
    return Client(new_api())


@pytest.fixture
def add_datasets(health_imaging, tmp_path):
    """Imports datasets into the served data store; returns the image sets."""

    def add(*datasets):
        paths = []
        for number, dataset in enumerate(datasets):
            path = tmp_path / f"{number}-{time.monotonic_ns()}.dcm"
            dataset.save_as(path)
            paths.append(path)
        with warnings.catch_warnings(action="ignore"):
            return health_imaging.import_files(SERVED, paths)

    return add


@pytest.fixture(scope="module")
def dicom_samples(emulator):
    """Imported sample files of pydicom, by name."""
    # The module needs this one.
    from tests.unit.dicomweb import dataset_of, path_of

    names = ["CT_small.dcm", "MR_small.dcm", "SC_rgb_small_odd_jpeg.dcm", "SC_rgb_rle_2frame.dcm", "emri_small.dcm"]
    with warnings.catch_warnings(action="ignore"):
        emulator.import_files(SERVED, [path_of(name) for name in names])
    return {name: dataset_of(name) for name in names}


@pytest.fixture
def ct(dicom_samples):
    """The CT image of the samples."""
    return dicom_samples["CT_small.dcm"]


@pytest.fixture
def multiframe(dicom_samples):
    """The image of the samples that has ten frames."""
    return dicom_samples["emri_small.dcm"]


@pytest.fixture
def new_picture_api(settings, frame_index, source, objects, bodies):
    """Returns an API like that of a new function that draws, with other parts where the test gives them."""

    def build(process, settings=settings, index=frame_index, decision_function=None):
        access = ImageSetAccess(settings.datastore_ids, index, decision_function)
        handlers = PictureHandlers.build(settings, access, index, source, objects, bodies, process)
        return HttpApi(settings, PICTURE_ROUTES, handlers.by_operation, 2.0)

    return build
