"""The values of columns: what attributes of any form become, and which attributes are read from metadata."""

from __future__ import annotations

import json
from datetime import date

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.healthimaging import attributes as module
from framegate.healthimaging.attributes import AttributeReader
from framegate.healthimaging.image_set_metadata import contents_of
from framegate.table_schema import ATTRIBUTES, IDENTIFYING, TABLES, Column, columns_of
from framegate.tables.rows import ARROW_TYPES
from framegate.tables.values import MAX_ARRAY_VALUES, value_of


def converted(column_type, raw, **options):
    return value_of(Column("name", column_type, "", "Keyword", **options), {"Keyword": raw})


@pytest.mark.parametrize(
    ("column_type", "raw", "expected"),
    [
        ("string", "CT", "CT"),
        ("string", " CT \0", "CT"),
        ("string", "", None),
        ("string", ["A", "B"], "A"),
        ("string", 4, "4"),
        ("string", {"a": 1}, None),
        ("int", 512, 512),
        ("int", "512", 512),
        ("int", 512.0, 512),
        ("int", 512.5, None),
        ("int", True, None),
        ("int", 2**31, None),
        ("int", -(2**31), -(2**31)),
        ("bigint", str(2**63 - 1), 2**63 - 1),
        ("bigint", 2**63, None),
        ("bigint", "many", None),
        ("double", "0.5", 0.5),
        ("double", "1E400", None),
        ("double", "NaN", None),
        ("double", "Infinity", None),
        ("double", "thin", None),
        ("double", [], None),
        ("double", None, None),
        ("double", [None, 1.0], None),
        ("boolean", 1, True),
        ("boolean", 0, False),
        ("boolean", 2, None),
        ("date", "20260131", date(2026, 1, 31)),
        ("date", "2026.01.31", date(2026, 1, 31)),
        ("date", "20260231", None),
        ("date", "2026-01-31", None),
        ("date", "20260131-20260201", None),
        ("array<double>", 40, [40.0]),
        ("array<double>", ["40", 80], [40.0, 80.0]),
        ("array<double>", ["40", "wide"], None),
        ("array<double>", [], None),
        ("array<string>", ["ORIGINAL", ""], None),
        ("array<string>", ["ORIGINAL"] * (MAX_ARRAY_VALUES + 1), None),
    ],
)
def test_value_becomes_the_type_of_its_column_or_null(column_type, raw, expected):
    assert converted(column_type, raw) == expected


@pytest.mark.parametrize("raw", [[0, 0], [0, 0, 0, 0], 0, ["x", 0, 0]])
def test_position_that_does_not_have_three_values_is_null(raw):
    assert converted("array<double>", raw, length=3) is None


def test_value_of_an_index_that_is_missing_is_null():
    assert (converted("double", [0.5], value=1), converted("double", 0.5, value=0)) == (None, 0.5)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
def test_every_value_fits_its_column_or_is_null(raw):
    for column_type, arrow in ARROW_TYPES.items():
        if column_type == "timestamp":  # Framegate writes it, and reads it from no attribute.
            continue
        pa.array([converted(column_type, raw)], arrow)


def test_column_names_are_unique_and_lower_case():
    for table in TABLES:
        names = [each.name for each in columns_of(table, [column.keyword for column in IDENTIFYING])]
        assert len(set(names)) == len(names)
        assert all(name == name.lower() and name.replace("_", "").isalnum() for name in names)
    # The Glue catalog limits comments to 255 characters.
    assert all(len(each.meaning) <= 255 for each in (*ATTRIBUTES, *IDENTIFYING))


def test_identifying_columns_are_none_of_the_others():
    assert not {each.keyword for each in IDENTIFYING} & {each.keyword for each in ATTRIBUTES}


# Which attributes are read


def read(document, keywords=("Rows", "Modality", "PatientID"), groups=("PlanePositionSequence",)):
    reader = AttributeReader(keywords, groups)
    content = json.dumps(document).encode()
    # The result must not depend on how the document is divided.
    contents_of([content[start : start + 7] for start in range(0, len(content), 7)], reader.take)
    return reader.attributes_of("1.2", "1.2.3")


def document(instance, series=None, study=None, patient=None):
    instances = {"1.2.3": {"DICOM": instance, "ImageFrames": []}}
    return {
        "SchemaVersion": "1.1",
        "Patient": {"DICOM": patient or {}},
        "Study": {"DICOM": study or {}, "Series": {"1.2": {"DICOM": series or {}, "Instances": instances}}},
    }


def test_nearest_level_wins():
    found = read(document({"Modality": "CT"}, {"Modality": "MR", "Rows": 1}, {"Rows": 2}, {"PatientID": "P"}))
    assert dict(found.own) == {"Modality": "CT", "Rows": 1, "PatientID": "P"}


def test_other_attributes_are_not_read():
    found = read(document({"PatientName": "A^B", "Nested": [{"Rows": 5}], "Rows": {"Rows": 6}}))
    assert dict(found.own) == {}


def test_instance_that_is_not_listed_has_no_attributes():
    reader = AttributeReader({"Rows"}, ())
    contents_of([json.dumps(document({"Rows": 5})).encode()], reader.take)
    assert dict(reader.attributes_of("1.2", "9").own) == {}


@pytest.mark.parametrize("groups", [None, "x", {"a": 1}, [], [1], [[{}]], [{"PlanePositionSequence": "x"}]], ids=str)
def test_groups_of_any_form_are_read(groups):
    found = read(document({"PerFrameFunctionalGroupsSequence": groups, "SharedFunctionalGroupsSequence": groups}))
    assert all(isinstance(each, dict) for each in found.frame_groups)
    assert isinstance(found.groups, dict)


def test_values_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MAX_VALUES", 3)
    found = read(document({"Rows": list(range(10)), "Modality": "x" * 2000}))
    assert dict(found.own) == {"Rows": [0, 1, 2], "Modality": None}
