"""The state machine for request manifests, walked through as Step Functions would."""

from __future__ import annotations

import pytest

from tests.infra.cloudformation import frame_bucket, function, logical_id, properties, state_machine, text


@pytest.fixture(scope="module")
def machine(template):
    return state_machine(template)


@pytest.fixture(scope="module")
def states(machine):
    return machine[1]["States"]


@pytest.fixture(scope="module")
def child(states):
    """The workflow of one line."""
    return states["ExportImageSets"]["ItemProcessor"]


def tasks(states, child):
    return [each for each in (*states.values(), *child["States"].values()) if each["Type"] == "Task"]


def test_manifest_that_is_put_into_the_bucket_starts_it(template, resources):
    bucket, _ = frame_bucket(template)
    (machine,) = resources("AWS::StepFunctions::StateMachine")
    (rule,) = (each for each in resources("AWS::Events::Rule").values() if each["EventPattern"]["source"] == ["aws.s3"])
    (target,) = rule["Targets"]
    dead_letters = resources("AWS::SQS::Queue")[logical_id(target["DeadLetterConfig"]["Arn"])]

    assert rule["EventPattern"]["detail-type"] == ["Object Created"]
    assert rule["EventPattern"]["detail"] == {
        "bucket": {"name": [{"Ref": bucket}]},
        "$or": [
            {"object": {"key": [{"prefix": "export-requests/"}], "size": [{"numeric": [">", 0]}]}},
            {"object": {"key": [{"wildcard": "export-requests/*.jsonl"}]}},
        ],
    }
    assert text(target["Arn"]) == f"${{{machine}}}"
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 24 * 60 * 60, "MaximumRetryAttempts": 185}
    assert "RedrivePolicy" not in dead_letters


def test_manifest_is_validated_its_lines_exported_and_summed_up(machine, states):
    assert machine[1]["StartAt"] == "Validate"
    assert states["Validate"]["Next"] == "AnythingToExport"
    assert states["AnythingToExport"]["Choices"] == [
        {"Variable": "$.accepted.count", "NumericGreaterThan": 0, "Next": "ExportImageSets"}
    ]
    assert states["AnythingToExport"]["Default"] == "Summarize"
    assert states["ExportImageSets"]["Next"] == "Summarize"
    assert states["Summarize"]["End"] is True


def test_lines_are_read_from_s3_and_results_written_there_by_the_map_itself(states):
    export = states["ExportImageSets"]

    assert export["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert export["ItemReader"]["ReaderConfig"] == {"InputType": "JSONL"}
    assert export["ItemReader"]["Parameters"] == {"Bucket.$": "$.accepted.bucket", "Key.$": "$.accepted.key"}
    assert export["ResultWriter"]["Parameters"]["Prefix.$"] == "States.Format('{}/results', $.prefix)"
    assert export["ToleratedFailurePercentage"] == 5


@pytest.mark.parametrize("workers", [2, 5])
def test_no_more_lines_are_exported_at_a_time_than_there_are_workers(synthesize, workers):
    _, definition = state_machine(synthesize(export_concurrency=str(workers)))

    assert definition["States"]["ExportImageSets"]["MaxConcurrency"] == workers


def test_line_begins_without_progress_and_not_at_its_last_attempt(states):
    selector = states["ExportImageSets"]["ItemSelector"]

    assert selector["progress"] == ""
    assert selector["final"] is False


def test_line_goes_on_where_it_stopped_until_it_is_done(child):
    export, done = child["States"]["Export"], child["States"]["Done"]

    assert child["StartAt"] == "Export"
    # What the task answers is what it is called with the next time.
    assert (export["Parameters"]["Payload.$"], export["OutputPath"]) == ("$", "$.Payload")
    assert export["Next"] == "Done"
    assert done["Choices"] == [{"Variable": "$.done", "BooleanEquals": True, "Next": "Result"}]
    assert done["Default"] == "Export"
    assert child["States"]["Result"] == {"Type": "Pass", "InputPath": "$.result", "End": True}


def test_line_that_fails_for_good_is_closed_by_a_last_attempt_and_holds_nothing_up(child):
    export, last = child["States"]["Export"], child["States"]["ExportFinally"]

    assert export["Catch"] == [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "ExportFinally"}]
    assert last["Parameters"]["Payload"]["final"] is True
    assert last["Parameters"]["Payload"]["progress.$"] == "$.progress"
    assert child["States"]["FinallyDone"]["Default"] == "ExportFinally"
    assert "Catch" not in last


def test_busy_function_is_waited_for_and_a_fault_tried_again_later_each_time(states, child):
    for task in tasks(states, child):
        hopeless, busy, failed = task["Retry"]
        assert hopeless == {"ErrorEquals": ["InvalidRequestManifest"], "MaxAttempts": 0}
        assert "Lambda.TooManyRequestsException" in busy["ErrorEquals"]
        assert busy["MaxAttempts"] == 1000
        assert failed["ErrorEquals"] == ["States.ALL"]
        assert failed["MaxAttempts"] == 8
        assert all(retry["BackoffRate"] == 2 and retry["JitterStrategy"] == "FULL" for retry in (busy, failed))


def test_all_tasks_are_done_by_one_function(template, machine, states, child):
    (name,) = (
        name
        for name, each in properties(template, "AWS::Lambda::Function").items()
        if each == function(template, "export_requests")
    )
    found = tasks(states, child)

    assert len(found) == 4
    assert {task["Parameters"]["FunctionName"] for task in found} == {f"${{{name}.Arn}}"}


def test_what_it_does_is_logged_and_traced_but_not_the_names_of_manifests(machine, resources):
    properties_, _ = machine
    (destination,) = properties_["LoggingConfiguration"]["Destinations"]
    group = logical_id(destination["CloudWatchLogsLogGroup"]["LogGroupArn"])

    assert properties_["LoggingConfiguration"]["Level"] == "ALL"
    assert properties_["LoggingConfiguration"]["IncludeExecutionData"] is False
    assert properties_["TracingConfiguration"] == {"Enabled": True}
    assert text(resources("AWS::Logs::LogGroup")[group]["LogGroupName"]) == (
        "/aws/vendedlogs/states/Framegate-ExportRequests-${${AWS::StackId} / 2}"
    )


def test_name_of_a_long_stack_is_shortened_to_what_step_functions_takes(synthesize):
    found, _ = state_machine(synthesize(export_events="none", stack_name="F" * 128))

    assert found["StateMachineName"] == f"{'F' * 60}-ExportRequests"
    assert len(found["StateMachineName"]) <= 80


def test_state_machine_is_an_output(template, resources):
    (machine,) = resources("AWS::StepFunctions::StateMachine")

    assert text(template.to_json()["Outputs"]["ExportStateMachineArn"]["Value"]) == f"${{{machine}}}"
