"""The emulator searches as HealthImaging's QIDO-RS does."""

import fnmatch
import io
import warnings
from contextlib import suppress
from itertools import chain
from urllib.parse import quote

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.health_imaging import HealthImagingEmulator
from local.health_imaging.dicomweb_queries import (
    ALL_INSTANCE_KEYS,
    ALL_SERIES_KEYS,
    INSTANCE_KEYS,
    MAX_LIMIT,
    SERIES_KEYS,
    STUDY_KEYS,
    parse_query,
)
from local.health_imaging.errors import ServiceError
from tests.unit.local.dicom_builder import dicom_file
from tests.unit.local.emulated import dicomweb_get

STUDIES = ("1.2.1", "1.2.2")
FIRST = {
    "PatientName": "Thomas^Albert=Thomas",
    "PatientID": "P-1",
    "StudyDate": "20240131",
    "StudyTime": "101500.250000",
    "StudyDescription": "CT Nuclear abdomen",
    "AccessionNumber": "A1",
    "ReferringPhysicianName": "M\xfcller^Anna",
    "StudyID": "7",
}
SECOND = {"PatientName": "Smith^Jane", "PatientID": "P-20", "StudyDate": "20250201", "StudyTime": "2359"}


def file(study, series, instance, number=None, **attributes):
    attributes |= {"SOPInstanceUID": instance, "InstanceNumber": number, "SpecificCharacterSet": "ISO_IR 192"}
    return dicom_file(series=(study, series), **attributes)


@pytest.fixture(scope="module")
def emulator(aws_environment):
    with HealthImagingEmulator() as running:
        yield running


@pytest.fixture(scope="module")
def base(emulator, tmp_path_factory):
    """Two studies; the first has a CT series of three instances and an SR series."""
    datastore_id = emulator.create_datastore("searches")
    ct, sr = {**FIRST, "Modality": "CT", "SeriesNumber": 2}, {**FIRST, "Modality": "SR", "SeriesNumber": 1}
    files = [file(STUDIES[0], "1.3.1", f"1.4.{n}", n, **ct) for n in (3, 1, 2)]
    files += [file(STUDIES[0], "1.3.2", "1.4.9", 1, **sr), file(STUDIES[1], "1.3.3", "1.4.8", 1, **SECOND)]
    # A conflicting patient makes a non-primary image set.
    files.append(file(STUDIES[0], "1.3.1", "1.4.4", 4, **{**ct, "PatientName": "Conflict"}))
    folder = tmp_path_factory.mktemp("files")
    for number, content in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(content)
        emulator.import_files(datastore_id, [folder / f"{number}.dcm"])
    return f"{emulator.url}/datastore/{datastore_id}"


@pytest.fixture
def search(base):
    def found(path, accept="application/dicom+json", **query):
        response = dicomweb_get(f"{base}/{path}", accept, **query)
        assert response.status_code == 200, response.text
        assert response.headers["Content-Type"] == "application/dicom+json"
        return response.json()

    return found


def values(results, tag):
    return [each[tag]["Value"][0] for each in results]


STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"


# Levels, order and default attributes


def test_study_has_its_attributes_and_counts(search, base):
    (study,) = search("studies", PatientID="P-1")
    assert study["00100010"]["Value"] == [{"Alphabetic": "Thomas^Albert", "Ideographic": "Thomas"}]
    assert study["00080061"] == {"vr": "CS", "Value": ["CT", "SR"]}
    assert study["00201206"] == {"vr": "IS", "Value": [2]}
    assert study["00201208"] == {"vr": "IS", "Value": [4]}
    assert study["00080056"]["Value"] == ["ONLINE"]
    assert study["00081190"] == {"vr": "UR", "Value": [f"{base}/studies/1.2.1"]}
    assert "00081030" not in study
    assert "00080060" not in study
    assert list(study) == sorted(study)


def test_studies_start_with_the_last_update(search):
    assert values(search("studies"), STUDY_UID) == ["1.2.2", "1.2.1"]


def test_series_are_in_order_of_their_number(search, base):
    found = search("studies/1.2.1/series")
    assert values(found, SERIES_UID) == ["1.3.2", "1.3.1"]
    assert values(found, "00201209") == [1, 3]
    assert values(found, "00081190") == [f"{base}/studies/1.2.1/series/{uid}" for uid in ("1.3.2", "1.3.1")]
    assert "00100010" not in found[0]


def test_instances_are_in_order_of_their_number(search, base):
    found = search("studies/1.2.1/series/1.3.1/instances")
    assert values(found, INSTANCE_UID) == ["1.4.1", "1.4.2", "1.4.3"]
    assert values(found, "00280010") == [32] * 3
    assert found[0]["00081190"]["Value"] == [f"{base}/studies/1.2.1/series/1.3.1/instances/1.4.1"]


def test_searches_over_all_series_and_instances_have_the_attributes_of_parents(search):
    assert values(search("series"), SERIES_UID) == ["1.3.2", "1.3.1", "1.3.3"]
    assert set(values(search("instances"), INSTANCE_UID)) == {"1.4.1", "1.4.2", "1.4.3", "1.4.8", "1.4.9"}
    (instance,) = search("instances", SOPInstanceUID="1.4.8")
    assert instance["00100020"]["Value"] == ["P-20"]


def test_instances_of_a_study_start_with_the_last_update(search):
    found = search("studies/1.2.1/instances")
    assert values(found, INSTANCE_UID) == ["1.4.9", "1.4.1", "1.4.2", "1.4.3"]
    assert values(found, SERIES_UID) == ["1.3.2", "1.3.1", "1.3.1", "1.3.1"]


def test_non_primary_image_sets_are_not_found(search):
    assert search("instances", SOPInstanceUID="1.4.4") == []
    assert search("studies", PatientName="Conflict") == []


@pytest.mark.parametrize(
    "path",
    ["studies/9.9/series", "studies/1.2.1/series/9.9/instances", "studies/9.9/instances", "studies/x%20y/series"],
)
def test_unknown_parent_has_no_results(search, path):
    assert search(path) == []


def test_unknown_data_store_does_not_exist(emulator):
    assert dicomweb_get(f"{emulator.url}/datastore/{'0' * 32}/studies").status_code == 404
    assert dicomweb_get(f"{emulator.url}/datastore/short/studies").status_code == 400


# Matching


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"PatientID": "P-1"}, {"1.2.1"}),
        ({"00100020": "P-1"}, {"1.2.1"}),
        ({"PatientID": "p-1"}, set()),
        ({"PatientID": "P-*"}, {"1.2.1", "1.2.2"}),
        ({"PatientID": "P-?"}, {"1.2.1"}),
        ({"PatientID": "P-??"}, {"1.2.2"}),
        ({"PatientID": "P-1*"}, {"1.2.1"}),
        ({"PatientID": "P.1"}, set()),
        ({"PatientID": ""}, {"1.2.1", "1.2.2"}),
        ({"PatientID": "P-1", "StudyDate": "20250201"}, set()),
        ({"StudyDescription": "*Nuclear*"}, {"1.2.1"}),
        ({"StudyDescription": "*Nuclear"}, set()),
        ({"StudyDescription": "*"}, {"1.2.1"}),
        ({"PatientName": "Thomas^Albert"}, {"1.2.1"}),
        ({"PatientName": "*alb*"}, set()),
        ({"PatientName": "*Alb*"}, {"1.2.1"}),
        ({"ReferringPhysicianName": "M\xfcller^Anna"}, {"1.2.1"}),
        ({"StudyDate": "20240131"}, {"1.2.1"}),
        ({"StudyDate": "20240131-20240131"}, {"1.2.1"}),
        ({"StudyDate": "20240201-20251231"}, {"1.2.2"}),
        ({"StudyDate": "-20240131"}, {"1.2.1"}),
        ({"StudyDate": "20240201-"}, {"1.2.2"}),
        ({"StudyDate": "20260101-"}, set()),
        ({"StudyTime": "1015"}, {"1.2.1"}),
        ({"StudyTime": "10"}, {"1.2.1"}),
        ({"StudyTime": "101500"}, {"1.2.1"}),
        ({"StudyTime": "101501-"}, {"1.2.2"}),
        ({"StudyTime": "0900-1014"}, set()),
        ({"StudyTime": "0900-1015"}, {"1.2.1"}),
        ({"StudyTime": "235900-235900.5"}, {"1.2.2"}),
        ({"ModalitiesInStudy": "SR"}, {"1.2.1"}),
        ({"ModalitiesInStudy": "O?"}, {"1.2.2"}),
        ({"StudyInstanceUID": "1.2.2"}, {"1.2.2"}),
        ({"StudyInstanceUID": "1.2.2,1.2.1,9"}, {"1.2.1", "1.2.2"}),
        ({"StudyInstanceUID": "1.2.*"}, set()),
        ({"AccessionNumber": "A1", "StudyID": "7", "PatientBirthDate": ""}, {"1.2.1"}),
        ({"PatientBirthDate": "19700101"}, set()),
    ],
)
def test_studies_match_the_query(search, query, expected):
    assert set(values(search("studies", **query), STUDY_UID)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("thomas", {"1.2.1"}),
        ("ALBERT", {"1.2.1"}),
        ("Thomas Albert", {"1.2.1"}),
        ('"Thomas^Albert"', {"1.2.1"}),
        ("albert^tho", {"1.2.1"}),
        ("tho", {"1.2.1"}),
        ("hom", set()),
        ("ber", set()),
        ("thomas jane", set()),
        ("*smi*", {"1.2.2"}),
        ("", {"1.2.1", "1.2.2"}),
    ],
)
def test_fuzzy_matching_compares_the_start_of_words(search, name, expected):
    found = search("studies", PatientName=name, fuzzymatching="true")
    assert set(values(found, STUDY_UID)) == expected


def test_fuzzy_matching_applies_to_names_only(search):
    assert search("studies", PatientID="p", fuzzymatching="true") == []
    assert len(search("studies", ReferringPhysicianName="ANNA", fuzzymatching="true")) == 1
    assert search("studies", ReferringPhysicianName="ANNA", fuzzymatching="false") == []


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("studies/1.2.1/series", {"Modality": "CT"}, ["1.3.1"]),
        ("studies/1.2.1/series", {"0020000e": "1.3.2"}, ["1.3.2"]),
        ("series", {"Modality": "CT", "StudyDate": "20240101-20241231"}, ["1.3.1"]),
        ("series", {"SeriesNumber": "01"}, ["1.3.2"]),
        ("series", {"PatientName": "Smith*"}, ["1.3.3"]),
        ("series", {"ModalitiesInStudy": "CT"}, ["1.3.2", "1.3.1"]),
    ],
)
def test_series_match_the_query(search, path, query, expected):
    assert values(search(path, **query), SERIES_UID) == expected


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("studies/1.2.1/series/1.3.1/instances", {"SOPInstanceUID": "1.4.2"}, ["1.4.2"]),
        ("studies/1.2.1/instances", {"SeriesInstanceUID": "1.3.2"}, ["1.4.9"]),
        ("instances", {"00080018": "1.4.8,1.4.9"}, ["1.4.8", "1.4.9"]),
        ("instances", {"Modality": "SR", "SOPClassUID": str(pydicom.uid.SecondaryCaptureImageStorage)}, ["1.4.9"]),
    ],
)
def test_instances_match_the_query(search, path, query, expected):
    assert values(search(path, **query), INSTANCE_UID) == expected


def test_instances_can_be_found_by_their_import_warning(emulator, tmp_path):
    datastore_id = emulator.create_datastore("warnings")
    with warnings.catch_warnings(action="ignore"):
        for number, changes in enumerate(({}, {"AccessionNumber": "9" * 30})):
            (tmp_path / f"{number}.dcm").write_bytes(dicom_file(SOPInstanceUID=f"1.4.{number}", **changes))
        emulator.import_files(datastore_id, sorted(tmp_path.iterdir()))
    url = f"{emulator.url}/datastore/{datastore_id}/instances"
    (found,) = dicomweb_get(url, WarningReason=str(0xB202)).json()
    assert (found[INSTANCE_UID]["Value"], found["00081196"]) == (["1.4.1"], {"vr": "US", "Value": [0xB202]})


def test_counts_of_a_study_do_not_depend_on_the_path(search):
    found = search("studies/1.2.1/series/1.3.2/instances", includefield=["00201206", "00201208", "00080061"])
    assert [found[0][tag]["Value"] for tag in ("00201206", "00201208", "00080061")] == [[2], [4], ["CT", "SR"]]


# Included fields


def test_matched_attributes_are_in_the_results(search):
    (study,) = search("studies", StudyDescription="CT*")
    assert study["00081030"]["Value"] == ["CT Nuclear abdomen"]


def test_included_fields_are_named_by_tag_or_keyword(search):
    (study,) = search("studies", PatientID="P-1", includefield=["00081030", "Modality", "00081030"])
    assert study["00081030"]["Value"] == ["CT Nuclear abdomen"]
    assert study["00080060"]["Value"] == ["SR"]


@pytest.mark.parametrize(
    "field", ["00081030,00080060", "StudyDescription,Modality", "NoKeyword", "0008103", "", "all,", "7FE00010"]
)
def test_invalid_included_field_is_left_out(search, field):
    assert search("studies", includefield=field) == search("studies")
    assert "00081030" in search("studies", PatientID="P-1", includefield=[field, "StudyDescription"])[0]


def test_all_fields_of_a_study_and_a_series_are_those_of_their_level(search):
    (study,) = search("studies", PatientID="P-1", includefield="all")
    assert {"00081030", "00080062"} <= set(study)
    assert not {"00080060", "0020000E", "00280010"} & set(study)
    (series,) = search("studies/1.2.1/series", Modality="CT", includefield=["all", "00280010"])
    assert {"00081030", "00100010", "00080060", "00280010"} <= set(series)
    assert not {"00280011", "00080018"} & set(series)


def test_all_fields_of_an_instance_are_its_metadata(search, base):
    (found,) = search("studies/1.2.1/series/1.3.1/instances", SOPInstanceUID="1.4.1", includefield="all")
    (metadata,) = dicomweb_get(f"{found['00081190']['Value'][0]}/metadata").json()
    del metadata["00083002"]
    assert metadata.items() <= found.items()
    assert "7FE00010" not in found


@pytest.fixture
def with_sequence(emulator, tmp_path):
    dataset = pydicom.dcmread(io.BytesIO(dicom_file()))
    item, code = pydicom.Dataset(), pydicom.Dataset()
    code.CodeValue, code.CodeMeaning = "V", "meaning"
    item.PersonIdentificationCodeSequence = [code]
    item.InstitutionName = "clinic"
    dataset.ReferringPhysicianIdentificationSequence = [item]
    block = dataset.private_block(0x0019, "Philips", create=True)
    block.add_new(0x01, "LO", "private")
    dataset.save_as(tmp_path / "file.dcm")
    datastore_id = emulator.create_datastore("sequences")
    emulator.import_files(datastore_id, [tmp_path / "file.dcm"])
    return f"{emulator.url}/datastore/{datastore_id}"


def test_included_field_can_be_inside_a_sequence(with_sequence):
    def included(*fields):
        (found,) = dicomweb_get(f"{with_sequence}/studies", includefield=list(fields)).json()
        return found.get("00080096", {}).get("Value")

    code = {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["V"]}}]}
    clinic = {"vr": "LO", "Value": ["clinic"]}
    assert included("00080096.00401101.00080100") == [{"00401101": code}]
    assert included("00080096.InstitutionName") == [{"00080080": clinic}]
    assert included("00080096.00401101.00080100", "00080096.00080080") == [{"00401101": code, "00080080": clinic}]
    assert included("00080096.00080005") == [{}]
    assert included("00100010.00080005") is None
    assert "00080104" in included("00080096", "00080096.00080080")[0]["00401101"]["Value"][0]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"includefield": "00191001", "00190010": "Philips"}, {"00190010", "00191001"}),
        ({"00190010": "Philips"}, {"00190010"}),
        ({"includefield": "00191001", "00190010": "Other"}, set()),
        ({"includefield": "00191001"}, set()),
        ({"includefield": "00191001", "00190011": "Philips"}, set()),
    ],
)
def test_private_attributes_need_their_creator(with_sequence, query, expected):
    for path in ("studies", "series", "instances"):
        (found,) = dicomweb_get(f"{with_sequence}/{path}", **query).json()
        assert {tag for tag in found if tag.startswith("0019")} == expected


# Paging


def test_pages_divide_the_results(search):
    everything = values(search("instances"), INSTANCE_UID)
    pages = [values(search("instances", limit=2, offset=offset), INSTANCE_UID) for offset in (0, 2, 4, 6)]
    assert [*chain(*pages)] == everything
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    assert search("instances", offset=1_000_000) == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=1e2", "limit=%D9%A1",
        "offset=-1", "offset=1000001", "offset=1.0", "offset=1&offset=1",
        "fuzzymatching=yes", "fuzzymatching=true&fuzzymatching=true", "fuzzymatching=",
        "PatientID=1&PatientID=2", "PatientID=1&00100020=2",
        "StudyDate=2024", "StudyDate=2024-01-01", "StudyDate=-", "StudyDate=20240101-x", "StudyDate=*",
        "StudyTime=1", "StudyTime=10:15", "StudyTime=101500.1234567",
        "Modality=CT", "SeriesDescription=x", "imageSetId=1", "includefields=all", "orderby=StudyDate", "=x", "x",
        "PatientName=%FF", "PatientName=%C3%28", "00400275.00400009=x", "7FE00010=x", "00190009=x",
        "&".join(f"includefield=0008{number:04X}" for number in range(51)),
    ],
)  # fmt: skip
def test_invalid_query_is_refused(base, query):
    response = dicomweb_get(f"{base}/studies?{query}")
    assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (400, "ValidationException"), query


def test_error_does_not_repeat_personal_data(base):
    response = dicomweb_get(f"{base}/studies?{quote('Müller, Anna')}=1&PatientName=Smith")
    assert response.status_code == 400
    assert not any(word in response.text for word in ("Anna", "Smith"))


@pytest.mark.parametrize("accept", ["application/dicom+xml", "text/html", "application/dicom+json;q=0"])
def test_search_in_another_form_is_refused(base, accept):
    response = dicomweb_get(f"{base}/studies", accept)
    assert (response.status_code, response.headers["x-amzn-ErrorType"]) == (406, "NotAcceptableException")


@pytest.mark.parametrize("accept", [None, "*/*", "application/json;q=0.5, application/dicom+json"])
def test_search_answers_dicom_json(base, accept):
    assert dicomweb_get(f"{base}/studies", accept).headers["Content-Type"] == "application/dicom+json"


# Hostile queries

LEVELS = [STUDY_KEYS, SERIES_KEYS, ALL_SERIES_KEYS, INSTANCE_KEYS, ALL_INSTANCE_KEYS]
NAMES = st.one_of(
    st.sampled_from([*sorted(ALL_INSTANCE_KEYS), "limit", "offset", "fuzzymatching", "includefield", "00100010"]),
    st.text(max_size=20),
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="*?a^= -.,0123456789", max_size=60),
    st.sampled_from(["1", "20240101-", "true", "all", "00080096.00080100", "*" * 1000, "9" * 5000]),
)
PAIRS = st.lists(st.tuples(NAMES, TEXTS), max_size=5)


@given(
    pairs=PAIRS, keys=st.sampled_from(LEVELS), values=st.dictionaries(st.sampled_from(sorted(ALL_INSTANCE_KEYS)), TEXTS)
)
@settings(deadline=2_000)
def test_any_query_is_matched_or_refused(pairs, keys, values):
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    query = None
    with suppress(ServiceError):
        query = parse_query(text, keys)
    if query is None:
        return
    assert 1 <= query.limit <= MAX_LIMIT
    assert set(query.matches) <= keys
    assert query.accepts(values.get) in (True, False)


@given(query=st.text(alphabet=st.characters(codec="ascii", exclude_characters="#\r\n\t "), max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_string_gets_an_answer(base, query):
    for path in ("studies", "instances"):
        assert dicomweb_get(f"{base}/{path}?{query}").status_code in (200, 400)


def test_many_asterisks_do_not_slow_a_search():
    query = parse_query(f"StudyDescription={'*a' * 500}*b", STUDY_KEYS)
    assert not query.accepts(lambda _: "a" * 1_000)


@given(text=st.text(alphabet="ab", max_size=12), pattern=st.text(alphabet="ab*?", max_size=8))
def test_wildcards_match_as_in_a_shell(text, pattern):
    query = parse_query(f"StudyID={pattern}", STUDY_KEYS)
    assert query.accepts(lambda _: text) == (not pattern or fnmatch.fnmatchcase(text, pattern))
