"""The adaptations of MiniStack behave as AWS does."""

from __future__ import annotations

import base64
import io
import json
import time
import uuid
import zipfile
import zlib
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError

from local.cloud import ACCOUNT, REGION, LocalCloud

ROLE = f"arn:aws:iam::{ACCOUNT}:role/anything"
PART_BYTES = 5 << 20  # S3's minimum for every part except the last
PASS = {"StartAt": "Give", "States": {"Give": {"Type": "Pass", "End": True}}}
FAIL_ODD = {
    "StartAt": "Odd?",
    "States": {
        "Odd?": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.odd", "BooleanEquals": True, "Next": "Refuse"}],
            "Default": "Give",
        },
        "Refuse": {"Type": "Fail", "Error": "Odd", "Cause": "it is odd"},
        "Give": {"Type": "Pass", "End": True},
    },
}


@pytest.fixture(scope="module")
def bucket(s3):
    name = f"map-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def execute(cloud):
    """Run a state machine of one state; return the description of its execution."""
    states = cloud.client("stepfunctions")

    def run(state, execution_input):
        machine = states.create_state_machine(
            name=f"test-{uuid.uuid4().hex}",
            definition=json.dumps({"StartAt": "Only", "States": {"Only": {**state, "End": True}}}),
            roleArn=ROLE,
        )["stateMachineArn"]
        arn = states.start_execution(stateMachineArn=machine, input=json.dumps(execution_input))["executionArn"]
        deadline = time.monotonic() + 30
        while (execution := states.describe_execution(executionArn=arn))["status"] == "RUNNING":
            assert time.monotonic() < deadline, "the execution did not end in time"
            time.sleep(0.05)
        return execution

    return run


@pytest.fixture
def map_over(s3, bucket, execute):
    """Run a Distributed Map over items in an object; return its output and its result files by status."""

    def run(items, child, *, writer_config=None, **fields):
        prefix = f"results-{uuid.uuid4().hex}"
        s3.put_object(Bucket=bucket, Key=f"{prefix}.jsonl", Body="".join(json.dumps(item) + "\n" for item in items))
        state = {
            "Type": "Map",
            "ItemReader": {
                "Resource": "arn:aws:states:::s3:getObject",
                "ReaderConfig": {"InputType": "JSONL"},
                "Parameters": {"Bucket.$": "$.bucket", "Key.$": "$.key"},
            },
            "ItemProcessor": {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}, **child},
            "ResultWriter": {
                "Resource": "arn:aws:states:::s3:putObject",
                "Parameters": {"Bucket.$": "$.bucket", "Prefix": prefix},
                **({"WriterConfig": writer_config} if writer_config else {}),
            },
            **fields,
        }
        execution = execute(state, {"bucket": bucket, "key": f"{prefix}.jsonl"})
        keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])]
        manifests = [json.loads(_read(s3, bucket, key)) for key in keys if key.endswith("/manifest.json")]
        return SimpleNamespace(
            execution=execution,
            output=json.loads(execution.get("output") or "null"),
            prefix=prefix,
            keys=keys,
            manifest=manifests[0] if manifests else None,
            files={
                status: [_read(s3, bucket, entry["Key"]) for entry in entries]
                for status, entries in (manifests[0]["ResultFiles"] if manifests else {}).items()
            },
        )

    return run


def zipped(path, content):
    """Make a zip archive with one file."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(path, content)
    return archive.getvalue()


def _read(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def _lines(files):
    return [json.loads(line) for file in files for line in file.splitlines()]


JSONL = {"Transformation": "NONE", "OutputType": "JSONL"}


def test_result_of_a_map_names_its_manifest(map_over, bucket):
    ran = map_over([{"n": 1}], PASS, writer_config=JSONL)
    run_id = ran.output["MapRunArn"].rpartition(":")[2]
    assert ran.output == {
        "MapRunArn": ran.manifest["MapRunArn"],
        "ResultWriterDetails": {"Bucket": bucket, "Key": f"{ran.prefix}/{run_id}/manifest.json"},
    }
    assert ran.manifest["DestinationBucket"] == bucket
    assert ran.manifest["ResultFiles"]["FAILED"] == ran.manifest["ResultFiles"]["PENDING"] == []
    (entry,) = ran.manifest["ResultFiles"]["SUCCEEDED"]
    assert entry == {"Key": f"{ran.prefix}/{run_id}/SUCCEEDED_0.json", "Size": len(ran.files["SUCCEEDED"][0])}


def test_record_of_a_child_has_metadata_and_json_strings(map_over):
    (record,) = _lines(map_over([{"n": 1}], PASS, writer_config=JSONL).files["SUCCEEDED"])
    assert set(record) == {
        "ExecutionArn",
        "Input",
        "InputDetails",
        "Name",
        "Output",
        "OutputDetails",
        "RedriveCount",
        "RedriveStatus",
        "RedriveStatusReason",
        "StartDate",
        "StateMachineArn",
        "Status",
        "StopDate",
    }
    assert (json.loads(record["Input"]), json.loads(record["Output"])) == ({"n": 1}, {"n": 1})
    assert record["ExecutionArn"].endswith(f":{record['Name']}")


def test_tolerated_failures_have_a_separate_file(map_over):
    items = [{"n": n, "odd": n % 2 == 1} for n in range(150)]
    ran = map_over(items, FAIL_ODD, writer_config=JSONL, ToleratedFailurePercentage=50)
    succeeded, failed = _lines(ran.files["SUCCEEDED"]), _lines(ran.files["FAILED"])
    assert ran.execution["status"] == "SUCCEEDED"
    assert sorted(json.loads(each["Output"])["n"] for each in succeeded) == list(range(0, 150, 2))
    assert sorted(json.loads(each["Input"])["n"] for each in failed) == list(range(1, 150, 2))
    assert {(each["Status"], each["Error"], each["Cause"]) for each in failed} == {("FAILED", "Odd", "it is odd")}
    assert not any("Output" in each for each in failed)


def test_failed_map_writes_its_results(map_over):
    ran = map_over([{"n": n, "odd": n < 2} for n in range(4)], FAIL_ODD, writer_config=JSONL)
    assert ran.execution["status"] == "FAILED"
    assert ran.execution["error"] == "States.ExceedToleratedFailureThreshold"
    assert (len(_lines(ran.files["SUCCEEDED"])), len(_lines(ran.files["FAILED"]))) == (2, 2)


@pytest.mark.parametrize(
    ("transformation", "expected"), [("COMPACT", [[1, 2], [3]]), ("FLATTEN", [1, 2, 3]), ("NONE", None)]
)
def test_results_are_transformed(map_over, transformation, expected):
    ran = map_over([[1, 2], [3]], PASS, writer_config={"Transformation": transformation}, MaxConcurrency=1)
    (content,) = ran.files["SUCCEEDED"]
    assert (json.loads(content) if expected else [json.loads(each["Output"]) for each in json.loads(content)]) == (
        expected or [[1, 2], [3]]
    )


def test_result_selector_and_result_path_apply_to_the_result(map_over, bucket):
    ran = map_over([1], PASS, ResultSelector={"at.$": "$.ResultWriterDetails.Key"}, ResultPath="$.results")
    assert ran.output["bucket"] == bucket
    assert ran.output["results"]["at"].endswith("/manifest.json")


def test_state_fails_if_its_results_cannot_be_written(map_over):
    writer = {"Resource": "arn:aws:states:::s3:putObject", "Parameters": {"Bucket": "no-such-bucket-here"}}
    ran = map_over([1], PASS, ResultWriter=writer)
    assert (ran.execution["status"], ran.execution["error"]) == ("FAILED", "States.ResultWriterFailed")


def test_unknown_transformation_is_an_error(map_over):
    ran = map_over([1], PASS, writer_config={"Transformation": "PIVOT"})
    assert (ran.execution["status"], ran.execution["error"], ran.keys) == ("FAILED", "States.Runtime", [])


@pytest.fixture
def function(cloud):
    """Create functions from source code, and delete them after the test."""
    lambdas = cloud.client("lambda")
    names = []

    def create(source):
        names.append(f"test-{uuid.uuid4().hex}")
        lambdas.create_function(
            FunctionName=names[-1],
            Runtime="python3.13",
            Role=ROLE,
            Handler="index.handler",
            Code={"ZipFile": zipped("index.py", source)},
        )
        return names[-1]

    yield create
    for name in names:
        lambdas.delete_function(FunctionName=name)


def test_failed_task_has_the_name_of_the_exception(execute, function):
    name = function("class Busy(Exception): pass\ndef handler(event, context): raise Busy('wait')")
    execution = execute(
        {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"FunctionName": name}}, {}
    )
    assert execution["error"] == "Busy"
    assert json.loads(execution["cause"])["errorMessage"] == "wait"


def test_function_keeps_its_memory_after_an_exception(cloud, function):
    name = function("calls = []\ndef handler(event, context): calls.append(event); raise ValueError(len(calls))")
    lambdas = cloud.client("lambda")
    answers = [json.loads(lambdas.invoke(FunctionName=name, Payload=b"{}")["Payload"].read()) for _ in range(2)]
    assert [(each["errorType"], each["errorMessage"]) for each in answers] == [("ValueError", "1"), ("ValueError", "2")]


def test_throttled_task_has_the_error_name_of_aws(cloud, execute, function):
    name = function("def handler(event, context): pass")
    cloud.client("lambda").put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    execution = execute(
        {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"FunctionName": name}}, {}
    )
    assert execution["error"] == "Lambda.TooManyRequestsException"


def test_stack_reserves_concurrency_for_its_function(cloud):
    stacks, lambdas = cloud.client("cloudformation"), cloud.client("lambda")
    properties = {
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Role": ROLE,
        "Code": {"ZipFile": "def handler(event, context): pass"},
    }
    name = f"test-{uuid.uuid4().hex}"
    for operation, reserved in (("create", 3), ("update", 2)):
        properties["ReservedConcurrentExecutions"] = reserved
        template = {"Resources": {"Function": {"Type": "AWS::Lambda::Function", "Properties": properties}}}
        getattr(stacks, f"{operation}_stack")(StackName=name, TemplateBody=json.dumps(template))
        stacks.get_waiter(f"stack_{operation}_complete").wait(StackName=name, WaiterConfig={"Delay": 0.1})
        (resource,) = stacks.describe_stack_resources(StackName=name)["StackResources"]
        concurrency = lambdas.get_function_concurrency(FunctionName=resource["PhysicalResourceId"])
        assert concurrency["ReservedConcurrentExecutions"] == reserved
    stacks.delete_stack(StackName=name)


def test_stack_can_have_an_alarm_on_an_expression(cloud):
    stacks, topic = cloud.client("cloudformation"), f"arn:aws:sns:{REGION}:{ACCOUNT}:test"
    metric = {"Namespace": "Test", "MetricName": "Failures"}
    properties = {
        "AlarmName": f"test-{uuid.uuid4().hex}",
        "Metrics": [
            {"Id": "share", "Expression": "100 * failures"},
            {"Id": "failures", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Sum"}, "ReturnData": False},
        ],
        "ComparisonOperator": "GreaterThanThreshold",
        "EvaluationPeriods": 1,
        "Threshold": 5,
        "AlarmActions": [topic],
    }
    template = {"Resources": {"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}}}
    name = properties["AlarmName"]
    stacks.create_stack(StackName=name, TemplateBody=json.dumps(template))
    stacks.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 0.1})
    (alarm,) = cloud.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert (alarm["AlarmActions"], alarm["Threshold"], alarm["StateValue"]) == ([topic], 5, "INSUFFICIENT_DATA")
    stacks.delete_stack(StackName=name)


def test_stack_can_have_an_alarm_on_logs(cloud):
    stacks, topic = cloud.client("cloudformation"), f"arn:aws:sns:{REGION}:{ACCOUNT}:test"
    properties = {
        "AlarmName": f"test-{uuid.uuid4().hex}",
        "ScheduledQueryConfiguration": {
            "QueryString": "filter ispresent(caller)",
            "AggregationExpression": "count_distinct(image) by caller",
            "LogGroupIdentifiers": ["test"],
            "ScheduleConfiguration": {"ScheduleExpression": "rate(15 minutes)", "StartTimeOffset": 3600},
            "ScheduledQueryRoleARN": f"arn:aws:iam::{ACCOUNT}:role/test",
        },
        "ComparisonOperator": "GreaterThanThreshold",
        "QueryResultsToEvaluate": 1,
        "QueryResultsToAlarm": 1,
        "Threshold": 5,
        "AlarmActions": [topic],
    }
    name = properties["AlarmName"]
    for operation, threshold in (("create", 5), ("update", 6)):
        alarm = {"Type": "AWS::CloudWatch::LogAlarm", "Properties": {**properties, "Threshold": threshold}}
        template = {"Resources": {"Alarm": alarm}}
        getattr(stacks, f"{operation}_stack")(StackName=name, TemplateBody=json.dumps(template))
        stacks.get_waiter(f"stack_{operation}_complete").wait(StackName=name, WaiterConfig={"Delay": 0.1})
        (found,) = cloud.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
        assert (found["AlarmActions"], found["Threshold"]) == ([topic], threshold)
        assert found["StateValue"] == "INSUFFICIENT_DATA"
    stacks.delete_stack(StackName=name)
    stacks.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 0.1})
    assert not cloud.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]


def test_function_uses_packages_of_this_machine_instead_of_its_layer(cloud, function):
    lambdas = cloud.client("lambda")
    layer = lambdas.publish_layer_version(
        LayerName=f"test-{uuid.uuid4().hex}",
        Content={"ZipFile": zipped("python/numpy/__init__.py", "raise ImportError('for another machine')")},
    )
    name = function(
        "import numpy, imagecodecs\ndef handler(event, context): return [numpy.__name__, imagecodecs.__name__]"
    )
    lambdas.update_function_configuration(FunctionName=name, Layers=[layer["LayerVersionArn"]])
    answer = lambdas.invoke(FunctionName=name)
    assert json.loads(answer["Payload"].read()) == ["numpy", "imagecodecs"]


@pytest.fixture
def upload(s3, bucket):
    """Upload an object in parts with a full-object checksum; return its key."""

    def send(content, **completion):
        target = {"Bucket": bucket, "Key": uuid.uuid4().hex}
        kind = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        target["UploadId"] = s3.create_multipart_upload(**target, **kind)["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(content), PART_BYTES), start=1):
            body = content[start : start + PART_BYTES]
            sent = s3.upload_part(**target, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32")
            parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC32": sent["ChecksumCRC32"]})
        s3.complete_multipart_upload(
            **target, MultipartUpload={"Parts": parts}, ChecksumType="FULL_OBJECT", **completion
        )
        return target["Key"]

    return send


def test_multipart_upload_can_have_a_checksum_of_the_whole_object(s3, bucket, upload):
    content = bytes(PART_BYTES) + b"the end"
    head = s3.head_object(Bucket=bucket, Key=upload(content), ChecksumMode="ENABLED")
    assert (head["ChecksumType"], head["ChecksumCRC32"]) == ("FULL_OBJECT", crc32(content))


def test_multipart_upload_with_a_wrong_checksum_is_rejected(s3, upload):
    with pytest.raises(s3.exceptions.ClientError, match="BadDigest"):
        upload(bytes(PART_BYTES) + b"the end", ChecksumCRC32=crc32(b"something else"))


def crc32(content):
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


def test_policy_condition_on_the_event_source_is_enforced():
    with LocalCloud(enforced=True) as enforced:
        iam = enforced.client("iam")
        iam.create_user(UserName="sender")
        statement = {
            "Effect": "Allow",
            "Action": "events:PutEvents",
            "Resource": "*",
            "Condition": {"StringEquals": {"events:source": "framegate"}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="sender", PolicyName="send", PolicyDocument=policy)
        key = iam.create_access_key(UserName="sender")["AccessKey"]
        events = boto3.client(
            "events",
            endpoint_url=enforced.endpoint,
            region_name=REGION,
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
            verify=str(enforced.ca_bundle),
        )
        entry = {"DetailType": "Anything", "Detail": "{}"}
        assert events.put_events(Entries=[{"Source": "framegate", **entry}])["FailedEntryCount"] == 0
        with pytest.raises(ClientError, match="AccessDenied"):
            events.put_events(Entries=[{"Source": "framegate", **entry}, {"Source": "other", **entry}])
