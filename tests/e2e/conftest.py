"""Fixtures for one local cloud with the deployed stack and real DICOM files, shared by end-to-end tests."""

from __future__ import annotations

import json
import time
import warnings
from types import SimpleNamespace
from typing import ClassVar

import pydicom
import pytest
import requests

from local.cloud import ACCESS_KEY, REGION, SECRET_KEY, LocalCloud
from local.importing import import_folder
from local.samples import write_samples
from local.signing import SigV4
from local.token_issuer import TokenIssuer
from local.viewer import ohif
from local.viewer.site import ViewerSite
from tests.e2e.viewer_samples import write_series
from tests.e2e.watching import log_messages

ORIGIN = "https://viewer.example"

DATASTORES_CLAIM = "https://example.org/datastores"

CONTENT_TYPES = {
    "image/jph": "image/jph; transfer-syntax=1.2.840.10008.1.2.4.202",
    "image/jpeg": "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50",
    "image/j2c": "image/j2c; transfer-syntax=1.2.840.10008.1.2.4.91",
    "application/octet-stream": "application/octet-stream",
}
"""The Content-Type with which the API sends frames, by HealthImaging's media type."""


@pytest.fixture(scope="session")
def cloud():
    with LocalCloud() as running:
        yield running


@pytest.fixture(scope="session")
def datastore_id(cloud):
    """The data store to which tests add their own frames."""
    return cloud.health_imaging.create_datastore("end-to-end")


@pytest.fixture(scope="session")
def import_datastore_id(cloud):
    """The data store with the imported DICOM files."""
    return cloud.health_imaging.create_datastore("imported")


def pytest_collection_modifyitems(items):
    """Run test_privacy.py last, because it examines what all other tests left."""
    items.sort(key=lambda item: item.path.name == "test_privacy.py")


@pytest.fixture(scope="session")
def heard(cloud):
    """Returns every event that Framegate or its bucket sent to the default bus, as JSON."""
    events, sqs = cloud.client("events"), cloud.client("sqs")
    url = sqs.create_queue(QueueName="everything")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="everything", EventPattern=json.dumps({"source": ["framegate", "aws.s3"]}))
    events.put_targets(Rule="everything", Targets=[{"Id": "everything", "Arn": arn}])

    def receive():
        texts = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            texts += [message["Body"] for message in messages]
            entries = [{"Id": each["MessageId"], "ReceiptHandle": each["ReceiptHandle"]} for each in messages]
            sqs.delete_message_batch(QueueUrl=url, Entries=entries)
        return texts

    return receive


@pytest.fixture(scope="session")
def answered():
    """The headers and bodies of all error responses of the API."""
    return Api.problems


@pytest.fixture(scope="session")
def deployment(cloud, heard, datastore_id, import_datastore_id):
    """The stack with both data stores. A short timeout makes large exports take several invocations."""
    return cloud.deploy(
        datastore_id,
        import_datastore_id,
        cors_origins=ORIGIN,
        export_timeout_seconds="10",
        # 300 calls per second for each of four workers.
        export_rate="1200",
    )


@pytest.fixture(scope="session")
def imported(cloud, deployment, import_datastore_id, tmp_path_factory):
    """The frames of the sample files, imported after the deployment."""
    folder = tmp_path_factory.mktemp("dicom")
    write_samples(folder)
    frames = import_folder(cloud, import_datastore_id, folder)
    return SimpleNamespace(folder=folder, datastore_id=import_datastore_id, frames=frames)


@pytest.fixture(scope="session")
def viewer(tmp_path_factory):
    """A local cloud with DICOM files and the viewer's website, as ``make viewer`` starts them, that writes DICOM files.

    People who log in may read the first data store, which has the files. Tests add frames to the others.
    """
    folder = tmp_path_factory.mktemp("viewer")
    samples = folder / "samples"
    samples.mkdir()
    write_samples(samples)
    write_series(samples)
    with TokenIssuer(folder, "/viewer") as issuer, LocalCloud(trusted=issuer.certificate) as running:
        datastore_ids = [running.health_imaging.create_datastore(name) for name in ("files", "first", "second")]
        frames = import_folder(running, datastore_ids[0], samples)
        # One key for all tokens: the authorizer does not ask for new keys whenever a token names an unknown one.
        key = issuer.new_key("ES256", "viewer")

        def token(subject, datastore_id):
            return key.sign(issuer.claims(sub=subject, **{DATASTORES_CLAIM: [datastore_id]}))

        with ViewerSite(ohif.APPLICATION, issuer, key, {DATASTORES_CLAIM: datastore_ids[:1]}) as site:
            yield SimpleNamespace(
                cloud=running,
                token=token,
                site=site,
                datastore_ids=datastore_ids,
                frames=frames,
                datasets=_datasets(samples),
                deployment=site.deploy(
                    running,
                    *datastore_ids,
                    jwt_datastores_claim=DATASTORES_CLAIM,
                    export_output="dicom",
                    dataset_tables="true",
                    dataset_catalog="true",
                ),
            )


def _datasets(folder):
    """The DICOM files of a folder, by name."""
    with warnings.catch_warnings(action="ignore"):
        return {path.name: pydicom.dcmread(path) for path in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def health_imaging(cloud):
    """HealthImaging's own API, through boto3."""
    return cloud.client("medical-imaging")


@pytest.fixture(scope="session")
def s3(cloud):
    return cloud.client("s3")


@pytest.fixture
def emulator(cloud):
    """The emulator without faults, before and after the test."""
    cloud.health_imaging.faults.clear()
    cloud.health_imaging.calls.clear()
    yield cloud.health_imaging
    cloud.health_imaging.faults.clear()


class Api:
    """A client of the deployed REST API that does not follow redirects."""

    problems: ClassVar[list[str]] = []
    """Headers and bodies of every error response, of all instances."""

    def __init__(self, url, access_key=ACCESS_KEY, secret_key=SECRET_KEY, verify=True):
        self.url = url
        self._verify = verify
        self._session = requests.Session()
        self._session.auth = SigV4(access_key, secret_key, REGION)

    def frame_url(self, frame):
        return (
            f"{self.url}/datastore/{frame.datastore_id}/imageSet/{frame.image_set_id}/imageFrame/{frame.image_frame_id}"
        )

    def get_image_frame_url(self, frame):
        return f"{self.url}/datastore/{frame.datastore_id}/imageSet/{frame.image_set_id}/getImageFrame"

    def get(self, frame, **arguments):
        return self.request("GET", self.frame_url(frame), **arguments)

    def request(self, method, url, **arguments):
        # `verify` is a parameter of the call because REQUESTS_CA_BUNDLE would override the session's.
        # On a slow machine, requests wait in MiniStack, which has no timeout of its own.
        arguments = {"timeout": 180, "allow_redirects": False, "verify": self._verify, **arguments}
        answer = self._session.request(method, url, **arguments)
        if answer.status_code >= requests.codes.bad_request:
            self.problems.append(f"{answer.headers} {answer.text}")
        return answer


@pytest.fixture
def api(deployment):
    return Api(deployment.api_url)


@pytest.fixture
def log_lines(cloud):
    """Reads the log lines of the API function from now on, as JSON objects: all, or those of one request."""
    return log_reader(cloud, "ApiFunction")


@pytest.fixture
def export_log(cloud):
    """Reads the log lines of the export function from now on, as JSON objects: all, or those of one message."""
    return log_reader(cloud, "ExportFunction")


def log_reader(cloud, function):
    since = time.time()

    def read(request_id=None):
        messages = log_messages(cloud, function, since)
        lines = [json.loads(line) for message in messages for line in message.splitlines() if line.startswith("{")]
        return [line for line in lines if request_id in (None, line.get("correlation_id"))]

    return read
