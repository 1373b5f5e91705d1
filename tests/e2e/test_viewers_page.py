"""The commands and the Python code of docs/viewers.md work, on a deployment with a login."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from local.samples import MAMMOGRAM

PAGE = (Path(__file__).parents[2] / "docs" / "viewers.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def token(viewer):
    return viewer.token("developer", viewer.datastore_ids[0])


def stored_frame(viewer, dataset):
    frame = next(each for each in viewer.frames if each.sop_instance_uid == dataset.SOPInstanceUID)
    return viewer.cloud.health_imaging.content(frame)


@pytest.mark.parametrize("name", ["CT_small.dcm", MAMMOGRAM])
def test_curl_lines_work(viewer, token, tmp_path, name):
    dataset = viewer.datasets[name]
    variables = {
        "API": viewer.deployment.api_url,
        "DATASTORE": viewer.datastore_ids[0],
        "TOKEN": token,
        "STUDY": dataset.StudyInstanceUID,
        "SERIES": dataset.SeriesInstanceUID,
        "INSTANCE": dataset.SOPInstanceUID,
    }
    (block,) = (each for each in blocks("sh") if "curl" in each)
    commands = block.replace("\\\n", " ").replace("PatientID=1234", f"PatientID={dataset.PatientID}").splitlines()
    printed = [
        subprocess.run(
            ["bash", "-c", command.replace("curl ", "curl -sS --fail ", 1)],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in commands
    ]
    search, metadata, _ = printed
    assert [each["0020000D"]["Value"] for each in json.loads(search)] == [[dataset.StudyInstanceUID]]
    assert [each["00080018"]["Value"] for each in json.loads(metadata)] == [[dataset.SOPInstanceUID]]
    assert (tmp_path / "frame.jphc").read_bytes() == stored_frame(viewer, dataset)


@pytest.mark.parametrize("name", ["CT_small.dcm", MAMMOGRAM])
def test_python_code_works(viewer, token, name):
    dataset = viewer.datasets[name]
    (code,) = blocks("python")
    names = {
        "api": viewer.deployment.api_url,
        "datastore": viewer.datastore_ids[0],
        "token": token,
        "study_uid": dataset.StudyInstanceUID,
        "series_uid": dataset.SeriesInstanceUID,
        "instance_uid": dataset.SOPInstanceUID,
    }
    exec(compile(code, "docs/viewers.md", "exec"), names)
    assert len(names["studies"]) == 10
    assert [each["00080018"]["Value"] for each in names["metadata"]] == [[dataset.SOPInstanceUID]]
    assert names["frames"] == [stored_frame(viewer, dataset)]
    streamed = names["client"].iter_instance_frames(
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID, frame_numbers=[1]
    )
    assert [bytes(each) for each in streamed] == [stored_frame(viewer, dataset)]
