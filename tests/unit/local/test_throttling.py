"""The emulator enforces the documented quotas on request."""

import pytest
import requests
from botocore.exceptions import ClientError

from local.health_imaging import Fault, HealthImagingEmulator
from local.health_imaging.dicomweb import DICOMWEB_OPERATIONS
from local.health_imaging.protocol import SERVICE
from local.health_imaging.throttling import DOCUMENTED_QUOTAS, Quota, Throttles
from tests.unit.local.emulated import SIGNED, new_client


@pytest.fixture
def throttled(aws_environment, clock):
    with HealthImagingEmulator(throttles="documented", clock=clock) as running:
        yield running


def count_allowed(throttles, operation, calls):
    return sum(throttles.take(operation) for _ in range(calls))


def test_every_operation_has_a_quota():
    dicomweb = {each.name for each in DICOMWEB_OPERATIONS}
    assert set(DOCUMENTED_QUOTAS) == set(SERVICE.operation_names) | dicomweb


@pytest.mark.parametrize(
    ("operation", "rate", "burst"),
    [
        ("GetImageFrame", 1000, 2000),
        ("GetImageSetMetadata", 50, 100),
        ("GetImageSet", 25, 50),
        ("SearchImageSets", 25, 50),
        ("UpdateImageSetMetadata", 0.25, 1),
        ("CopyImageSet", 0.25, 1),
        ("DeleteImageSet", 0.25, 1),
        ("StartDICOMImportJob", 1, 2),
        ("GetDICOMInstance", 50, 100),
        ("GetDICOMInstanceFrames", 50, 100),
        ("GetDICOMInstanceMetadata", 50, 100),
        ("GetDICOMSeriesMetadata", 50, 100),
    ],
)
def test_quota_allows_a_burst_and_then_its_rate(clock, operation, rate, burst):
    throttles = Throttles(DOCUMENTED_QUOTAS, clock)
    assert count_allowed(throttles, operation, burst + 10) == burst
    seconds = max(4.0, 1 / rate)
    for _ in range(3):
        clock.seconds += seconds
        assert count_allowed(throttles, operation, burst + 10) == min(burst, int(rate * seconds))


def test_idle_time_refills_at_most_the_burst(clock):
    throttles = Throttles({"GetImageSet": Quota(25, 50)}, clock)
    clock.seconds += 3_600
    assert count_allowed(throttles, "GetImageSet", 100) == 50


def test_quotas_of_operations_do_not_affect_each_other(clock):
    throttles = Throttles(DOCUMENTED_QUOTAS, clock)
    assert count_allowed(throttles, "GetImageSet", 60) == 50
    assert count_allowed(throttles, "SearchImageSets", 60) == 50


def test_call_above_the_quota_raises_throttling_exception(throttled, clock):
    datastore_id = throttled.create_datastore("throttled")
    boto = new_client(throttled.url)
    for _ in range(10):
        boto.list_datastores()
    with pytest.raises(boto.exceptions.ThrottlingException) as raised:
        boto.list_datastores()
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert boto.get_datastore(datastoreId=datastore_id)
    clock.seconds += 0.2
    assert boto.list_datastores()["datastoreSummaries"]
    assert [call.status for call in throttled.calls].count(429) == 1


def test_invalid_call_counts_against_the_quota_and_an_unsigned_call_does_not(throttled):
    url = f"{throttled.url}/datastore?maxResults=0"
    for _ in range(20):
        assert requests.get(url, timeout=5).status_code == 403
    statuses = [requests.get(url, headers=SIGNED, timeout=5).status_code for _ in range(11)]
    assert statuses == [400] * 10 + [429]


def test_dicomweb_calls_are_throttled_by_operation(throttled):
    base = f"{throttled.url}/datastore/{throttled.create_datastore('dicomweb')}"
    series = f"{base}/studies/1.2/series/1.3"
    frame = f"{series}/instances/1.4/frames/1"
    statuses = [requests.get(frame, headers=SIGNED, timeout=5).status_code for _ in range(101)]
    assert statuses == [404] * 100 + [429]
    assert requests.get(frame, timeout=5).status_code == 403
    assert requests.get(f"{series}/metadata", headers=SIGNED, timeout=5).status_code == 404


def test_throttled_call_does_not_consume_a_fault(throttled, clock):
    url = f"{throttled.url}/datastore"
    conflict = Fault(operation="ListDatastores", error="ConflictException", times=1)
    throttled.faults.arm(conflict)
    statuses = [requests.get(url, headers=SIGNED, timeout=5).status_code for _ in range(10)]
    assert statuses == [409] + [200] * 9
    throttled.faults.arm(conflict)
    assert requests.get(url, headers=SIGNED, timeout=5).status_code == 429
    clock.seconds += 1
    assert requests.get(url, headers=SIGNED, timeout=5).status_code == 409


def test_nothing_is_throttled_by_default(aws_environment):
    with HealthImagingEmulator() as running:
        boto = new_client(running.url)
        for _ in range(30):
            boto.create_datastore()
        with pytest.raises(ClientError, match="no such data store"):
            boto.get_datastore(datastoreId="0" * 32)
