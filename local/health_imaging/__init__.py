"""An emulator of AWS HealthImaging: DICOM files in, image frames out, in the service's own wire form."""

from local.health_imaging.datastores import FrameAddress
from local.health_imaging.emulator import HealthImagingEmulator
from local.health_imaging.faults import Call, Fault
from local.health_imaging.frames import GeneratedBody

__all__ = ["Call", "Fault", "FrameAddress", "GeneratedBody", "HealthImagingEmulator"]
