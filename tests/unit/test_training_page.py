"""The program in docs/datasets.md, from the table to a training loop, runs against exported files."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest

from framegate.time_budget import TimeBudget
from tests.unit import dicom_files, exporting, tabling
from tests.unit.conftest import BUCKET, SERVED
from tests.unit.dicom_files import dicom_order, image_set_of
from tests.unit.dicom_readers import interpreter_with
from tests.unit.exporting import order_for
from tests.unit.tabling import update

pace, dicom_exporter, updater = exporting.pace, dicom_files.dicom_exporter, tabling.updater

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
SERIES = Path(pydicom.data.__file__).parent / "test_files" / "dicomdirtests" / "98892001" / "CT5N"

PRINT_PIXELS = """
import json
print(json.dumps({"batch": batch.tolist(), "frames": [each.tolist() for each in of_frames]}))
"""
PRINT_TRAINING = """
import json
print(json.dumps({"loss": float(loss), "shape": list(images.shape), "largest": float(images.max())}))
"""


def steps():
    """The page's blocks of Python by the word that begins the paragraph before them, for instance "Choose"."""
    section = PAGE.partition("## From the table to a training loop")[2].partition("\n## ")[0]
    found, step = {}, ""
    for heading, block in re.findall(r"^\*\*(.+?)\.\*\*|^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        step = heading or step
        if block:
            found[step] = found.get(step, "") + block
    return found


@pytest.fixture
def slices(s3, emulator, dicom_exporter, updater):
    """A series of which the bucket has DICOM files, single frames and the tables: the Hounsfield units, in order."""
    paths = [path for path in SERIES.iterdir() if path.name.isdigit()]
    (image_set,) = emulator.import_files(SERVED, paths)
    ref = image_set_of(image_set)
    for order in (dicom_order(ref), order_for(ref)):
        assert dicom_exporter.export(order, TimeBudget(300)).completed
    update(updater, ref)
    datasets = sorted(map(pydicom.dcmread, paths), key=lambda each: each.ImagePositionPatient[2])
    yield np.stack([each.pixel_array * float(each.RescaleSlope) + float(each.RescaleIntercept) for each in datasets])
    emulator.delete_image_set(SERVED, image_set.id)


def run(program, module, folder):
    """Run a program with an interpreter that has a module; return what its last line says."""
    python, environment = interpreter_with(module)
    file = folder / "program.py"
    # Arrow's client of S3 does not read the endpoint from the environment, as boto3 does.
    endpoint = f'S3FileSystem(endpoint_override="{os.environ["AWS_ENDPOINT_URL_S3"]}")'
    file.write_text(program.replace("amzn-s3-demo-bucket", BUCKET).replace("S3FileSystem()", endpoint))
    done = subprocess.run([python, str(file)], capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_page_decodes_the_pixels_of_the_chosen_slices(slices, tmp_path):
    blocks = steps()
    program = "".join(blocks[step] for step in ("Choose", "Fetch", "Decode")) + PRINT_PIXELS
    found = run(program, "imagecodecs", tmp_path)
    assert np.array_equal(found["batch"], slices)
    assert np.array_equal(found["frames"], slices)


def test_page_trains_with_torch_and_monai(slices, tmp_path):
    blocks = steps()
    found = run("".join(blocks.values()) + PRINT_TRAINING, "monai", tmp_path)
    assert list(blocks) == ["Choose", "Fetch", "Decode", "Train with torch", "Or with MONAI"]
    assert found["shape"] == [1, 1, 64, 64, 1]
    assert 0 < found["largest"] <= 1
    assert found["loss"] > 0
