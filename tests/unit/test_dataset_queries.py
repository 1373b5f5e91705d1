"""The queries of docs/datasets.md, run by DuckDB over the rows of real exports."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom.uid import CTImageStorage, generate_uid

from framegate.table_schema import SCHEMA
from framegate.tables.parquet import ROW_GROUP_ROWS, TablePart
from framegate.tables.rows import schema_of
from framegate.time_budget import TimeBudget
from tests.unit import dicom_files, exporting
from tests.unit.dicom_files import dicom_order, image_set_of, import_together
from tests.unit.exporting import order_for
from tests.unit.local.dicom_builder import dicom_file
from tests.unit.tabling import connect, download, new_updater, rows, update

pace, dicom_exporter = exporting.pace, dicom_files.dicom_exporter

PAGE = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
SECTION = PAGE.split("\n## Ten queries\n")[1].split("\n## ")[0]
QUERIES = re.findall(r"```sql\n(.*?)```", SECTION, re.DOTALL)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


QUESTIONS = [each.strip().rsplit("\n\n", 1)[-1] for each in re.split(r"```sql\n.*?```", SECTION, flags=re.DOTALL)][:-1]


def query(beginning):
    """The query that answers the question with this beginning."""
    (found,) = [each for question, each in zip(QUESTIONS, QUERIES, strict=True) if question.startswith(beginning)]
    return found


@pytest.fixture
def collection(s3, health_imaging, objects, dicom_exporter, tmp_path):
    """A CT volume of 20 slices with a scout, a radiograph, and a colour photo, exported and in the tables."""

    def add(*files):
        return image_set_of(import_together(health_imaging, tmp_path, *files))

    uids = generate_uid(), generate_uid()
    slices = [
        dicom_file(
            np.full((16, 16), number, np.int16),
            series=uids,
            SOPClassUID=CTImageStorage,
            Modality="CT",
            BodyPartExamined="CHEST",
            ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            InstanceNumber=20 - number,
            SliceThickness=1,
            PixelSpacing=[0.5, 0.5],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[-100, -100, 1.5 * number],
            RescaleSlope=1,
            RescaleIntercept=-1024,
            WindowCenter=[40, -600],
            WindowWidth=[400, 1500],
            ConvolutionKernel="B30f",
            Manufacturer="ACME",
            ManufacturerModelName="One",
            PatientID="first",
        )
        for number in range(20)
    ]
    scout = dicom_file(
        series=uids, Modality="CT", BodyPartExamined="CHEST", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        InstanceNumber=0, SliceThickness=1, PatientID="first", Manufacturer="ACME", ManufacturerModelName="One",
    )  # fmt: skip
    radiograph = dicom_file(Modality="DX", BodyPartExamined="CHEST", ViewPosition="PA", PatientID="second")
    photo = dicom_file(np.zeros((8, 8, 3), np.uint8), Modality="XC", PatientID="third")
    found = SimpleNamespace(ct=add(scout, *slices), radiograph=add(radiograph), photo=add(photo))
    for image_set in (found.ct, found.photo):
        dicom_exporter.export(order_for(image_set), TimeBudget(60))
    dicom_exporter.export(dicom_order(found.radiograph), TimeBudget(60))
    with ThreadPoolExecutor(2) as threads:
        update(new_updater(objects, threads, ["PatientID"]), found.ct, found.radiograph, found.photo)
    download(s3, tmp_path)
    connection = connect(tmp_path)

    def ask(beginning):
        text = query(beginning).replace("<image set>", found.ct.image_set_id)
        answer = connection.execute(text)
        names = [column[0] for column in answer.description]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    found.ask = ask
    return found


def test_documented_queries_give_their_answers(s3, collection):
    ask, frames = collection.ask, rows(s3, "frames")
    first, *_ = ask("What is there")
    assert (first["modality"], first["body_part_examined"], first["instances"], first["frames"]) == (
        "CT",
        "CHEST",
        21,
        21,
    )
    thin = ask("Which CT series of the chest")
    assert len(thin) == 20
    assert {each["image_set_id"] for each in thin} == {collection.ct.image_set_id}
    stack = [each for each in ask("In which order") if each["distance_mm"] is not None]
    assert [float(each["distance_mm"]) for each in stack] == [1.5 * number for number in range(20)]
    numbers = {row["frame_key"]: row["instance_number"] for row in frames}
    assert [numbers[each["frame_key"]] for each in stack] == list(range(20, 0, -1))
    (volume,) = ask("Which series are complete")
    assert (volume["image_set_id"], volume["slices"], volume["spacing_mm"]) == (collection.ct.image_set_id, 20, 1.5)
    assert ask("Which reconstruction kernels") == [
        {"manufacturer": "ACME", "manufacturer_model_name": "One", "kernel": "B30f", "image_sets": 1}
    ]
    decoders = ask("Which decoders")
    assert sum(each["frames"] for each in decoders) == 23
    assert sum(each["total_bytes"] for each in decoders) == sum(row["frame_size_bytes"] for row in frames)
    (chest,) = ask("Which frontal chest radiographs")
    assert (chest["image_set_id"], chest["frame_key"], chest["rows"]) == (collection.radiograph.image_set_id, None, 32)
    assert chest["dicom_key"].startswith("instances/")
    windows = ask("Which values does a CT slice have")
    assert {(each["rescale_intercept"], each["center"], each["width"]) for each in windows} == {(-1024, 40, 400)}
    assert {each["image_set_id"] for each in ask("What was exported")} == {row["image_set_id"] for row in frames}
    parts = ask("How do I split a collection")
    assert (sum(each["patients"] for each in parts), sum(each["frames"] for each in parts)) == (3, 23)
    assert {each["part"] for each in parts} <= {"train", "validation", "test"}


def test_page_has_ten_queries():
    assert len(QUERIES) == len(QUESTIONS) == 10


def test_page_names_the_schema_that_the_code_writes():
    assert set(re.findall(r"tables/schema-(\d+)/", PAGE)) == {str(SCHEMA)}


def test_conditions_on_modality_read_few_row_groups():
    schema = schema_of("frames", ())
    count = 8 * ROW_GROUP_ROWS
    values = {
        "image_set_id": [f"{number % 97:032d}" for number in range(count)],
        "modality": [("CT", "DX", "MR", "US")[number % 4] for number in range(count)],
    }
    columns = [pa.array(values.get(each.name, [None] * count), each.type) for each in schema]
    file = pq.ParquetFile(pa.BufferReader(TablePart(pa.table(columns, schema=schema)).encode()))
    index = schema.get_field_index("modality")
    groups = [file.metadata.row_group(number).column(index).statistics for number in range(file.num_row_groups)]
    assert len(groups) == 8
    assert sum(each.min <= "DX" <= each.max for each in groups) == 2
