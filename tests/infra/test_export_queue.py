"""The export's queue: what goes there, how long a message is worked on, and where it ends when nothing helps."""

from __future__ import annotations

import pytest

from tests.infra.cloudformation import logical_id, properties, text
from tests.infra.project import DATASTORE_A, DATASTORE_B

FOURTEEN_DAYS = 14 * 24 * 60 * 60


@pytest.fixture(scope="module")
def queue(template):
    return queue_of(template)


@pytest.fixture(scope="module")
def dead_letters(template):
    name = logical_id(queue_of(template)[1]["RedrivePolicy"]["deadLetterTargetArn"])
    return name, properties(template, "AWS::SQS::Queue")[name]


def queue_of(template):
    (found,) = (
        (name, each) for name, each in properties(template, "AWS::SQS::Queue").items() if "RedrivePolicy" in each
    )
    return found


def rules(template):
    """The rules of a template that listen to image sets, by their detail types."""
    return {
        tuple(each["EventPattern"]["detail-type"]): each
        for each in properties(template, "AWS::Events::Rule").values()
        if each["EventPattern"]["source"] != ["aws.s3"]
    }


def test_queue_hears_of_image_sets_of_the_listed_data_stores_that_changed_or_went(template):
    found = rules(template)

    assert found.keys() == {("Image Set Created", "Image Set Updated", "Image Set Copied"), ("Image Set Deleted",)}
    for detail_types, rule in found.items():
        assert rule["EventPattern"] == {
            "source": ["aws.medical-imaging"],
            "detail-type": list(detail_types),
            "detail": {"datastoreId": [DATASTORE_A, DATASTORE_B]},
        }
        assert rule.get("State", "ENABLED") == "ENABLED"


def test_events_go_to_the_queue_and_what_cannot_be_delivered_to_the_dead_letters(template, queue, dead_letters):
    for rule in rules(template).values():
        (target,) = rule["Targets"]
        assert logical_id(target["Arn"]) == queue[0]
        assert logical_id(target["DeadLetterConfig"]["Arn"]) == dead_letters[0]
        assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 24 * 60 * 60, "MaximumRetryAttempts": 185}
        # The whole event: what is in `detail` decides, and the handler reads it.
        assert not {"Input", "InputPath", "InputTransformer"} & target.keys()


@pytest.mark.parametrize(
    ("events", "listened_to"),
    [
        ("Created", ["Image Set Created", "Image Set Updated", "Image Set Copied"]),
        ("Copied,Updated", ["Image Set Updated", "Image Set Copied"]),
        ("none", ["Image Set Updated", "Image Set Copied"]),
    ],
)
def test_new_versions_and_deletions_are_heard_of_whatever_is_exported(synthesize, events, listened_to):
    assert rules(synthesize(export_events=events)).keys() == {tuple(listened_to), ("Image Set Deleted",)}


def test_source_of_events_can_be_another_one_where_no_aws_is(synthesize):
    found = rules(synthesize(event_source="local.medical-imaging")).values()

    assert [each["EventPattern"]["source"] for each in found] == [["local.medical-imaging"]] * 2


@pytest.mark.parametrize("seconds", ["300", "900"])
def test_message_stays_hidden_six_times_as_long_as_an_invocation_may_take(synthesize, seconds):
    _, found = queue_of(synthesize(export_timeout_seconds=seconds))

    assert found["VisibilityTimeout"] == 6 * int(seconds)


def test_message_is_tried_eight_times_and_then_kept_for_two_weeks(queue, dead_letters):
    assert queue[1]["RedrivePolicy"]["maxReceiveCount"] == 8
    assert queue[1]["MessageRetentionPeriod"] == FOURTEEN_DAYS
    assert dead_letters[1]["MessageRetentionPeriod"] == FOURTEEN_DAYS
    assert "RedrivePolicy" not in dead_letters[1]


def test_messages_are_encrypted_with_the_stacks_own_key(resources):
    (key,) = resources("AWS::KMS::Key")

    assert {text(each["KmsMasterKeyId"]) for each in resources("AWS::SQS::Queue").values()} == {f"${{{key}.Arn}}"}


def test_queues_are_outputs(template, queue, dead_letters):
    outputs = template.to_json()["Outputs"]

    assert text(outputs["ExportQueueUrl"]["Value"]) == f"${{{queue[0]}}}"
    assert text(outputs["ExportDeadLetterQueueUrl"]["Value"]) == f"${{{dead_letters[0]}}}"
