"""DICOM JSON is rewritten and cut as text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framegate.dicomweb.dicom_json import UriRewriter, elements_of, instance_of
from framegate.dicomweb.searches import records_of_studies, studies_in

UPSTREAM = "https://dicom-medical-imaging.us-east-1.amazonaws.com"
PATH = "/datastore/d/studies/1.2/series/1.3/instances/1.4/bulkdata/abc"
OURS = "https://api.example/v1"


def rewritten(document, image_set_id=None, size=10**9):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return b"".join(UriRewriter(OURS, image_set_id).rewritten(pieces))


def test_bulk_data_and_retrieve_urls_lead_to_the_api():
    document = [
        {
            "00081190": {"vr": "UR", "Value": [f"{UPSTREAM}/datastore/d/studies/1.2"]},
            "7FE00010": {"vr": "OW", "BulkDataURI": UPSTREAM + PATH},
        }
    ]
    assert json.loads(rewritten(document)) == [
        {
            "00081190": {"vr": "UR", "Value": [f"{OURS}/datastore/d/studies/1.2"]},
            "7FE00010": {"vr": "OW", "BulkDataURI": OURS + PATH},
        }
    ]


@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : "), (",\n", ":\t")])
def test_white_space_does_not_matter(separators):
    document = json.dumps([{"1": {"vr": "OB", "BulkDataURI": UPSTREAM + PATH}}], separators=separators)
    assert json.loads(rewritten(document.encode()))[0]["1"]["BulkDataURI"] == OURS + PATH


def test_uri_names_the_chosen_image_set():
    document = [{"1": {"BulkDataURI": UPSTREAM + PATH}}, {"1": {"BulkDataURI": f"{UPSTREAM}{PATH}?imageSetId=y"}}]
    first, second = json.loads(rewritten(document, "x"))
    assert first["1"]["BulkDataURI"] == f"{OURS}{PATH}?imageSetId=x"
    assert second["1"]["BulkDataURI"] == f"{OURS}{PATH}?imageSetId=y"


@pytest.mark.parametrize(
    "value",
    [
        UPSTREAM + PATH,
        f'"BulkDataURI": "{UPSTREAM}{PATH}"',
        f'\\"BulkDataURI\\":\\"{UPSTREAM}{PATH}',
        "https://elsewhere.example/file",
    ],
)
def test_text_of_other_attributes_is_unchanged(value):
    document = [{"00204000": {"vr": "LT", "Value": [value]}}]
    assert rewritten(document) == json.dumps(document).encode()


def test_uri_of_another_server_is_unchanged():
    document = [{"1": {"BulkDataURI": "https://elsewhere.example/file"}}]
    assert rewritten(document) == json.dumps(document).encode()


values = st.sampled_from([UPSTREAM + PATH, "}", "{", '"', "\\", "x", "BulkDataURI"]) | st.text(max_size=5)
datasets = st.lists(
    st.dictionaries(
        st.sampled_from(["00081190", "1"]),
        st.fixed_dictionaries(
            {}, optional={"vr": values, "BulkDataURI": values, "Value": st.lists(values, max_size=2)}
        ),
        max_size=2,
    ),
    max_size=4,
)


@given(datasets, st.integers(1, 200))
def test_result_does_not_depend_on_the_pieces(document, size):
    assert rewritten(document, "x", size) == rewritten(document, "x")


@given(st.lists(datasets, max_size=4), st.integers(1, 60), st.sampled_from(["", " ", "\n\t"]))
def test_elements_of_arrays_join_to_one_array(arrays, size, space):
    texts = []
    for array in arrays:
        text = f"{space}{json.dumps(array)}{space}".encode()
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        texts.append(b"".join(elements_of(pieces)))
    joined = b"[" + b",".join(text for text in texts if text.strip()) + b"]"
    assert json.loads(joined) == [each for array in arrays for each in array]


@pytest.mark.parametrize("text", [b"", b" ", b"{}", b"[", b"[1", b"[1,", b"1]", b"null"])
def test_what_is_not_a_whole_array_has_no_elements(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the caller words the problem
        list(elements_of([text]))


def test_instance_is_cut_out_with_its_exact_text():
    instances = [
        f'{{"00080018": {{"vr":"UI","Value":["1.{number}"]}}, "00281053": {{"Value": [1.0e0]}}}}' for number in range(3)
    ]
    document = "[ " + " ,\n".join(instances) + " ]"
    assert [instance_of(document, f"1.{number}") for number in range(3)] == instances
    assert instance_of(document, "1.9") is None
    assert instance_of("[]", "1.9") is None


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        (["studies"], [], set()),
        (["studies"], [("StudyInstanceUID", "1.2")], {"1.2"}),
        (["studies"], [("0020000d", "1.2")], {"1.2"}),
        (["studies"], [("StudyInstanceUID", "1.2"), ("0020000D", "1.3")], {"1.2", "1.3"}),
        (["studies"], [("StudyInstanceUID", "1.*")], set()),
        (["studies"], [("StudyInstanceUID", "1.2,1.3")], set()),
        (["studies"], [("StudyInstanceUID", "1.2"), ("StudyInstanceUID", "*")], set()),
        (["studies", "1.2", "series"], [], {"1.2"}),
        (["studies", "1.2", "series"], [("StudyInstanceUID", "1.3")], {"1.2"}),
        (["series"], [("StudyInstanceUID", "1.2")], {"1.2"}),
    ],
)
def test_search_is_limited_to_the_named_studies(path, query, expected):
    assert studies_in(path, query) == expected


def test_only_records_of_the_studies_are_left():
    records = [{"0020000D": {"Value": [uid]}} for uid in ("1.2", "1.3")]
    odd = [{}, {"0020000D": {}}, {"0020000D": {"Value": []}}, None, 7]
    assert json.loads(records_of_studies(json.dumps([*records, *odd]).encode(), {"1.3"})) == records[1:]
