"""No identifying attribute in anything that Framegate wrote while the other tests ran. This file runs last."""

from __future__ import annotations

import gzip
import json
import re
import time

import pydicom
import pytest

from tests.e2e.conftest import Api
from tests.e2e.watching import log_messages

IDENTIFYING_VRS = {"PN", "DA", "TM", "DT", "LO", "LT", "SH", "ST", "UC", "UT", "UI", "AS"}
# These attributes identify formats and classes, not persons or objects.
KINDS = {
    "SOPClassUID", "MediaStorageSOPClassUID", "TransferSyntaxUID", "ImplementationClassUID", "CodingSchemeDesignator",
    "SpecificCharacterSet",
}  # fmt: skip
SOP_INSTANCE = {"SOPInstanceUID", "MediaStorageSOPInstanceUID"}
MIN_TEXT_LENGTH, MIN_NUMBER_LENGTH = 4, 8
"""Minimum length of a value to search for. Shorter values occur in any text by chance, and six digits can be a size."""


@pytest.fixture(scope="module")
def datasets(imported):
    return [pydicom.dcmread(path) for path in sorted(imported.folder.iterdir())]


@pytest.fixture(scope="module")
def identifying(datasets):
    """All values of the imported files that could identify a patient, a study or a device."""
    values = set()

    def collect(dataset):
        for element in dataset:
            if element.VR == "SQ":
                for item in element.value:
                    collect(item)
            elif element.VR in IDENTIFYING_VRS and element.keyword not in KINDS | SOP_INSTANCE:
                several = element.value if element.VM > 1 else [element.value]
                values.update(str(value).strip() for value in several)

    for dataset in datasets:
        collect(dataset)
    return {
        value
        for value in values
        if len(value) >= (MIN_NUMBER_LENGTH if value.isdecimal() else MIN_TEXT_LENGTH)
        and not value.startswith("1.2.840.10008.")
    }


@pytest.fixture(scope="module")
def sop_instance_uids(datasets):
    return {str(dataset.SOPInstanceUID) for dataset in datasets}


def found_in(text, values):
    """The values that occur in a text as whole words. Digits within an identifier or a time are not a date."""
    return {
        value
        for value in values
        if value in text and re.search(rf"(?<![0-9A-Za-z.]){re.escape(value)}(?![0-9A-Za-z.])", text)
    }


@pytest.fixture(scope="module")
def written(cloud, deployment, heard, answered, imported):
    """All written text by kind. Manifests and indexes, which may contain SOP instance UIDs, are a kind of their own."""
    s3, bucket = cloud.client("s3"), deployment.frame_bucket
    texts = {
        "log lines and metrics": list(log_messages(cloud)),
        "events, including each written key": heard(),
        "errors": answered,
        "keys, tags and headers": [],
        "manifests and indexes": [],
        "datasets for viewers": [],
    }
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for key in (each["Key"] for each in page.get("Contents", [])):
            is_frame = key.startswith(("frames/", "mismatched/"))
            if is_frame and imported.datastore_id not in key:
                # Thousands of frames of other tests have no patient.
                texts["keys, tags and headers"].append(key)
            elif is_frame:
                tags = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
                head = s3.head_object(Bucket=bucket, Key=key)
                texts["keys, tags and headers"].append(f"{key} {tags} {head['ResponseMetadata']['HTTPHeaders']}")
            else:
                texts["keys, tags and headers"].append(key)
                content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
                if key.startswith(("metadata/", "bodies/", "studies/")):
                    # What viewers request contains all attributes. Only the keys must not.
                    texts["datasets for viewers"].append(repr(content))
                    continue
                lists_frames = key.endswith("/manifest.jsonl") or key.startswith("indexes/")
                texts["manifests and indexes" if lists_frames else "keys, tags and headers"].append(content.decode())
    return {kind: "\n".join(parts) for kind, parts in texts.items()}


def test_search_finds_attributes_in_metadata(imported, health_imaging, identifying, sop_instance_uids):
    """The other tests could fail: HealthImaging's metadata contains nearly all values."""
    image_sets = {frame.image_set_id for frame in imported.frames}
    metadata = "".join(
        gzip.decompress(
            health_imaging.get_image_set_metadata(datastoreId=imported.datastore_id, imageSetId=each)[
                "imageSetMetadataBlob"
            ].read()
        ).decode()
        for each in image_sets
    )
    assert len(identifying) > 200
    assert len(found_in(metadata, identifying)) > 0.8 * len(identifying)
    assert found_in(metadata, sop_instance_uids) == sop_instance_uids


def test_something_of_every_kind_was_written(written):
    assert {kind for kind, text in written.items() if not text} == set()
    assert "_aws" in written["log lines and metrics"]
    assert "urn:framegate:problem:" in written["errors"]
    assert {event["source"] for event in map(json.loads, written[_EVENTS].splitlines())} >= {"framegate", "aws.s3"}


_EVENTS = "events, including each written key"
KINDS_OF_TEXT = [
    "log lines and metrics",
    _EVENTS,
    "errors",
    "keys, tags and headers",
    "manifests and indexes",
]


@pytest.mark.parametrize("kind", KINDS_OF_TEXT)
def test_written_text_contains_no_identifying_attribute(written, identifying, sop_instance_uids, kind):
    text = written[kind]
    if kind == "manifests and indexes":
        # A UID may contain a date.
        for uid in sop_instance_uids:
            text = text.replace(uid, "")
    assert found_in(text, identifying) == set()


@pytest.mark.parametrize("kind", [kind for kind in KINDS_OF_TEXT if kind != "manifests and indexes"])
def test_sop_instance_uids_appear_only_in_manifests_and_indexes(written, sop_instance_uids, kind):
    assert found_in(written[kind], sop_instance_uids) == set()
    assert found_in(written["manifests and indexes"], sop_instance_uids) == sop_instance_uids


def test_searches_and_uids_leave_no_trace_of_patients(cloud, deployment, imported, datasets, s3):
    """UIDs are in paths, and names in queries. The function's log and the bucket's keys are compared here.

    Without the measures, these logs would hold them: the traces of API Gateway, whose segments contain the URL (its
    tracing is off); the access log, if its format had the path (it has the template of the route); the firewall's log
    (it redacts path and query); and a function's log line that quotes an error of HealthImaging (no line quotes one).
    `tests/infra` shows the first three, because the local cloud writes none of these logs.
    """
    api = Api(deployment.api_url)
    base = f"{deployment.api_url}/datastore/{imported.datastore_id}"
    since = time.time()
    secrets = set()
    for dataset in datasets:
        study = f"{base}/studies/{dataset.StudyInstanceUID}"
        series = f"{study}/series/{dataset.SeriesInstanceUID}"
        name = str(dataset.get("PatientName", "")) or "Nobody^Known"
        secrets |= {name, str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)}
        for url, query in (
            (f"{base}/studies", {"PatientName": name}),
            (f"{base}/studies", {"PatientName": name, "limit": "-1"}),
            (f"{study}/series", {"PatientName": name}),
            (f"{series}/metadata", {}),
            (f"{series}/instances/{dataset.SOPInstanceUID}/frames/1", {"accept": name}),
            (f"{study}/series/1.2.3/metadata", {}),
        ):
            assert api.request("GET", url, params=query).status_code in (200, 303, 400, 404, 406)
    lines = "\n".join(log_messages(cloud, "ApiFunction", since))
    assert "studies/{studyInstanceUID}/series" in lines
    keys = "\n".join(
        each["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=deployment.frame_bucket)
        for each in page["Contents"]
    )
    assert "metadata/" in keys
    assert found_in(lines + keys, {each for each in secrets if len(each) >= MIN_TEXT_LENGTH}) == set()
