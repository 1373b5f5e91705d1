"""No call leaves the Region: the endpoints of every client, and of pre-signed URLs."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import AWSResponse

from framegate.aws import clients
from framegate.aws.endpoints import endpoint_url
from framegate.healthimaging.client import API, API_VERSION, HOST_PREFIX
from framegate.healthimaging.regions import FIPS_REGIONS, REGIONS
from tests.unit.conftest import forget_clients

DEPLOYMENTS = [*((region, False) for region in REGIONS), *((region, True) for region in FIPS_REGIONS)]

CALLS = {
    "s3": lambda client: (
        client.put_object(Bucket="frames", Key="frames/k", Body=b""),
        client.list_objects_v2(Bucket="frames"),
        client.delete_object(Bucket="frames", Key="frames/k"),
    ),
    "sqs": lambda client: client.send_message(QueueUrl="https://sqs.example/1/queue", MessageBody="{}"),
    "events": lambda client: client.put_events(Entries=[{"Source": "s", "DetailType": "t", "Detail": "{}"}]),
}


@pytest.fixture(params=DEPLOYMENTS, ids=lambda each: f"{each[0]}{', FIPS' if each[1] else ''}")
def region(request, monkeypatch):
    """A Region in which the clients are built, with or without FIPS endpoints."""
    name, fips = request.param
    for service in ("S3", "SQS", "EVENTBRIDGE", "MEDICAL_IMAGING"):
        monkeypatch.delenv(f"AWS_ENDPOINT_URL_{service}", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", name)
    monkeypatch.setenv("AWS_REGION", name)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", str(fips).lower())
    forget_clients()
    yield name
    forget_clients()


def is_regional(url, region):
    """Return whether a URL has a host name of AWS with this Region before the domain."""
    return re.fullmatch(rf"([a-z0-9-]+\.)+{region}\.amazonaws\.com", urlsplit(url).hostname) is not None


def urls_of(client, call):
    """Return the URLs of the requests that a call would send."""
    urls = []

    def answer(request, **_):
        urls.append(request.url)
        response = AWSResponse(request.url, 200, {}, None)
        response._content = b"" if client.meta.service_model.service_name == "s3" else b"{}"
        return response

    client.meta.events.register_first("before-send", answer)
    call(client)
    return urls


@pytest.mark.parametrize("service", CALLS)
def test_every_call_goes_to_an_endpoint_of_the_region(region, service):
    urls = urls_of(getattr(clients, service)(), CALLS[service])

    assert urls
    assert all(is_regional(url, region) for url in urls), urls


def test_calls_to_health_imaging_go_to_an_endpoint_of_the_region(region):
    url = endpoint_url(clients.session(), API, API_VERSION, HOST_PREFIX)

    assert is_regional(url, region), url


@pytest.mark.parametrize("operation", ["get_object", "head_object"])
def test_presigned_url_leads_to_the_region(region, operation):
    url = clients.s3().generate_presigned_url(operation, Params={"Bucket": "frames", "Key": "frames/k"})

    assert is_regional(url, region), url
    assert f"%2F{region}%2Fs3%2Faws4_request" in url


def test_every_client_of_the_code_is_checked():
    built = {name for name in vars(clients) if name in CALLS}

    assert built == {name for name, each in vars(clients).items() if hasattr(each, "cache_clear")} - {
        "session",
        "_boto3_session",
    }


@pytest.mark.parametrize(
    "url",
    [
        "https://frames.s3.amazonaws.com/k",
        "https://s3.eu-west-2.amazonaws.com/k",
        "https://eu-west-1.amazonaws.com.evil/k",
    ],
)
def test_global_and_foreign_hosts_are_recognized(url):
    assert not is_regional(url, "eu-west-1")
