"""The export queue: the rules that send to it, its timeouts, and its dead-letter queue."""

from __future__ import annotations

import pytest

from tests.infra.cloudformation import logical_id, properties, queue_id, text
from tests.infra.project import DATASTORE_A, DATASTORE_B

FOURTEEN_DAYS = 14 * 24 * 60 * 60


@pytest.fixture(scope="module")
def queue(template):
    return queue_of(template)


@pytest.fixture(scope="module")
def dead_letters(template):
    name = logical_id(queue_of(template)[1]["RedrivePolicy"]["deadLetterTargetArn"])
    return name, properties(template, "AWS::SQS::Queue")[name]


def queue_of(template, construct=""):
    queues = properties(template, "AWS::SQS::Queue")
    name = queue_id(queues, construct)
    return name, queues[name]


def rules(template):
    """Return the rules for events of image sets, by their detail types."""
    return {
        tuple(each["EventPattern"]["detail-type"]): each
        for each in properties(template, "AWS::Events::Rule").values()
        if each["EventPattern"]["source"] not in (["aws.s3"], ["aws.kms"])
    }


def test_rules_match_changed_and_deleted_image_sets_of_the_listed_data_stores(template):
    found = rules(template)

    assert found.keys() == {("Image Set Created", "Image Set Updated", "Image Set Copied"), ("Image Set Deleted",)}
    for detail_types, rule in found.items():
        assert rule["EventPattern"] == {
            "source": ["aws.medical-imaging"],
            "detail-type": list(detail_types),
            "detail": {"datastoreId": [DATASTORE_A, DATASTORE_B]},
        }
        assert rule.get("State", "ENABLED") == "ENABLED"


def test_rules_deliver_to_the_export_queue_with_a_dead_letter_queue(template, queue, dead_letters):
    for rule in rules(template).values():
        (target,) = rule["Targets"]
        assert logical_id(target["Arn"]) == queue[0]
        assert logical_id(target["DeadLetterConfig"]["Arn"]) == dead_letters[0]
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 24 * 60 * 60, "MaximumRetryAttempts": 185}
        # The function needs the whole event.
        assert not {"Input", "InputPath", "InputTransformer"} & target.keys()


@pytest.mark.parametrize(
    ("events", "detail_types"),
    [
        ("Created", ["Image Set Created", "Image Set Updated", "Image Set Copied"]),
        ("Copied,Updated", ["Image Set Updated", "Image Set Copied"]),
        ("none", ["Image Set Updated", "Image Set Copied"]),
    ],
)
def test_rules_match_new_versions_and_deletions_whatever_export_events_says(synthesize, events, detail_types):
    assert rules(synthesize(export_events=events)).keys() == {tuple(detail_types), ("Image Set Deleted",)}


def test_event_source_is_configurable(synthesize):
    found = rules(synthesize(event_source="local.medical-imaging")).values()

    assert [each["EventPattern"]["source"] for each in found] == [["local.medical-imaging"]] * 2


@pytest.mark.parametrize("construct", ["", "DeferredStores"])
@pytest.mark.parametrize("seconds", ["300", "900"])
def test_visibility_timeout_is_six_times_the_function_timeout(synthesize, seconds, construct):
    _, found = queue_of(synthesize(export_timeout_seconds=seconds), construct)

    assert found["VisibilityTimeout"] == 6 * int(seconds)


def test_message_is_received_eight_times_and_then_kept_for_two_weeks(queue, dead_letters):
    assert queue[1]["RedrivePolicy"]["maxReceiveCount"] == 8
    assert queue[1]["MessageRetentionPeriod"] == FOURTEEN_DAYS
    assert dead_letters[1]["MessageRetentionPeriod"] == FOURTEEN_DAYS
    assert "RedrivePolicy" not in dead_letters[1]


def test_queues_are_encrypted_with_the_stack_key(resources):
    (key,) = resources("AWS::KMS::Key")

    assert {text(each["KmsMasterKeyId"]) for each in resources("AWS::SQS::Queue").values()} == {f"${{{key}.Arn}}"}


def test_queues_are_outputs(template, queue, dead_letters):
    outputs = template.to_json()["Outputs"]

    assert text(outputs["ExportQueueUrl"]["Value"]) == f"${{{queue[0]}}}"
    assert text(outputs["ExportDeadLetterQueueUrl"]["Value"]) == f"${{{dead_letters[0]}}}"


def test_deferred_stores_have_queues_of_their_own(template, queue, dead_letters):
    name, found = queue_of(template, "DeferredStores")
    target = logical_id(found["RedrivePolicy"]["deadLetterTargetArn"])
    outputs = template.to_json()["Outputs"]

    assert len({name, target, queue[0], dead_letters[0]}) == 4
    assert found["RedrivePolicy"]["maxReceiveCount"] == 8
    assert text(outputs["DeferredStoreQueueUrl"]["Value"]) == f"${{{name}}}"
    assert text(outputs["DeferredStoreDeadLetterQueueUrl"]["Value"]) == f"${{{target}}}"


def test_no_rule_sends_to_the_deferred_store_queue(template):
    name, _ = queue_of(template, "DeferredStores")
    targets = [target for rule in properties(template, "AWS::Events::Rule").values() for target in rule["Targets"]]

    assert name not in {logical_id(target["Arn"]) for target in targets if "Fn::GetAtt" in target["Arn"]}
