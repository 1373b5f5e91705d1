"""The table function, its queue and the catalog: off by default, and with least privilege."""

from __future__ import annotations

import json

import pytest

from framegate.bucket_layout import partition_prefix
from framegate.table_schema import SCHEMA, TABLES, columns_of
from tests.infra import cloudformation
from tests.infra.cloudformation import frame_bucket, listed, properties, role, statements, text
from tests.infra.project import DATASTORE_A, DATASTORE_B

KEYS = {"dataset_tables": "true", "dataset_catalog": "true", "dataset_columns": "PatientID", "export_output": "dicom"}
STORES = (DATASTORE_A, DATASTORE_B)


@pytest.fixture(scope="module")
def tabled(synthesize):
    """The template of a deployment with tables and catalog."""
    return synthesize(**KEYS)


@pytest.fixture(scope="module")
def bucket(tabled):
    name, _ = frame_bucket(tabled)
    return name


def work_queues(template):
    """The table queue, without its dead-letter queue."""
    queues = properties(template, "AWS::SQS::Queue").items()
    return {name: each for name, each in queues if name.startswith("TableQueue") and "RedrivePolicy" in each}


def test_default_template_has_no_tables(template):
    for resource_type in ("AWS::Glue::Database", "AWS::Glue::Table", "AWS::Athena::WorkGroup"):
        assert properties(template, resource_type) == {}
    assert "Table" not in "".join(template.to_json()["Resources"])


def test_tables_add_resources_and_change_none(template, synthesize):
    plain, tabled = template.to_json()["Resources"], synthesize(dataset_tables="true").to_json()["Resources"]
    changed = {name for name in plain if plain[name] != tabled.get(name)}
    # The dashboard shows the further alarms, and their topic's policy names them.
    assert {plain[name]["Type"] for name in changed} <= {"AWS::CloudWatch::Dashboard", "AWS::SNS::TopicPolicy"}
    assert {name.partition("Table")[0] for name in set(tabled) - set(plain)} <= {"", "Alarms"}


def test_table_function_has_exactly_these_permissions(tabled, bucket):
    found = role(tabled, cloudformation.function(tabled, "tables")["Role"])
    allowed = {
        sid: (sorted(listed(each["Action"])), sorted(text(resource) for resource in listed(each["Resource"])))
        for sid, each in statements(found).items()
    }
    logs, traces = allowed.pop("WriteLogs"), allowed.pop("WriteTraces")
    (key,) = properties(tabled, "AWS::KMS::Key")
    (queue,) = work_queues(tabled)
    local = "${AWS::Region}:${AWS::AccountId}"
    assert allowed == {
        "ReadMetadata": (
            ["medical-imaging:GetImageSet", "medical-imaging:GetImageSetMetadata"],
            sorted(f"arn:${{AWS::Partition}}:medical-imaging:{local}:datastore/{each}/imageset/*" for each in STORES),
        ),
        "ReadManifests": (["s3:GetObject"], sorted(f"${{{bucket}.Arn}}/exports/{each}/*" for each in STORES)),
        "WriteTables": (
            ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"],
            [f"${{{bucket}.Arn}}/tables/*"],
        ),
        "ListObjects": (["s3:ListBucket"], [f"${{{bucket}.Arn}}"]),
        "WorkQueueOff": (
            [
                "sqs:ChangeMessageVisibility",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ReceiveMessage",
                "sqs:SendMessage",
            ],
            [f"${{{queue}.Arn}}"],
        ),
        "EncryptFrames": (["kms:Decrypt", "kms:GenerateDataKey"], [f"${{{key}.Arn}}"]),
    }
    assert (logs[0], traces[1]) == (["logs:CreateLogStream", "logs:PutLogEvents"], ["*"])


def test_no_other_role_reaches_the_tables(tabled):
    reaching = [
        name
        for name, found in properties(tabled, "AWS::IAM::Role").items()
        if "/tables/" in json.dumps(found) and "TableFunction" not in name
    ]
    assert reaching == []


def test_rules_send_manifests_and_removals_to_the_queue(tabled, bucket):
    rules = {
        rule["EventPattern"]["detail-type"][0]: rule
        for name, rule in properties(tabled, "AWS::Events::Rule").items()
        if name.startswith("TableQueue")
    }
    manifests = [{"wildcard": f"exports/{each}/*/manifest.jsonl"} for each in sorted(STORES, reverse=True)]
    files = [{"prefix": f"{kind}/{each}/"} for kind in ("frames", "instances") for each in STORES]
    for detail_type, expected in {"Object Created": manifests, "Object Deleted": [*manifests, *files]}.items():
        detail = rules[detail_type]["EventPattern"]["detail"]
        assert detail["bucket"]["name"] == [{"Ref": bucket}]
        assert sorted(map(str, detail["object"]["key"])) == sorted(map(str, expected))
        # Amazon EventBridge user guide, "Amazon EventBridge quotas".
        assert len(json.dumps(rules[detail_type]["EventPattern"])) < 2048
        (target,) = rules[detail_type]["Targets"]
        assert {"Arn", "DeadLetterConfig", "RetryPolicy"} <= target.keys()


def test_only_these_rules_may_send_to_the_queue(tabled):
    policies = [
        each for name, each in properties(tabled, "AWS::SQS::QueuePolicy").items() if name.startswith("TableQueue")
    ]
    assert len(policies) == 2
    for policy in policies:
        (allowing,) = [each for each in policy["PolicyDocument"]["Statement"] if each["Effect"] == "Allow"]
        assert allowing["Principal"] == {"Service": "events.amazonaws.com"}
        assert allowing["Action"] == "sqs:SendMessage"
        assert len(allowing["Condition"]["ArnEquals"]["aws:SourceArn"]) == 2


def test_batches_are_collected_and_fail_in_part(tabled):
    function = cloudformation.function(tabled, "tables")
    (mapping,) = [
        each
        for name, each in properties(tabled, "AWS::Lambda::EventSourceMapping").items()
        if name.startswith("TableFunction")
    ]
    assert (mapping["BatchSize"], mapping["FunctionResponseTypes"]) == (1000, ["ReportBatchItemFailures"])
    assert 0 < mapping["MaximumBatchingWindowInSeconds"] <= 60
    assert mapping["ScalingConfig"]["MaximumConcurrency"] == function["ReservedConcurrentExecutions"] == 2
    (queue,) = work_queues(tabled).values()
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 8


@pytest.mark.parametrize("name", ["TableDeadLetters", "TableErrors"])
def test_alarms_watch_the_function(tabled, name):
    alarms = {each["AlarmName"]: each for each in properties(tabled, "AWS::CloudWatch::Alarm").values()}
    assert alarms[f"Framegate-{name}"]["AlarmActions"]


def test_catalog_describes_the_files(tabled, bucket):
    (database,) = properties(tabled, "AWS::Glue::Database").values()
    assert database["DatabaseInput"]["Name"] == "framegate"
    tables = {
        each["TableInput"]["Name"]: each["TableInput"] for each in properties(tabled, "AWS::Glue::Table").values()
    }
    assert set(tables) == set(TABLES)
    for table, found in tables.items():
        columns = [(each["Name"], each["Type"]) for each in found["StorageDescriptor"]["Columns"]]
        assert columns == [(each.name, each.type) for each in columns_of(table, ["PatientID"])]
        assert ("patient_id", "string") in columns
        parameters = found["Parameters"]
        assert [each["Name"] for each in found["PartitionKeys"]] == ["datastore_id", "month"]
        assert sorted(parameters["projection.datastore_id.values"].split(",")) == sorted(STORES)
        template = (
            text(parameters["storage.location.template"]).replace("${datastore_id}", "D").replace("${month}", "M")
        )
        assert template == f"s3://${{{bucket}}}/{partition_prefix(SCHEMA, table, 'D', 'M')}"


def test_query_results_are_encrypted_and_expire(tabled, bucket):
    (workgroup,) = properties(tabled, "AWS::Athena::WorkGroup").values()
    configuration = workgroup["WorkGroupConfiguration"]
    assert configuration["EnforceWorkGroupConfiguration"] is True
    assert configuration["BytesScannedCutoffPerQuery"] == 100 * 2**30
    result = configuration["ResultConfiguration"]
    assert text(result["OutputLocation"]) == f"s3://${{{bucket}}}/query-results/"
    assert result["EncryptionConfiguration"]["EncryptionOption"] == "SSE_KMS"
    _, found = frame_bucket(tabled)
    rules = {rule["Id"]: rule for rule in found["LifecycleConfiguration"]["Rules"]}
    assert (rules["ExpireQueryResults"]["Prefix"], rules["ExpireQueryResults"]["ExpirationInDays"]) == (
        "query-results/",
        7,
    )


def test_tables_never_expire(synthesize):
    _, found = frame_bucket(synthesize(dataset_tables="true", frame_retention_days="30"))
    assert [rule for rule in found["LifecycleConfiguration"]["Rules"] if "tables" in rule.get("Prefix", "")] == []
