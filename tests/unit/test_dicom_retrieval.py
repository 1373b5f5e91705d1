"""DICOMweb's routes for DICOM files: an instance, and a series."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest

from framegate.identifiers import ImageSetRef
from framegate.time_budget import TimeBudget
from tests.unit.conftest import SERVED, Client
from tests.unit.dicom_files import read
from tests.unit.dicomweb import HTJ2K, UNKNOWN_UID, DicomWeb, dataset_of, parts_of
from tests.unit.exporting import content, keys


@pytest.fixture
def web(new_api, settings, emulator, health_imaging):
    return DicomWeb(Client(new_api(replace(settings, dicom_files=True))), emulator)


@pytest.fixture
def ct(dicom_samples):
    return dicom_samples["CT_small.dcm"]


def test_files_are_501_and_name_the_key_where_they_are_off(client, emulator, ct):
    for operation in ("retrieveInstance", "retrieveSeries"):
        answer = DicomWeb(client, emulator).get(operation, ct)
        assert (answer.status, answer.json()["type"]) == (501, "urn:framegate:problem:not-supported")
        assert "export_output=dicom" in answer.json()["detail"]


def test_instance_comes_as_one_file(web, ct):
    answer = web.get("retrieveInstance", ct)
    assert (answer.status, answer.headers["Content-Type"]) == (200, f"application/dicom; transfer-syntax={HTJ2K}")
    file = read(answer.body)
    assert (file.SOPInstanceUID, file.PatientName) == (ct.SOPInstanceUID, ct.PatientName)
    assert file.file_meta.TransferSyntaxUID == HTJ2K


@pytest.mark.parametrize("accept", ['multipart/related; type="application/dicom"', "multipart/related"])
def test_instance_comes_as_a_part_if_the_client_asks_for_it(web, ct, accept):
    answer = web.get("retrieveInstance", ct, headers={"Accept": accept})
    ((part_type, file),) = parts_of(answer)
    assert (answer.status, part_type) == (200, f"application/dicom; transfer-syntax={HTJ2K}")
    assert read(file).SOPInstanceUID == ct.SOPInstanceUID


@pytest.mark.parametrize(
    ("operation", "accept"),
    [
        ("retrieveInstance", "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
        ("retrieveInstance", "image/png"),
        ("retrieveSeries", "application/dicom"),
    ],
)
def test_other_forms_are_not_acceptable(web, ct, operation, accept):
    assert web.get(operation, ct, headers={"Accept": accept}).status == 406


def test_instance_is_built_once(web, ct, s3):
    first = web.get("retrieveInstance", ct)
    before = len(web.calls())
    assert web.get("retrieveInstance", ct).body == first.body
    assert web.calls()[before:] == []
    assert len(keys(s3, "instances/")) == 1


def test_large_file_is_delivered_by_redirect(new_api, settings, delivery_from, source, emulator, ct, s3):
    delivery = delivery_from(source, inline_limit=1_000)
    web = DicomWeb(Client(new_api(replace(settings, dicom_files=True), delivery)), emulator)
    answer = web.get("retrieveInstance", ct)
    (key,) = keys(s3, "instances/")
    assert answer.status == 303
    assert key in answer.headers["Location"]
    assert read(content(s3, key)).SOPInstanceUID == ct.SOPInstanceUID

    answer = web.get("retrieveSeries", ct)
    (body,) = keys(s3, "bodies/")
    assert answer.status == 303
    assert body in answer.headers["Location"]
    before = len(web.calls())
    assert web.get("retrieveSeries", ct).status == 303
    assert web.calls()[before:] == []


def test_series_comes_as_one_part_per_instance(web, add_datasets):
    datasets = [new_dataset("1.2.3.17", number) for number in range(1, 4)]
    add_datasets(*datasets)
    answer = web.get("retrieveSeries", datasets[0])
    assert answer.status == 200
    uids = [read(file).SOPInstanceUID for _, file in parts_of(answer)]
    assert sorted(uids) == sorted(each.SOPInstanceUID for each in datasets)


def test_unchanged_files_are_304(web, ct):
    for operation in ("retrieveInstance", "retrieveSeries"):
        first = web.get(operation, ct)
        again = web.get(operation, ct, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")


def test_unknown_instance_is_404(web, ct):
    assert web.get("retrieveInstance", ct, instanceUID=UNKNOWN_UID).status == 404
    assert web.get("retrieveSeries", ct, seriesInstanceUID=UNKNOWN_UID).status == 404


def test_file_is_built_again_for_a_new_version(new_api, settings, add_datasets, health_imaging, frame_index):
    def retrieve():
        """Ask a function that remembers nothing."""
        web = DicomWeb(Client(new_api(replace(settings, dicom_files=True))), health_imaging)
        return read(web.get("retrieveInstance", dataset).body)

    dataset = new_dataset("1.2.3.18", 1)
    (image_set,) = add_datasets(dataset)
    assert retrieve().PatientName == dataset.PatientName
    renamed = deepcopy(image_set.versions[-1])
    renamed["Patient"]["DICOM"]["PatientName"] = "New^Name"
    image_set.versions.append(renamed)
    frame_index.note_version(ImageSetRef(SERVED, image_set.id), "2", TimeBudget(60))
    assert retrieve().PatientName == "New^Name"


def new_dataset(series_uid, number):
    dataset = dataset_of("CT_small.dcm")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{series_uid}.1", series_uid
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{series_uid}.2.{number}"
    dataset.InstanceNumber = number
    return dataset
