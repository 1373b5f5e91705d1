"""Clients of AWS services."""

from __future__ import annotations

from itertools import permutations
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from framegate.aws import clients
from framegate.aws.presigning import presigned_url
from tests.unit.conftest import forget_clients


@pytest.fixture(autouse=True)
def fresh_clients(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    forget_clients()
    yield
    forget_clients()


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "ap-southeast-2"])
def test_presigned_url_has_the_buckets_regional_host_and_sigv4(monkeypatch, region):
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    url = urlsplit(clients.s3().generate_presigned_url("get_object", Params={"Bucket": "frames", "Key": "frames/k"}))
    assert (url.scheme, url.netloc, url.path) == ("https", f"frames.s3.{region}.amazonaws.com", "/frames/k")
    assert parse_qs(url.query)["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]


def test_clients_are_built_once():
    assert clients.s3() is clients.s3()


@pytest.mark.parametrize("order", list(permutations(["s3", "sqs", "events"])), ids=" ".join)
def test_clients_are_built_in_any_order(order):
    assert [getattr(clients, name)().meta.service_model.service_name for name in order] == list(order)


def test_request_id_is_added_to_each_presigned_url_once():
    client = clients.s3()
    options = {"cache_control": None, "request_id": "8b1d9e"}
    for for_head in (False, True, False):
        url = presigned_url(client, "frames", "frames/k", 300, for_head=for_head, **options)
        assert parse_qsl(urlsplit(url).query).count(("x-request-id", "8b1d9e")) == 1


def test_presigned_url_without_a_request_id_has_no_such_parameter():
    url = presigned_url(clients.s3(), "frames", "k", 300, cache_control=None, for_head=False, request_id=None)
    assert "x-request-id" not in url
