"""The deployed roles and policies allow what Framegate needs, in a local cloud that enforces them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from pydicom.data import get_testdata_file

from framegate.rest.routes import METHODS
from local.cloud import ACCOUNT, REGION, LocalCloud
from local.health_imaging import Fault, FrameAddress
from local.signing import SigV4
from tests.e2e.conftest import Api
from tests.e2e.watching import Bucket, wait_for

SMALL, LARGE = os.urandom(100_000), os.urandom(20_000_000)


@pytest.fixture(scope="module")
def cloud():
    with LocalCloud(enforced=True) as running:
        yield running


@pytest.fixture(scope="module")
def datastores(cloud):
    """Two data stores that the stack serves."""
    return [cloud.health_imaging.create_datastore(name) for name in ("first", "second")]


@pytest.fixture(scope="module")
def deployment(cloud, datastores):
    return cloud.deploy(*datastores, timeout_seconds="10")


@pytest.fixture(scope="module")
def frames(cloud, datastores):
    return [cloud.health_imaging.add_frame(each, SMALL, "image/jph") for each in datastores]


@pytest.fixture(scope="module")
def reader_of_the_first(cloud, deployment, datastores):
    """The access key and secret of a user with the documented policy for the first data store."""
    iam = cloud.client("iam")
    iam.create_user(UserName="reader")
    api_id, stage = deployment.api_url.split("/")[-2:]
    statement = {
        "Effect": "Allow",
        "Action": "execute-api:Invoke",
        "Resource": [
            f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api_id}/{stage}/{method}/datastore/{datastores[0]}/*"
            for method in METHODS
        ],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="reader", PolicyName="read-one-data-store", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@pytest.fixture
def api(cloud, deployment, reader_of_the_first):
    return signed_by(cloud, deployment, *reader_of_the_first)


def signed_by(cloud, deployment, access_key, secret_key):
    return Api(deployment.api_url, access_key, secret_key, verify=str(cloud.ca_bundle))


def test_role_allows_inline_delivery(api, frames):
    assert api.get(frames[0]).content == SMALL


def test_role_allows_storing_finding_and_signing_a_large_frame(api, cloud, datastores):
    frame = cloud.health_imaging.add_frame(datastores[0], LARGE, "video/mp4")
    for _ in ("stored", "found"):
        answer = api.get(frame)
        assert requests.get(answer.headers["Location"], verify=str(cloud.ca_bundle), timeout=60).content == LARGE


def test_role_allows_aborting_an_upload(api, cloud, deployment, datastores):
    frame = cloud.health_imaging.add_frame(datastores[0], LARGE, "video/mp4")
    cloud.health_imaging.faults.arm(Fault(then="reset", after=len(LARGE) - 1, image_frame_id=frame.image_frame_id))
    assert api.get(frame).status_code == 502
    assert "Uploads" not in cloud.client("s3").list_multipart_uploads(Bucket=deployment.frame_bucket)


def test_stored_frame_needs_a_presigned_url(api, cloud, frames):
    location = api.get(frames[0], params={"delivery": "url"}).headers["Location"]
    assert requests.get(location, verify=str(cloud.ca_bundle), timeout=60).content == SMALL
    unsigned = requests.get(location.partition("?")[0], verify=str(cloud.ca_bundle), timeout=60)
    assert unsigned.status_code == 403


def test_redirected_page_can_read_the_frame(api, cloud, frames):
    location = api.get(frames[0], params={"delivery": "url"}).headers["Location"]
    answer = requests.get(location, headers={"Origin": "null"}, verify=str(cloud.ca_bundle), timeout=60)
    assert answer.headers["Access-Control-Allow-Origin"] in ("*", "null")
    assert "etag" in answer.headers["Access-Control-Expose-Headers"].lower()


def test_caller_can_read_only_the_data_store_of_its_policy(api, frames):
    assert [api.get(frame).status_code for frame in frames] == [200, 403]


def test_wrong_secret_gets_a_problem_document(cloud, deployment, reader_of_the_first, frames):
    forger = signed_by(cloud, deployment, reader_of_the_first[0], "not the secret")
    answer = forger.get(frames[0])
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/problem+json")
    assert answer.json()["type"] == "urn:framegate:problem:invalid-signature"


def test_signature_is_valid_for_one_frame_only(cloud, deployment, reader_of_the_first, frames):
    signed = requests.Request("GET", Api(deployment.api_url).frame_url(frames[0])).prepare()
    SigV4(*reader_of_the_first, REGION)(signed)
    signed.url = Api(deployment.api_url).frame_url(replace(frames[0], image_frame_id="f" * 32))
    with requests.Session() as session:
        assert session.send(signed, verify=str(cloud.ca_bundle), timeout=60).status_code == 403


@pytest.fixture
def bucket(cloud, deployment):
    return Bucket(cloud.client("s3"), deployment.frame_bucket)


@pytest.fixture
def imported(cloud, datastores, tmp_path):
    """A frame with pixel checksums in the metadata."""
    health_imaging = cloud.health_imaging
    path = Path(get_testdata_file("CT_small.dcm"))
    (image_set,) = health_imaging.import_files(datastores[0], [path])
    (frame_id,) = image_set.frames
    return FrameAddress(datastores[0], image_set.id, frame_id)


def test_roles_allow_export_and_removal_on_events(cloud, bucket, imported):
    (line,) = wait_for(lambda: bucket.manifest(imported))
    assert line["outcome"] == "copied"
    cloud.client("medical-imaging").delete_image_set(
        datastoreId=imported.datastore_id, imageSetId=imported.image_set_id
    )
    wait_for(lambda: not bucket.frames(imported) and not bucket.manifest(imported))


def test_roles_allow_verifying_moving_and_replacing_a_mismatched_frame(api, cloud, bucket, imported):
    wait_for(lambda: bucket.manifest(imported))
    cloud.health_imaging.spoil_checksum(imported)
    request = {"datastoreId": imported.datastore_id, "imageSetId": imported.image_set_id, "verify": True}
    prefix = bucket.put_request(request, "no JSON")
    summary, _ = wait_for(lambda: bucket.results(prefix))
    assert summary["lines"] == {"accepted": 1, "rejected": 1, "rejectedListed": 1}
    assert summary["frames"] == {"copied": 0, "present": 0, "failed": 1}
    assert bucket.where(imported) == {"mismatched"}
    assert api.get(imported).content == cloud.health_imaging.content(imported)
    # A second call restores the checksum.
    cloud.health_imaging.spoil_checksum(imported)
    prefix = bucket.put_request(request)
    summary, _ = wait_for(lambda: bucket.results(prefix))
    assert summary["frames"] == {"copied": 1, "present": 0, "failed": 0}
    assert bucket.where(imported) == {"frames"}


def test_roles_allow_a_deferred_store(api, cloud, datastores):
    frame = cloud.health_imaging.add_frame(datastores[0], LARGE, "video/mp4")
    slowly = Fault(bytes_per_second=1_000_000, image_frame_id=frame.image_frame_id, times=1)
    cloud.health_imaging.faults.arm(slowly)
    assert api.get(frame).status_code == 202
    answer = wait_for(lambda: (found := api.get(frame)).status_code == 303 and found)
    assert requests.get(answer.headers["Location"], verify=str(cloud.ca_bundle), timeout=60).content == LARGE


def test_local_cloud_enforces_the_permission_to_store(api, cloud, datastores):
    """Shows that the tests above can fail."""
    iam = cloud.client("iam")
    (role,) = [each["RoleName"] for each in iam.list_roles()["Roles"] if "ApiFunction" in each["RoleName"]]
    (policy_name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    policy = iam.get_role_policy(RoleName=role, PolicyName=policy_name)["PolicyDocument"]
    less = {**policy, "Statement": [each for each in policy["Statement"] if each["Sid"] != "StoreFrames"]}
    frame = cloud.health_imaging.add_frame(datastores[0], LARGE, "video/mp4")
    try:
        iam.put_role_policy(RoleName=role, PolicyName=policy_name, PolicyDocument=json.dumps(less))
        answer = api.get(frame)
        assert (answer.status_code, answer.json()["type"]) == (502, "urn:framegate:problem:upstream-failed")
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy_name, PolicyDocument=json.dumps(policy))
    assert api.get(frame).status_code == 303
