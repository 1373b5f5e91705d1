"""The emulator implements the protocol of botocore's model and of Smithy's protocol tests."""

import json
import re
import socket
from urllib.parse import urlencode

import pytest
import requests
from botocore.exceptions import ClientError
from botocore.serialize import create_serializer

from local.health_imaging import HealthImagingEmulator
from local.health_imaging.errors import ServiceError
from local.health_imaging.faults import STATUSES
from local.health_imaging.operations import Operations
from local.health_imaging.protocol import SERVICE, Operation, Router, accepts
from tests.unit.local.emulated import SIGNED, Bus, dicom_file, new_client

ID = "0123456789abcdef" * 2
ARN = f"arn:aws:medical-imaging:us-east-1:000000000000:datastore/{ID}"
BUCKET = "s3://dicom/input/"
VALUES = {
    "Arn": ARN,
    "AwsAccountId": "000000000000",
    "Boolean": True,
    "ClientToken": "token-1",
    "CopiableAttributes": "{}",
    "DICOMAttribute": b"{}",
    "DICOMStudyInstanceUID": "1.2.3",
    "DICOMSeriesInstanceUID": "1.2.3",
    "DatastoreId": ID,
    "DatastoreName": "name",
    "Date": 1_700_000_000.5,
    "ImageFrameId": ID,
    "ImageSetExternalVersionId": "1",
    "ImageSetId": ID,
    "JobId": "0",
    "JobName": "name",
    "KmsKeyArn": "arn:aws:kms:us-east-1:000000000000:alias/key",
    "LambdaArn": "arn:aws:lambda:us-east-1:000000000000:function:authorizer",
    "MetadataFilePath": "a/b.json",
    "NextToken": "1",
    "RoleArn": "arn:aws:iam::000000000000:role/import",
    "S3Uri": BUCKET,
    "TagKey": "key",
    "TagValue": "value",
}
"""A value that fits each shape of the model that has a constraint of its own."""

OPERATIONS = [Operation(name) for name in SERVICE.operation_names]
WITHOUT_BODY = [each for each in OPERATIONS if not each._body_members]
WITH_BODY = [each for each in OPERATIONS if each._body_members]


@pytest.fixture(scope="module")
def own_emulator(aws_environment):
    with HealthImagingEmulator() as running:
        running.create_datastore("protocol", ID)
        yield running


@pytest.fixture
def url(own_emulator):
    return own_emulator.url


def fitting(shape):
    """Make valid values for all members of a shape; for a union, the first member."""
    if shape.name in VALUES:
        return VALUES[shape.name]
    match shape.type_name:
        case "structure":
            names = list(shape.members)[:1] if shape.is_tagged_union else shape.members
            return {name: fitting(shape.members[name]) for name in names}
        case "list":
            return [fitting(shape.member)] * max(1, shape.metadata.get("min", 1))
        case "map":
            return {fitting(shape.key): fitting(shape.value)}
        case "integer":
            return shape.metadata.get("min", 1)
        case "string":
            return shape.enum[0] if shape.enum else "a"
    raise AssertionError(f"{shape.name} needs a value")


def parsed(operation, members):
    """Serialize a request with botocore, and parse it with the emulator."""
    request = create_serializer("rest-json", include_validation=False).serialize_to_request(members, operation.model)
    match = operation.path.fullmatch(request["url_path"])
    query = urlencode(request["query_string"], doseq=True)
    return operation.parse(match.groupdict(), query, request["body"] or b"")


def violations(shape, path=""):
    """Yield, for each constraint, a change to valid members that violates it and the path in the error."""
    if shape.type_name == "structure":
        for name in () if shape.is_tagged_union else shape.required_members:
            if shape.members[name].serialization.get("location") != "uri":
                yield without(name), f"{path}{name}"
        for name in list(shape.members)[:1] if shape.is_tagged_union else shape.members:
            for change, where in violations(shape.members[name], f"{path}{name}."):
                yield within(name, change), where
    elif shape.type_name == "list":
        for change, where in violations(shape.member, f"{path}1."):
            yield within(0, change), where
    wrong = list(wrong_values(shape))
    yield from ((value, path.rstrip(".")) for value in wrong)


def without(name):
    return lambda members: members.pop(name)


def within(key, change):
    def changed(members):
        if callable(change):
            change(members[key])
        else:
            members[key] = change[0]

    return changed


def wrong_values(shape):
    most, least = shape.metadata.get("max"), shape.metadata.get("min")
    if shape.type_name == "string":
        if shape.enum:
            yield ("NOT_ONE_OF_THEM",)
        elif shape.metadata.get("pattern") and r"\p" not in shape.metadata["pattern"]:
            yield ("\N{SNOWMAN} ;",)
        if most is not None:
            yield ("a" * (most + 1),)
        if least and not shape.enum:
            yield ("",)
    elif shape.type_name == "integer":
        yield (most + 1,)
        yield (least - 1,)
    elif shape.type_name == "blob":
        yield (b"x" * (most + 1),)
    elif shape.type_name == "list" and most is not None:
        yield ([fitting(shape.member)] * (most + 1),)


# The model


def test_emulator_implements_exactly_the_operations_of_the_model():
    methods = {name for name in vars(Operations) if not name.startswith("_")}
    assert methods == {operation.python_name for operation in OPERATIONS}


def test_every_modelled_error_has_its_status():
    for shape in SERVICE.error_shapes:
        assert STATUSES[shape.name] == shape.metadata["error"]["httpStatusCode"]
    assert (STATUSES["NotAcceptableException"], STATUSES["BadRequestException"]) == (406, 400)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_parser_reads_what_botocore_writes(operation):
    members = fitting(operation.model.input_shape)
    assert parsed(operation, members) == members


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_violation_of_each_constraint_raises_validation_exception(operation):
    shape = operation.model.input_shape
    for change, where in violations(shape):
        members = json.loads(json.dumps(fitting(shape), default=lambda blob: blob.decode()))
        change(members)
        name = where.partition(".")[0]
        if members.get(name) == "" and shape.members[name].serialization.get("location") == "uri":
            continue  # Without it, the path is another one.
        with pytest.raises(ServiceError) as raised:
            parsed(operation, members)
        assert raised.value.code == "ValidationException", where
        # For an absent payload, botocore writes an empty one, which then lacks its own members.
        assert f"at '{where}" in raised.value.message


def test_validation_message_does_not_quote_sensitive_values():
    body = {"filters": [{"operator": "EQUAL", "values": [{"DICOMStudyInstanceUID": "SECRET"}]}]}
    with pytest.raises(ServiceError) as raised:
        Operation("SearchImageSets").parse({"datastoreId": ID}, "", json.dumps(body).encode())
    assert "DICOMStudyInstanceUID" in raised.value.message
    assert "SECRET" not in raised.value.message


@pytest.mark.parametrize(
    "body",
    [
        {"filters": "x"},
        {"filters": ["x"]},
        {"filters": [{"operator": "EQUAL", "values": [{"isPrimary": "true"}]}]},
        {"filters": [{"operator": "EQUAL", "values": [{"createdAt": "yesterday"}]}]},
        {"filters": [{"operator": "EQUAL", "values": [{"isPrimary": True, "DICOMPatientId": "x"}]}]},
        {"filters": [{"operator": "EQUAL", "values": [{}]}]},
    ],
)
def test_member_of_the_wrong_type_raises_validation_exception(body):
    with pytest.raises(ServiceError) as raised:
        Operation("SearchImageSets").parse({"datastoreId": ID}, "", json.dumps(body).encode())
    assert raised.value.code == "ValidationException"


@pytest.mark.parametrize("query", ["maxResults=many", "maxResults=", "maxResults=" + "9" * 5_000, "maxResults=1e1"])
def test_query_parameter_of_the_wrong_type_raises_validation_exception(query):
    with pytest.raises(ServiceError, match="maxResults"):
        Operation("ListDatastores").parse({}, query, b"")


@pytest.mark.parametrize(
    "content",
    [
        b"{[",
        b"[]",
        b"null",
        b"10",
        b'{"filters": NaN}',
        b'{"filters": 1e999}',
        b'{"filters": ' + b"[" * 101 + b"]" * 101 + b"}",
        b"\xff\xfe",
        b"{}x",
        b"[" * 100_000,
        b"9" * 5_000,
        b"{'a': 1}",
    ],
)
def test_body_that_is_not_a_json_object_raises_serialization_exception(content):
    with pytest.raises(ServiceError) as raised:
        Operation("SearchImageSets").parse({"datastoreId": ID}, "", content)
    assert raised.value.code == "SerializationException"


def test_unknown_and_null_members_are_ignored():
    body = b'{"filters": null, "somethingNew": 1}'
    assert Operation("SearchImageSets").parse({"datastoreId": ID}, "", body)["searchCriteria"] == {}


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ({"datastoreId": ID}, "required by the model: datastoreStatus"),
        ({"datastoreId": ID, "datastoreStatus": "ACTIVE", "new": 1}, "unknown to the model: new"),
        ({"datastoreId": ID, "datastoreStatus": "READY"}, "must be one of"),
        ({"datastoreId": 1, "datastoreStatus": "ACTIVE"}, "must be of type string"),
    ],
)
def test_result_that_violates_the_model_is_an_error(result, problem):
    with pytest.raises(ValueError, match=problem):
        Operation("DeleteDatastore").serialize(result)


def test_results_are_serialized_according_to_the_model():
    content, headers = Operation("GetImageSet").serialize(
        {
            "datastoreId": ID,
            "imageSetId": ID,
            "versionId": "1",
            "imageSetState": "ACTIVE",
            "createdAt": 1_700_000_000.123_456,
            "message": None,
        }
    )
    assert headers == {"Content-Type": "application/json"}
    assert json.loads(content) == {
        "datastoreId": ID,
        "imageSetId": ID,
        "versionId": "1",
        "imageSetState": "ACTIVE",
        "createdAt": 1_700_000_000.123,
    }


# Routes


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/datastore/{ID}/imageSet/{ID}/getImageSetHistory"),
        ("POST", "/"),
        ("GET", f"/datastore/{ID}/"),
        ("GET", f"/datastore//{ID}"),
        ("PUT", "/datastore"),
        ("GET", f"/datastore/{ID}/imageSet/{ID}/getImageSet"),
        ("PATCH", f"/datastore/{ID}"),
        ("OPTIONS", "/datastore"),
        ("GET", f"/tags/{ARN}"),  # The slash in it has to be encoded.
    ],
)
def test_unknown_operation_is_not_reported_as_a_missing_resource(url, method, path):
    answer = requests.request(method, url + path, headers=SIGNED, timeout=5)
    assert (answer.status_code, answer.headers["x-amzn-ErrorType"]) == (404, "UnknownOperationException")
    assert set(answer.json()) == {"message"}


def test_head_of_an_unknown_operation_has_no_body_and_keeps_the_connection(url):
    with requests.Session() as session:
        for _ in range(2):
            assert session.head(f"{url}/datastore", headers=SIGNED, timeout=5).status_code == 404
        assert session.get(f"{url}/datastore", headers=SIGNED, timeout=5).status_code == 200


def test_unimplemented_operation_is_unknown():
    class Some:
        def get_image_set(self, members):
            raise AssertionError

    router = Router(Some())
    assert router.find("POST", f"/datastore/{ID}/imageSet/{ID}/getImageSet")[0].name == "GetImageSet"
    with pytest.raises(ServiceError) as raised:
        router.find("POST", f"/datastore/{ID}/imageSet/{ID}/getImageFrame")
    assert raised.value.code == "UnknownOperationException"


def test_every_operation_has_the_host_prefix_of_the_model():
    on_image_sets = {each.name for each in OPERATIONS if each.host_prefix == "runtime-"}
    assert on_image_sets == {each.name for each in OPERATIONS if "imageset" in each.name.lower()} | {"GetImageFrame"}
    assert {each.host_prefix for each in OPERATIONS if each.name not in on_image_sets} == {""}


@pytest.mark.parametrize(
    ("host", "method", "path", "error"),
    [
        ("runtime-medical-imaging.us-east-1.amazonaws.com", "GET", "/datastore", "UnknownOperationException"),
        (
            "runtime-medical-imaging.us-east-1.amazonaws.com",
            "POST",
            f"/datastore/{ID}/imageSet/{ID}/getImageSet",
            "ResourceNotFoundException",
        ),
        ("medical-imaging.us-east-1.amazonaws.com", "GET", "/datastore", None),
    ],
)
def test_host_with_a_prefix_serves_only_operations_with_that_prefix(url, host, method, path, error):
    answer = requests.request(method, url + path, headers={**SIGNED, "Host": host}, timeout=5)
    assert answer.headers.get("x-amzn-ErrorType") == error


def test_percent_encoded_labels_are_decoded(own_emulator):
    boto = new_client(own_emulator.url)
    assert boto.list_tags_for_resource(resourceArn=ARN)["tags"] == {}
    encoded = "".join(f"%{ord(character):02x}" for character in ID)
    assert requests.get(f"{own_emulator.url}/datastore/{encoded}", headers=SIGNED, timeout=5).status_code == 200


# Content-Type and Accept


def sent(url, operation, *, body=None, **headers):
    """Send a request with placeholder ids to an operation; return the status and the exception."""
    path = re.sub(r"\{\w+\}", "x", operation.model.http["requestUri"])
    wire = requests.Request(operation.method, url + path, data=body, headers={**SIGNED, **headers}).prepare()
    if body is None:
        wire.headers["Content-Length"] = "0"
    answer = requests.Session().send(wire, timeout=5)
    return answer.status_code, answer.headers.get("x-amzn-ErrorType")


UNSUPPORTED = (415, "UnsupportedMediaTypeException")


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_content_type_without_a_body_is_unsupported(url, operation):
    assert sent(url, operation, **{"Content-Type": "application/json"}) == UNSUPPORTED


@pytest.mark.parametrize("operation", WITHOUT_BODY, ids=str)
def test_body_is_unsupported_if_the_operation_takes_none(url, operation):
    assert sent(url, operation, body=b"{}", **{"Content-Type": "application/json"}) == UNSUPPORTED
    assert sent(url, operation)[0] != 415


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
@pytest.mark.parametrize(
    "content_type", ["application/hal+json", "text/plain", "application/x-amz-json-1.1", "application/jsonx", None]
)
def test_body_of_another_media_type_is_unsupported(url, operation, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    assert sent(url, operation, body=b"{}", **headers) == UNSUPPORTED


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_media_type_may_have_parameters_and_any_case(url, content_type):
    answer = requests.post(
        f"{url}/datastore/{ID}/searchImageSets",
        data=b"{}",
        headers={**SIGNED, "Content-Type": content_type},
        timeout=5,
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("accept", "is_accepted"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("application/*;q=0.1, text/html", True),
        ("text/html, application/json;charset=utf-8", True),
        ("application/hal+json", False),
        ("text/*", False),
        ("application/json;q=0", False),
        ("application/json; q=0.000, */*", False),
        ("*/*;q=0, application/json;q=0.5", True),
    ],
)
def test_most_specific_range_of_accept_decides(accept, is_accepted):
    assert accepts(accept, "application/json") == is_accepted


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("getImageSet", "application/hal+json", 406),
        ("getImageSet", "application/json", 200),
        ("getImageSetMetadata", "application/octet-stream", 406),
        ("getImageSetMetadata", "application/json", 200),
        ("getImageFrame", "image/jpeg", 406),
        ("getImageFrame", "image/*", 200),
    ],
)
def test_unsatisfiable_accept_raises_not_acceptable(own_emulator, path, accept, status):
    frame = own_emulator.add_frame(ID, b"pixels", "image/jph")
    body = {"imageFrameId": frame.image_frame_id} if path == "getImageFrame" else None
    answer = requests.post(
        f"{own_emulator.url}/datastore/{ID}/imageSet/{frame.image_set_id}/{path}",
        json=body,
        headers={**SIGNED, "Accept": accept},
        timeout=5,
    )
    assert answer.status_code == status
    assert answer.headers.get("x-amzn-ErrorType") == (None if status == 200 else "NotAcceptableException")


def test_connection_stays_open_after_rejected_requests(url):
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    request = f"POST /datastore/{ID}/searchImageSets HTTP/1.1\r\nHost: x\r\nAuthorization: x\r\nContent-Length: 2\r\n"
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(f"{request}\r\n{{}}{request}Content-Type: application/json\r\n\r\n{{}}".encode())
        received = b""
        while received.count(b"HTTP/1.1 ") < 2 or not received.endswith(b"}"):
            received += connection.recv(65_536)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"415", b"200"]


# All operations, as boto3 calls them


def test_boto3_can_call_every_operation(s3, tmp_path):
    s3.create_bucket(Bucket="dicom")
    called = []
    with HealthImagingEmulator(s3=s3, events=Bus()) as emulator:
        boto = new_client(emulator.url)
        boto.meta.events.register("before-call", lambda model, **_: called.append(model.name))
        datastore_id = boto.create_datastore(tags={"team": "x"})["datastoreId"]
        arn = boto.get_datastore(datastoreId=datastore_id)["datastoreProperties"]["datastoreArn"]
        assert boto.list_datastores(maxResults=1)["datastoreSummaries"][0]["datastoreId"] == datastore_id
        boto.tag_resource(resourceArn=arn, tags={"stage": "test"})
        boto.untag_resource(resourceArn=arn, tagKeys=["team"])
        assert boto.list_tags_for_resource(resourceArn=arn)["tags"] == {"stage": "test"}
        job_id = boto.start_dicom_import_job(
            datastoreId=datastore_id, dataAccessRoleArn=VALUES["RoleArn"], inputS3Uri=BUCKET, outputS3Uri=BUCKET
        )["jobId"]
        assert boto.get_dicom_import_job(datastoreId=datastore_id, jobId=job_id)["jobProperties"]["jobId"] == job_id
        assert boto.list_dicom_import_jobs(datastoreId=datastore_id)["jobSummaries"][0]["jobId"] == job_id
        (image_set,) = emulator.import_files(datastore_id, [dicom_file(tmp_path)])
        (frame_id,) = image_set.frames
        where = {"datastoreId": datastore_id, "imageSetId": image_set.id}
        assert boto.search_image_sets(datastoreId=datastore_id)["imageSetsMetadataSummaries"]
        assert boto.get_image_set(**where)["versionId"] == "1"
        assert boto.get_image_set_metadata(**where)["contentEncoding"] == "gzip"
        assert boto.get_image_frame(**where, imageFrameInformation={"imageFrameId": frame_id})["imageFrameBlob"].read()
        boto.update_image_set_metadata(
            **where,
            latestVersionId="1",
            updateImageSetMetadataUpdates={
                "DICOMUpdates": {"updatableAttributes": b'{"Study": {"DICOM": {"StudyDescription": "X"}}}'}
            },
        )
        assert len(boto.list_image_set_versions(**where)["imageSetPropertiesList"]) == 2
        copied = boto.copy_image_set(
            datastoreId=datastore_id,
            sourceImageSetId=image_set.id,
            copyImageSetInformation={"sourceImageSet": {"latestVersionId": "2"}},
        )
        for image_set_id in (image_set.id, copied["destinationImageSetProperties"]["imageSetId"]):
            boto.delete_image_set(datastoreId=datastore_id, imageSetId=image_set_id)
        assert boto.delete_datastore(datastoreId=datastore_id)["datastoreStatus"] == "DELETING"
    assert set(called) == set(SERVICE.operation_names)


def test_boto3_knows_the_errors_of_the_protocol(own_emulator):
    boto = new_client(own_emulator.url)
    boto.meta.events.register("before-sign", lambda request, **_: request.headers.add_header("Accept", "text/html"))
    with pytest.raises(ClientError) as raised:
        boto.get_datastore(datastoreId=ID)
    assert raised.value.response["Error"]["Code"] == "NotAcceptableException"
