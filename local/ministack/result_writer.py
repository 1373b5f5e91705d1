"""Adds the ResultWriter of a Distributed Map (AWS Step Functions developer guide, "ResultWriter (Map)")."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from ministack.services import s3, stepfunctions  # type: ignore[import-not-found]

from local.ministack.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

PUT_OBJECT = "arn:aws:states:::s3:putObject"
TRANSFORMATIONS = ("NONE", "COMPACT", "FLATTEN")
OUTPUT_TYPES = ("JSON", "JSONL")

patches = Patches()


@patches.replaces(
    stepfunctions,
    "_run_distributed_map",
    digest="2b77d3ec0e04",
    why="MiniStack's Distributed Map has no ResultWriter",
)
def run_distributed_map(
    original: Callable[..., tuple[Any, str | None]],
    state: dict[str, Any],
    raw_input: Any,
    effective: Any,
    iterator: dict[str, Any],
    execution: dict[str, Any],
    context: dict[str, Any],
) -> tuple[Any, str | None]:
    """Run the Map, then write its results if the state has a ResultWriter.

    A failed Map Run writes its results too, so that a user knows what to repeat.
    """
    writer = state.get("ResultWriter")
    if writer is None:
        return original(state, raw_input, effective, iterator, execution, context)
    place, transformation, output_type = _configuration(writer, effective, context)
    # The label distinguishes this Map Run from others of the same execution.
    state = {"Label": stepfunctions.new_uuid(), **state}
    bare = {name: value for name, value in state.items() if name not in ("ResultSelector", "ResultPath", "OutputPath")}
    earlier = set(stepfunctions._map_runs)
    failure = None
    try:
        original(bare, raw_input, effective, iterator, execution, context)
    except stepfunctions._ExecutionError as error:
        failure = error
    runs = [
        run
        for arn, run in stepfunctions._map_runs.items()
        if arn not in earlier and run["executionArn"] == execution["executionArn"] and f"/{state['Label']}:" in arn
    ]
    # The list is empty if the items could not be read.
    results = [_write_results(run, place, transformation, output_type) for run in runs]
    if failure is not None:
        raise failure
    result = stepfunctions._apply_result_selector(state, results[0])
    output = stepfunctions._apply_result_path(state, raw_input, result)
    return stepfunctions._apply_output_path(state, output, context), stepfunctions._next_or_end(state)


def _configuration(writer: dict[str, Any], effective: Any, context: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """Read the destination, transformation and output type of a ResultWriter; unsupported values are errors."""
    config = writer.get("WriterConfig") or {}
    transformation, output_type = config.get("Transformation", "NONE"), config.get("OutputType", "JSON")
    if writer.get("Resource") != PUT_OBJECT:
        raise stepfunctions._ExecutionError("States.Runtime", f"ResultWriter.Resource must be {PUT_OBJECT}")
    if transformation not in TRANSFORMATIONS or output_type not in OUTPUT_TYPES:
        raise stepfunctions._ExecutionError(
            "States.Runtime",
            f"WriterConfig.Transformation must be one of {', '.join(TRANSFORMATIONS)}, "
            f"and OutputType one of {', '.join(OUTPUT_TYPES)}",
        )
    place = stepfunctions._resolve_params_obj(writer.get("Parameters") or {}, effective, context)
    if not place.get("Bucket"):
        raise stepfunctions._ExecutionError("States.Runtime", "ResultWriter.Parameters must have a Bucket")
    return place, transformation, output_type


def _write_results(run: dict[str, Any], place: dict[str, Any], transformation: str, output_type: str) -> dict[str, Any]:
    """Write the result files and their manifest; return the result of the state."""
    map_run_arn = run["mapRunArn"]
    folder = "/".join(filter(None, [str(place.get("Prefix", "")).rstrip("/"), map_run_arn.rpartition(":")[2]]))
    children = [each for each in stepfunctions._executions.values() if each.get("mapRunArn") == map_run_arn]
    files: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
    for status in ("FAILED", "SUCCEEDED"):
        of_status = [each for each in children if each["status"] == status]
        if of_status:
            # Failed executions are written without transformation.
            lines = _transformed(of_status, transformation if status == "SUCCEEDED" else "NONE")
            # The guide names the file *_n.json for every output type; readers take the name from the manifest.
            key = f"{folder}/{status}_0.json"
            files[status].append({"Key": key, "Size": _put(place["Bucket"], key, _serialised(lines, output_type))})
    manifest = {"DestinationBucket": place["Bucket"], "MapRunArn": map_run_arn, "ResultFiles": files}
    _put(place["Bucket"], f"{folder}/manifest.json", _serialised(manifest, "JSON"))
    for counts in (run["itemCounts"], run["executionCounts"]):
        counts["resultsWritten"] = len(children)
    details = {"Bucket": place["Bucket"], "Key": f"{folder}/manifest.json"}
    return {"MapRunArn": map_run_arn, "ResultWriterDetails": details}


def _transformed(children: list[dict[str, Any]], transformation: str) -> list[Any]:
    if transformation == "NONE":
        return [_record(child) for child in children]
    outputs = [json.loads(child["output"]) for child in children]
    if transformation == "COMPACT":
        return outputs
    return [item for output in outputs for item in (output if isinstance(output, list) else [output])]


def _record(child: dict[str, Any]) -> dict[str, Any]:
    """Make the result file's record of a child execution; Input and Output are JSON strings."""
    succeeded = child["status"] == "SUCCEEDED"
    record = {
        "ExecutionArn": child["executionArn"],
        "Input": child["input"],
        "InputDetails": {"Included": True},
        "Name": child["name"],
        "Output": child["output"],
        "OutputDetails": {"Included": True},
        "Error": child.get("error"),
        "Cause": child.get("cause"),
        "RedriveCount": 0,
        "RedriveStatus": "NOT_REDRIVABLE" if succeeded else "REDRIVABLE",
        "RedriveStatusReason": "Execution is SUCCEEDED and cannot be redriven" if succeeded else None,
        "StartDate": child["startDate"],
        "StateMachineArn": child["stateMachineArn"],
        "Status": child["status"],
        "StopDate": child["stopDate"],
    }
    return {name: value for name, value in record.items() if value is not None}


def _serialised(document: Any, output_type: str) -> bytes:
    if output_type == "JSON":
        return json.dumps(document, separators=(",", ":")).encode()
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in document).encode()


def _put(bucket: str, key: str, content: bytes) -> int:
    """Write an object in the account and Region of the execution; return its size in bytes."""
    status, _, answer = s3._put_object(bucket, key, content, {"content-type": "application/json"})
    if status != HTTPStatus.OK:
        raise stepfunctions._ExecutionError("States.ResultWriterFailed", answer.decode(errors="replace"))
    return len(content)
