"""The state machine for request manifests: its trigger, its states and its logs."""

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
    """The child workflow of one line."""
    return states["ExportImageSets"]["ItemProcessor"]


def tasks(states, child):
    return [each for each in (*states.values(), *child["States"].values()) if each["Type"] == "Task"]


def test_object_created_event_starts_the_state_machine(template, resources):
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


def test_state_machine_validates_exports_and_summarizes(machine, states):
    assert machine[1]["StartAt"] == "Validate"
    assert states["Validate"]["Next"] == "AnythingToExport"
    assert states["AnythingToExport"]["Choices"] == [
        {"Variable": "$.accepted.count", "NumericGreaterThan": 0, "Next": "ExportImageSets"}
    ]
    assert states["AnythingToExport"]["Default"] == "Summarize"
    assert states["ExportImageSets"]["Next"] == "Summarize"
    assert states["Summarize"]["End"] is True


def test_distributed_map_reads_lines_from_s3_and_writes_results_there(states):
    export = states["ExportImageSets"]

    assert export["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert export["ItemReader"]["ReaderConfig"] == {"InputType": "JSONL"}
    assert export["ItemReader"]["Parameters"] == {"Bucket.$": "$.accepted.bucket", "Key.$": "$.accepted.key"}
    assert export["ResultWriter"]["Parameters"]["Prefix.$"] == "States.Format('{}/results', $.prefix)"
    assert export["ToleratedFailurePercentage"] == 5


@pytest.mark.parametrize("workers", [2, 5])
def test_map_concurrency_matches_the_workers(synthesize, workers):
    _, definition = state_machine(synthesize(export_concurrency=str(workers)))

    assert definition["States"]["ExportImageSets"]["MaxConcurrency"] == workers


def test_line_starts_without_progress_and_not_final(states):
    selector = states["ExportImageSets"]["ItemSelector"]

    assert selector["progress"] == ""
    assert selector["final"] is False


def test_line_repeats_the_export_task_until_it_is_done(child):
    export, done = child["States"]["Export"], child["States"]["Done"]

    assert child["StartAt"] == "Export"
    # The result of the task is the input of its next call.
    assert (export["Parameters"]["Payload.$"], export["OutputPath"]) == ("$", "$.Payload")
    assert export["Next"] == "Done"
    assert done["Choices"] == [{"Variable": "$.done", "BooleanEquals": True, "Next": "Result"}]
    assert done["Default"] == "Export"
    assert child["States"]["Result"] == {"Type": "Pass", "InputPath": "$.result", "End": True}


def test_line_that_fails_for_good_gets_a_final_attempt(child):
    export, last = child["States"]["Export"], child["States"]["ExportFinally"]

    assert export["Catch"] == [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "ExportFinally"}]
    assert last["Parameters"]["Payload"]["final"] is True
    assert last["Parameters"]["Payload"]["progress.$"] == "$.progress"
    assert child["States"]["FinallyDone"]["Default"] == "ExportFinally"
    assert "Catch" not in last


def test_tasks_wait_for_a_busy_function_and_retry_failures_with_backoff(states, child):
    for task in tasks(states, child):
        hopeless, busy, failed = task["Retry"]
        assert hopeless == {"ErrorEquals": ["InvalidRequestManifest"], "MaxAttempts": 0}
        assert "Lambda.TooManyRequestsException" in busy["ErrorEquals"]
        assert busy["MaxAttempts"] == 1000
        assert failed["ErrorEquals"] == ["States.ALL"]
        assert failed["MaxAttempts"] == 8
        assert all(retry["BackoffRate"] == 2 and retry["JitterStrategy"] == "FULL" for retry in (busy, failed))


def test_request_function_runs_all_tasks(template, machine, states, child):
    (name,) = (
        name
        for name, each in properties(template, "AWS::Lambda::Function").items()
        if each == function(template, "export_requests")
    )
    found = tasks(states, child)

    assert len(found) == 4
    assert {task["Parameters"]["FunctionName"] for task in found} == {f"${{{name}.Arn}}"}


def test_state_machine_is_logged_and_traced_without_execution_data(machine, resources):
    properties_, _ = machine
    (destination,) = properties_["LoggingConfiguration"]["Destinations"]
    group = logical_id(destination["CloudWatchLogsLogGroup"]["LogGroupArn"])

    assert properties_["LoggingConfiguration"]["Level"] == "ALL"
    assert properties_["LoggingConfiguration"]["IncludeExecutionData"] is False
    assert properties_["TracingConfiguration"] == {"Enabled": True}
    assert text(resources("AWS::Logs::LogGroup")[group]["LogGroupName"]) == (
        "/aws/vendedlogs/states/Framegate-ExportRequests-${${AWS::StackId} / 2}"
    )


def test_state_machine_name_fits_step_functions_for_a_long_stack_name(synthesize):
    found, _ = state_machine(synthesize(export_events="none", stack_name="F" * 128))

    assert found["StateMachineName"] == f"{'F' * 60}-ExportRequests"
    assert len(found["StateMachineName"]) <= 80


def test_state_machine_is_an_output(template, resources):
    (machine,) = resources("AWS::StepFunctions::StateMachine")

    assert text(template.to_json()["Outputs"]["ExportStateMachineArn"]["Value"]) == f"${{{machine}}}"
