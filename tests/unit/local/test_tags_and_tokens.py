"""Tags of data stores and image sets, and client tokens."""

import threading

import pytest
from botocore.exceptions import ClientError

from local.health_imaging.client_tokens import ClientTokens


@pytest.fixture
def arn(boto, own_emulator):
    datastore_id = own_emulator.create_datastore("tagged")
    return boto.get_datastore(datastoreId=datastore_id)["datastoreProperties"]["datastoreArn"]


def tags_of(boto, arn):
    return boto.list_tags_for_resource(resourceArn=arn)["tags"]


def refusal(act, **parameters):
    with pytest.raises(ClientError) as raised:
        act(**parameters)
    return raised.value.response["Error"]["Code"]


# Tags


def test_tags_are_added_replaced_listed_and_removed(boto, arn):
    boto.tag_resource(resourceArn=arn, tags={"team": "radiology", "stage": "test"})
    boto.tag_resource(resourceArn=arn, tags={"stage": "live", "empty": ""})
    assert tags_of(boto, arn) == {"team": "radiology", "stage": "live", "empty": ""}
    boto.untag_resource(resourceArn=arn, tagKeys=["team", "empty", "never-there"])
    assert tags_of(boto, arn) == {"stage": "live"}


def test_data_store_is_created_with_tags(boto, own_emulator):
    datastore_id = boto.create_datastore(tags={"team": "radiology"})["datastoreId"]
    assert tags_of(boto, f"{own_emulator.arn_prefix}datastore/{datastore_id}") == {"team": "radiology"}


def test_image_set_has_its_own_tags(boto, own_emulator, arn):
    frame = own_emulator.add_frame(arn.rpartition("/")[2], b"x", "image/jph")
    image_set_arn = f"{arn}/imageset/{frame.image_set_id}"
    boto.tag_resource(resourceArn=image_set_arn, tags={"kind": "image set"})
    assert tags_of(boto, image_set_arn) == {"kind": "image set"}
    assert tags_of(boto, arn) == {}
    boto.delete_image_set(datastoreId=frame.datastore_id, imageSetId=frame.image_set_id)
    assert refusal(boto.list_tags_for_resource, resourceArn=image_set_arn) == "ResourceNotFoundException"


@pytest.mark.parametrize(
    "change",
    [
        lambda arn: arn[:-32] + "0" * 32,
        lambda arn: f"{arn}/imageset/{'0' * 32}",
        lambda arn: arn.replace(":us-east-1:", ":eu-west-1:"),
        lambda arn: arn.replace(":000000000000:", ":111111111111:"),
    ],
)
def test_tags_of_an_unknown_resource_are_not_found(boto, arn, change):
    assert refusal(boto.list_tags_for_resource, resourceArn=change(arn)) == "ResourceNotFoundException"
    assert refusal(boto.tag_resource, resourceArn=change(arn), tags={"a": "b"}) == "ResourceNotFoundException"
    assert refusal(boto.untag_resource, resourceArn=change(arn), tagKeys=["a"]) == "ResourceNotFoundException"


@pytest.mark.parametrize("tags", [{"aws:own": "x"}, {"k" * 129: "x"}, {"k": "v" * 257}, {"k\N{SNOWMAN}": "x"}])
def test_invalid_tags_are_rejected(boto, arn, tags):
    assert refusal(boto.tag_resource, resourceArn=arn, tags=tags) == "ValidationException"
    assert refusal(boto.create_datastore, tags=tags) == "ValidationException"
    assert tags_of(boto, arn) == {}


def test_resource_has_at_most_fifty_tags(boto, arn):
    boto.tag_resource(resourceArn=arn, tags={f"k{number}": "" for number in range(50)})
    boto.tag_resource(resourceArn=arn, tags={"k0": "replaced"})
    assert refusal(boto.tag_resource, resourceArn=arn, tags={"one-more": ""}) == "ValidationException"
    too_many = {f"k{number}": "" for number in range(51)}
    assert refusal(boto.create_datastore, tags=too_many) == "ValidationException"


# Data stores


def test_data_store_properties_are_those_of_its_creation(boto):
    key = "arn:aws:kms:us-east-1:000000000000:alias/images"
    authorizer = "arn:aws:lambda:us-east-1:000000000000:function:authorizer"
    created = boto.create_datastore(
        datastoreName="all", kmsKeyArn=key, lambdaAuthorizerArn=authorizer, losslessStorageFormat="JPEG_2000_LOSSLESS"
    )
    properties = boto.get_datastore(datastoreId=created["datastoreId"])["datastoreProperties"]
    assert (properties["kmsKeyArn"], properties["lambdaAuthorizerArn"]) == (key, authorizer)
    assert properties["losslessStorageFormat"] == "JPEG_2000_LOSSLESS"
    plain = boto.get_datastore(datastoreId=boto.create_datastore()["datastoreId"])["datastoreProperties"]
    assert plain["losslessStorageFormat"] == "HTJ2K"
    assert "kmsKeyArn" not in plain


# Client tokens


def test_client_token_creates_one_data_store(boto):
    first = boto.create_datastore(datastoreName="once", clientToken="create-once", tags={"a": "b"})
    again = boto.create_datastore(datastoreName="once", clientToken="create-once", tags={"a": "b"})
    other = boto.create_datastore(datastoreName="once", clientToken="create-another", tags={"a": "b"})
    assert again["datastoreId"] == first["datastoreId"] != other["datastoreId"]
    assert again["datastoreStatus"] == first["datastoreStatus"]


@pytest.mark.parametrize(
    "changes", [{"datastoreName": "two"}, {"tags": {"a": "c"}}, {"losslessStorageFormat": "JPEG_2000_LOSSLESS"}]
)
def test_client_token_with_other_parameters_raises_conflict_exception(boto, changes):
    token = f"conflict-{next(iter(changes))}"
    request = {"datastoreName": "one", "tags": {"a": "b"}, "clientToken": token}
    boto.create_datastore(**request)
    before = len(boto.list_datastores()["datastoreSummaries"])
    assert refusal(boto.create_datastore, **request | changes) == "ConflictException"
    assert len(boto.list_datastores()["datastoreSummaries"]) == before


def test_client_token_of_a_deleted_data_store_can_be_reused(boto):
    first = boto.create_datastore(clientToken="deleted")["datastoreId"]
    boto.delete_datastore(datastoreId=first)
    assert boto.create_datastore(clientToken="deleted", datastoreName="new")["datastoreId"] != first


def test_import_client_token_with_other_parameters_raises_conflict_exception(boto, own_emulator):
    request = {
        "datastoreId": own_emulator.create_datastore("imports"),
        "dataAccessRoleArn": "arn:aws:iam::000000000000:role/import",
        "inputS3Uri": "s3://dicom/input/",
        "outputS3Uri": "s3://dicom/output/",
        "clientToken": "import-once",
    }
    first = boto.start_dicom_import_job(**request)
    assert boto.start_dicom_import_job(**request)["jobId"] == first["jobId"]
    assert refusal(boto.start_dicom_import_job, **request | {"jobName": "other"}) == "ConflictException"
    elsewhere = request | {"datastoreId": own_emulator.create_datastore("elsewhere")}
    assert boto.start_dicom_import_job(**elsewhere)["jobId"] != first["jobId"]


def test_concurrent_requests_with_one_client_token_act_once():
    tokens, acted, answers = ClientTokens(), [], []
    start = threading.Barrier(8)

    def act():
        acted.append(1)
        return {"number": len(acted)}

    def ask():
        start.wait()
        answers.append(tokens.answer_once("scope", {"clientToken": "t", "name": "x"}, act))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(acted), answers) == (1, [{"number": 1}] * 8)
