"""The alarms: their metrics and thresholds, the topic that they publish to, and their descriptions."""

from __future__ import annotations

import re

import pytest
from botocore.session import get_session

from framegate.observability import Metric
from tests.infra.cloudformation import function, listed, logical_id, only, properties, queue_id, statements, text
from tests.infra.project import PROJECT

NAMES = [
    "ServerErrors",
    "SlowAnswers",
    "Throttling",
    "OldMessages",
    "DeadLetters",
    "DeferredStoreDeadLetters",
    "FailedExports",
    "FailedRequests",
    "ExportErrors",
    "RequestErrors",
    "Unauthorized",
    "Forbidden",
    "RefusedDataStores",
]
LOG_ALARM = "Framegate-UnusualReads"


@pytest.fixture(scope="module")
def alarms(resources):
    """All alarms by name, without the stack name."""
    return {each["AlarmName"].removeprefix("Framegate-"): each for each in resources("AWS::CloudWatch::Alarm").values()}


@pytest.fixture(scope="module")
def headings():
    """The sections of the runbook."""
    return re.findall(r"^#+ (.+)$", (PROJECT / "docs" / "operations.md").read_text(), re.MULTILINE)


def alarm_topic(resources):
    """Return the logical id of the topic of alarms, which the key encrypts."""
    (topic,) = (name for name, each in resources("AWS::SNS::Topic").items() if "KmsMasterKeyId" in each)
    return topic


def topic_policy(resources, topic):
    """Return the statements of the policy of a topic by their ``Sid``."""
    policies = resources("AWS::SNS::TopicPolicy").values()
    (policy,) = (each for each in policies if [logical_id(named) for named in each["Topics"]] == [topic])
    return {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}


def expression(alarm):
    (found,) = (each for each in alarm["Metrics"] if "Expression" in each)
    return found["Expression"]


def metrics(alarm):
    """The metrics of an alarm by their ids in its expression."""
    return {
        each["Id"]: (
            each["MetricStat"]["Metric"]["Namespace"],
            each["MetricStat"]["Metric"]["MetricName"],
            each["MetricStat"]["Stat"],
            each["MetricStat"]["Period"],
        )
        for each in alarm["Metrics"]
        if "MetricStat" in each
    }


def test_message_of_half_the_retention_period_raises_an_alarm(alarms, resources):
    alarm = alarms["OldMessages"]
    queues = resources("AWS::SQS::Queue")
    queue = queues[queue_id(queues)]

    assert (alarm["MetricName"], alarm["Statistic"]) == ("ApproximateAgeOfOldestMessage", "Maximum")
    assert alarm["Threshold"] == queue["MessageRetentionPeriod"] / 2


def test_stack_has_these_alarms(alarms):
    assert alarms.keys() == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_description_says_what_to_do_and_names_a_section_of_the_runbook(alarms, headings, name):
    description = text(alarms[name]["AlarmDescription"])
    runbook, section = re.search(r" \((\S+), (.+)\)$", description).groups()

    assert len(description) <= 1024
    assert re.search(r"\b(Look up|See|Read) ", description)
    assert (PROJECT / runbook).is_file()
    assert section in headings


@pytest.mark.parametrize("name", NAMES)
def test_missing_data_raises_no_alarm(alarms, name):
    assert alarms[name]["TreatMissingData"] == "notBreaching"
    assert alarms[name]["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"


@pytest.mark.parametrize("name", NAMES)
def test_start_and_end_of_each_alarm_go_to_the_topic(alarms, resources, name):
    topic = alarm_topic(resources)

    assert [text(each) for each in alarms[name]["AlarmActions"]] == [f"${{{topic}}}"]
    assert [text(each) for each in alarms[name]["OKActions"]] == [f"${{{topic}}}"]
    assert alarms[name].get("ActionsEnabled", True) is True


def test_five_percent_of_failed_requests_raise_an_alarm_from_five_failures_on(alarms):
    alarm = alarms["ServerErrors"]

    assert expression(alarm) == "IF(failed >= 5, 100 * failed / requests, 0)"
    assert metrics(alarm) == {
        "failed": ("AWS/ApiGateway", "5XXError", "Sum", 300),
        "requests": ("AWS/ApiGateway", "Count", "Sum", 300),
    }
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (5, 1)


def test_slow_99th_percentile_raises_an_alarm_after_three_of_five_minutes(alarms):
    alarm = alarms["SlowAnswers"]

    assert expression(alarm) == "IF(requests >= 20, latency, 0)"
    assert metrics(alarm) == {
        "requests": ("AWS/ApiGateway", "Count", "Sum", 60),
        "latency": ("AWS/ApiGateway", "Latency", "p99", 60),
    }
    assert (alarm["Threshold"], alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]) == (10_000, 3, 5)


def test_throttling_by_the_api_or_lambda_raises_an_alarm_after_three_periods(alarms):
    alarm = alarms["Throttling"]

    assert expression(alarm) == "FILL(refused, 0) + FILL(throttled, 0) + FILL(undrawn, 0)"
    assert metrics(alarm) == {
        "refused": ("Framegate", "ThrottledRequests", "Sum", 300),
        "throttled": ("AWS/Lambda", "Throttles", "Sum", 300),
        "undrawn": ("AWS/Lambda", "Throttles", "Sum", 300),
    }
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (10, 3)


@pytest.mark.parametrize(("name", "construct"), [("DeadLetters", ""), ("DeferredStoreDeadLetters", "DeferredStores")])
def test_first_dead_letter_raises_an_alarm_that_says_how_to_send_it_back(alarms, resources, name, construct):
    alarm = alarms[name]
    queues = resources("AWS::SQS::Queue")
    queue = queues[queue_id(queues, construct)]
    dead_letters = logical_id(queue["RedrivePolicy"]["deadLetterTargetArn"])
    (dimension,) = alarm["Dimensions"]

    assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/SQS", "ApproximateNumberOfMessagesVisible")
    assert text(dimension["Value"]) == f"${{{dead_letters}.QueueName}}"
    assert (alarm["Statistic"], alarm["Period"], alarm["Threshold"]) == ("Maximum", 60, 1)
    assert f"start-message-move-task --source-arn ${{{dead_letters}.Arn}} (" in text(alarm["AlarmDescription"])


def test_incomplete_export_raises_an_alarm(alarms):
    alarm = alarms["FailedExports"]

    assert (alarm["Namespace"], alarm["MetricName"]) == ("Framegate", Metric.EXPORTS_FAILED)
    assert alarm["Dimensions"] == [{"Name": "service", "Value": "Framegate"}]
    assert (alarm["Statistic"], alarm["Threshold"]) == ("Sum", 1)


@pytest.mark.parametrize(
    ("name", "handler", "periods", "datapoints"),
    [("ExportErrors", "export", 4, 1), ("RequestErrors", "export_requests", 6, 3)],
)
def test_errors_of_a_function_that_exports_raise_an_alarm(alarms, template, name, handler, periods, datapoints):
    alarm = alarms[name]
    (dimension,) = alarm["Dimensions"]

    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("AWS/Lambda", "Errors", "Sum")
    assert dimension["Name"] == "FunctionName"
    assert properties(template, "AWS::Lambda::Function")[logical_id(dimension["Value"])] == function(template, handler)
    assert (alarm["Threshold"], alarm["Period"]) == (1, 300)
    assert (alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]) == (periods, datapoints)


@pytest.mark.parametrize(("name", "handler"), [("ExportErrors", "export"), ("RequestErrors", "export_requests")])
def test_alarm_on_errors_sees_an_invocation_that_ran_as_long_as_it_could(synthesize, name, handler):
    """Lambda dates an error to the start of its invocation, so the alarm must look back further than the timeout."""
    template = synthesize(export_timeout_seconds="900")
    (alarm,) = (
        each
        for each in properties(template, "AWS::CloudWatch::Alarm").values()
        if each["AlarmName"] == f"Framegate-{name}"
    )

    assert alarm["EvaluationPeriods"] * alarm["Period"] > function(template, handler)["Timeout"]


def test_failed_execution_raises_an_alarm(alarms, resources):
    (machine,) = resources("AWS::StepFunctions::StateMachine")
    alarm = alarms["FailedRequests"]
    (dimension,) = alarm["Dimensions"]

    assert (alarm["MetricName"], alarm["Statistic"], alarm["Threshold"]) == ("ExecutionsFailed", "Sum", 1)
    assert text(dimension["Value"]) == f"${{{machine}}}"


def test_alarms_carry_the_stack_name(synthesize):
    template = synthesize(export_events="none", stack_name="F" * 128)
    found = properties(template, "AWS::CloudWatch::Alarm").values()
    (failed,) = (each for each in found if each.get("MetricName") == Metric.EXPORTS_FAILED)

    assert {each["AlarmName"] for each in found} == {f"{'F' * 128}-{name}" for name in NAMES}
    assert failed["Dimensions"] == [{"Name": "service", "Value": "F" * 128}]


def test_only_alarms_of_the_stack_may_publish_to_the_topic(resources):
    _, statement = topic_policy(resources, alarm_topic(resources)).values()
    condition = statement["Condition"]
    *of_metrics, of_logs = condition["ArnEquals"]["aws:SourceArn"]

    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert listed(statement["Action"]) == ["sns:Publish"]
    assert condition["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    assert {logical_id(arn) for arn in of_metrics} == resources("AWS::CloudWatch::Alarm").keys()
    assert text(of_logs) == (
        f"arn:${{AWS::Partition}}:cloudwatch:${{AWS::Region}}:${{AWS::AccountId}}:alarm:{LOG_ALARM}"
    )


def test_each_topic_has_a_subscription_only_with_an_address(template, synthesize):
    with_address = synthesize(alarm_email="operations@example.org")
    subscriptions = properties(with_address, "AWS::SNS::Subscription").values()

    template.resource_count_is("AWS::SNS::Subscription", 0)
    assert {(each["Protocol"], each["Endpoint"]) for each in subscriptions} == {("email", "operations@example.org")}
    assert {logical_id(each["TopicArn"]) for each in subscriptions} == properties(
        with_address, "AWS::SNS::Topic"
    ).keys()


def test_both_topics_are_outputs(template, resources):
    outputs = template.to_json()["Outputs"]
    topics = {output: logical_id(outputs[output]["Value"]) for output in ("AlarmTopicArn", "KeyTopicArn")}

    assert topics["AlarmTopicArn"] == alarm_topic(resources)
    assert set(topics.values()) == resources("AWS::SNS::Topic").keys()


@pytest.mark.parametrize(
    ("name", "metric", "threshold"),
    [("Unauthorized", "UnauthorizedRequests", 100), ("Forbidden", "ForbiddenRequests", 100)],
)
def test_burst_of_refused_credentials_raises_an_alarm(alarms, name, metric, threshold):
    alarm = alarms[name]

    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("Framegate", metric, "Sum")
    assert alarm["Dimensions"] == [{"Name": "service", "Value": "Framegate"}]
    assert (alarm["Threshold"], alarm["Period"], alarm["EvaluationPeriods"]) == (threshold, 300, 1)


def test_refused_data_stores_raise_an_alarm_whoever_refuses_them(alarms):
    alarm = alarms["RefusedDataStores"]
    (refused,) = (each for each in alarm["Metrics"] if each["Id"] == "refused")

    assert expression(alarm) == "FILL(denied, 0) + FILL(refused, 0)"
    assert metrics(alarm) == {
        "denied": ("Framegate", "DeniedRequests", "Sum", 300),
        "refused": ("Framegate", Metric.ERRORS, "Sum", 300),
    }
    assert {"Name": "status", "Value": "403"} in refused["MetricStat"]["Metric"]["Dimensions"]
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (20, 1)


def test_principal_that_reads_more_image_sets_in_an_hour_raises_an_alarm(synthesize):
    template = synthesize(unusual_image_sets_per_hour="250")
    alarm = only(properties(template, "AWS::CloudWatch::LogAlarm"))
    query = alarm["ScheduledQueryConfiguration"]
    schedule = query["ScheduleConfiguration"]

    assert alarm["AlarmName"] == LOG_ALARM
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("GreaterThanThreshold", 250)
    assert (alarm["QueryResultsToAlarm"], alarm["QueryResultsToEvaluate"]) == (1, 1)
    assert alarm["TreatMissingData"] == "notBreaching"
    assert query["AggregationExpression"] == "count_distinct(imageSetId) by principal"
    assert query["QueryString"] == "filter ispresent(principal) and ispresent(imageSetId) and status < 400"
    assert schedule["StartTimeOffset"] - schedule["EndTimeOffset"] == 3600
    assert schedule["ScheduleExpression"] == "rate(15 minutes)"


def test_log_alarm_publishes_to_the_topic_and_names_a_section_of_the_runbook(resources, headings):
    alarm = only(resources("AWS::CloudWatch::LogAlarm"))
    topic = alarm_topic(resources)
    section = re.search(r" \(docs/operations\.md, (.+)\)$", alarm["AlarmDescription"])[1]

    assert [text(each) for each in alarm["AlarmActions"]] == [f"${{{topic}}}"]
    assert [text(each) for each in alarm["OKActions"]] == [f"${{{topic}}}"]
    assert section in headings


def test_query_of_the_log_alarm_may_read_the_logs_with_reads_only(template, resources):
    query = only(resources("AWS::CloudWatch::LogAlarm"))["ScheduledQueryConfiguration"]
    found = resources("AWS::IAM::Role")[logical_id(query["ScheduledQueryRoleARN"])]
    (trust,) = found["AssumeRolePolicyDocument"]["Statement"]
    (statement,) = statements(found).values()
    groups = [logical_id(each) for each in query["LogGroupIdentifiers"]]

    assert trust["Principal"] == {"Service": "logs.amazonaws.com"}
    assert statement["Action"] == ["logs:GetQueryResults", "logs:StartQuery"]
    starts = ("ApiFunction", "RenderFunction")
    assert all(each.startswith(start) for each, start in zip(groups, starts, strict=True))
    assert [text(each) for each in statement["Resource"]] == [f"${{{group}.Arn}}" for group in groups]


def key_rule(resources):
    (rule,) = (
        each for each in resources("AWS::Events::Rule").items() if each[1]["EventPattern"]["source"] == ["aws.kms"]
    )
    return rule


@pytest.mark.parametrize("call", ["DisableKey", "ScheduleKeyDeletion", "PutKeyPolicy"])
def test_call_that_makes_the_key_unusable_or_open_matches_the_rule(resources, call):
    _, rule = key_rule(resources)
    (key,) = resources("AWS::KMS::Key")
    detail = rule["EventPattern"]["detail"]

    assert rule["EventPattern"]["detail-type"] == ["AWS API Call via CloudTrail"]
    assert detail["eventSource"] == ["kms.amazonaws.com"]
    assert call in detail["eventName"]
    assert [text(each) for each in detail["resources"]["ARN"]] == [f"${{{key}.Arn}}"]
    assert rule.get("State", "ENABLED") == "ENABLED"


def test_watched_calls_are_operations_of_kms(resources):
    _, rule = key_rule(resources)
    operations = get_session().get_service_model("kms").operation_names

    assert set(rule["EventPattern"]["detail"]["eventName"]) <= set(operations)


def test_notice_of_a_disabled_key_needs_no_key(resources):
    name, rule = key_rule(resources)
    (target,) = rule["Targets"]
    topic = logical_id(target["Arn"])
    statement = topic_policy(resources, topic)["TakeKeyChanges"]

    assert topic != alarm_topic(resources)
    assert "KmsMasterKeyId" not in resources("AWS::SNS::Topic")[topic]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert text(statement["Condition"]["ArnEquals"]["aws:SourceArn"]) == f"${{{name}.Arn}}"
    assert statement["Action"] == "sns:Publish"


def test_notice_of_a_change_of_the_key_says_who_did_what_and_names_a_section_of_the_runbook(resources, headings):
    _, rule = key_rule(resources)
    transformer = rule["Targets"][0]["InputTransformer"]
    template = text(transformer["InputTemplate"])

    assert transformer["InputPathsMap"] == {
        "call": "$.detail.eventName",
        "caller": "$.detail.userIdentity.arn",
        "time": "$.time",
    }
    assert set(re.findall(r"<(\w+)>", template)) == transformer["InputPathsMap"].keys()
    assert re.search(r"\(docs/operations\.md, (.+)\)\"$", template)[1] in headings
