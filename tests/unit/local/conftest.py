"""Fixtures for tests that need an emulator of their own, with the events that it sends."""

import pytest

from local.health_imaging import HealthImagingEmulator
from tests.unit.local.emulated import Bus, dicom_file, new_client


@pytest.fixture(scope="module")
def bus():
    return Bus()


@pytest.fixture(scope="module")
def own_emulator(aws_environment, bus):
    """A separate emulator, because the data stores of other tests would appear in its lists."""
    with HealthImagingEmulator(events=bus) as running:
        yield running


@pytest.fixture
def boto(own_emulator):
    return new_client(own_emulator.url)


@pytest.fixture
def datastore_id(own_emulator):
    return own_emulator.create_datastore("test")


@pytest.fixture
def import_ct(own_emulator, datastore_id, tmp_path):
    """Imports CT files with changed attributes; returns the distinct ids of their image sets."""

    def import_files(*files):
        paths = [dicom_file(tmp_path, **attributes) for attributes in files]
        return [each.id for each in own_emulator.import_files(datastore_id, paths)]

    return import_files


@pytest.fixture
def image_set_id(import_ct):
    (image_set_id,) = import_ct({"SOPInstanceUID": "1.2.1"}, {"SOPInstanceUID": "1.2.2"})
    return image_set_id


@pytest.fixture
def non_primary_id(import_ct):
    """A non-primary image set, whose patient conflicts with that of `image_set_id`."""
    import_ct({"SOPInstanceUID": "1.2.1"})
    (image_set_id,) = import_ct({"SOPInstanceUID": "1.2.3", "PatientName": "Another"})
    return image_set_id
