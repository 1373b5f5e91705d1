"""DICOMweb clients that are not ours work with the emulator."""

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session

from local.health_imaging import HealthImagingEmulator
from local.health_imaging.decoders import decode_frame
from tests.unit.local.dicom_builder import dicom_file
from tests.unit.local.emulated import SigV4

PIXELS = np.arange(2 * 32 * 32, dtype=np.uint16).reshape(2, 32, 32)
SERIES = ("1.2.1", "1.3.1")
UIDS = (*SERIES, "1.4.2")


@pytest.fixture(scope="module")
def base(aws_environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for number in (1, 2, 3):
        content = dicom_file(
            PIXELS[0],
            series=SERIES,
            SOPInstanceUID=f"1.4.{number}",
            InstanceNumber=number,
            NumberOfFrames=2,
            PixelData=PIXELS.tobytes(),
            ICCProfile=bytes(1 << 21),
        )
        (folder / f"{number}.dcm").write_bytes(content)
    with HealthImagingEmulator() as emulator:
        datastore_id = emulator.create_datastore("clients")
        emulator.import_files(datastore_id, sorted(folder.iterdir()))
        yield f"{emulator.url}/datastore/{datastore_id}"


@pytest.fixture
def client(base):
    session = create_session()
    session.auth = SigV4()
    return DICOMwebClient(base, session=session)


# dicomweb-client


def test_client_finds_studies_series_and_instances(client):
    (study,) = client.search_for_studies(search_filters={"PatientID": "P"}, fields=["StudyDescription"])
    (series,) = client.search_for_series(SERIES[0])
    instances = client.search_for_instances(*SERIES, search_filters={"SOPInstanceUID": UIDS[2]})
    assert study["00201208"]["Value"] == [3]
    assert series["0020000E"]["Value"] == ["1.3.1"]
    assert [each["00080018"]["Value"] for each in instances] == [["1.4.2"]]
    assert client.search_for_series(search_filters={"PatientID": "none"}) == []


def test_client_reads_every_page(client):
    found = client.search_for_instances(limit=2, get_remaining=True)
    assert [each["00200013"]["Value"][0] for each in found] == [1, 2, 3]


def test_client_retrieves_metadata(client):
    documents = client.retrieve_series_metadata(*SERIES)
    assert [pydicom.Dataset.from_json(each, lambda *_: b"").InstanceNumber for each in documents] == [1, 2, 3]
    assert client.retrieve_instance_metadata(*UIDS) == documents[1]


def test_client_retrieves_frames(client):
    stored = client.retrieve_instance_frames(*UIDS, [2, 1], media_types=(("application/octet-stream", "*"),))
    decoded = [decode_frame("1.2.840.10008.1.2.4.202", each) for each in stored]
    assert np.array_equal(decoded, PIXELS[::-1])
    (uncompressed,) = client.retrieve_instance_frames(*UIDS, [1])
    assert uncompressed == PIXELS[0].tobytes()


def test_client_retrieves_a_file(client):
    file = client.retrieve_instance(*UIDS, media_types=(("application/dicom", "1.2.840.10008.1.2.1"),))
    assert (file.SOPInstanceUID, np.array_equal(file.pixel_array, PIXELS)) == ("1.4.2", True)
    stored = client.retrieve_instance(*UIDS)
    assert stored.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.202"


def test_client_retrieves_bulk_data(client):
    document = client.retrieve_instance_metadata(*UIDS)
    (content,) = client.retrieve_bulkdata(document["00282000"]["BulkDataURI"])
    assert content == bytes(1 << 21)


# A client that only signs requests


@pytest.mark.parametrize(
    ("path", "accept", "content_type"),
    [
        ("studies", "application/dicom+json", "application/dicom+json"),
        ("studies/1.2.1/series", "application/dicom+json", "application/dicom+json"),
        ("studies/1.2.1/series/1.3.1/instances", "application/dicom+json", "application/dicom+json"),
        ("studies/1.2.1/instances", "application/dicom+json", "application/dicom+json"),
        ("series", "application/dicom+json", "application/dicom+json"),
        ("instances", "application/dicom+json", "application/dicom+json"),
        ("studies/1.2.1/series/1.3.1/metadata", "application/dicom+json", "application/dicom+json"),
        ("studies/1.2.1/series/1.3.1/instances/1.4.2/metadata", "application/dicom+json", "application/dicom+json"),
        ("studies/1.2.1/series/1.3.1/instances/1.4.2", "application/dicom; transfer-syntax=1.2.840.10008.1.2.1",
         "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
        ("studies/1.2.1/series/1.3.1/instances/1.4.2/frames/1",
         "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", "multipart/related"),
    ],
)  # fmt: skip
def test_requests_of_the_developer_guide_are_answered(base, path, accept, content_type):
    response = requests.get(f"{base}/{path}", headers={"Accept": accept}, auth=SigV4(), timeout=10)
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(content_type)
