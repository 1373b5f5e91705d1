"""An emulator of AWS HealthImaging for development and tests. It knows nothing of Framegate.

It imports DICOM files, stores their frames as the service does, and answers every operation of botocore's model of the
service on 127.0.0.1. Any AWS SDK or the AWS CLI can call it, and any DICOMweb client that can sign. State is in memory.

Run it
    ``python -m local.health_imaging --dicom FOLDER`` from a shell, or `HealthImagingEmulator` as a context manager
    from Python.

Test failures
    `Fault` describes an exception, latency, a slow or broken response; ``emulator.faults.arm(Fault(...))`` or
    ``POST /_emulator/faults`` arms it. ``emulator.calls`` or ``GET /_emulator/calls`` lists the calls.

The modules, from the bottom up:

============================================================================  =====================================
``identifiers``, ``errors``, ``strict_json``                                  small shared parts
``frames``, ``image_sets``, ``datastores``                                    the data model
``dicom_files``, ``attributes``, ``decoders``, ``transcoding``,               DICOM files into attributes and frames
``import_warnings``, ``quiet_pydicom``, ``instances``
``changes``, ``metadata_updates``                                             updates, copies and versions
``jobs``, ``import_job``, ``manifests``, ``events``                           import jobs, their output, EventBridge
``protocol``, ``client_tokens``, ``throttling``                               restJson1, idempotency, quotas
``operations``                                                                the API: one method per operation
``media_ranges``, ``dicom_json``, ``dicomweb_attributes``,                    DICOMweb: searches and retrieval
``dicomweb_queries``, ``dicomweb_instances``, ``dicomweb_searches``,
``dicomweb_retrieval``, ``dicomweb``
``faults``, ``faulty_connection``                                             faults, and their effect on a response
``answers``, ``administration``, ``server``                                   HTTP
``service``, ``emulator``                                                     all of it joined, without and with HTTP
============================================================================  =====================================

To add an operation, write a method in ``operations`` with boto3's name for it. ``protocol`` takes the route, the
parameters, their constraints and the form of the response from botocore's model. DICOMweb is not in the model: its
routes are in ``dicomweb``.

Not emulated: signatures are not verified (a request needs an ``Authorization`` header), changes to image sets complete
at once, and there is no STOW-RS and no login with OpenID Connect.
"""

from local.health_imaging.emulator import HealthImagingEmulator
from local.health_imaging.faults import Call, Fault
from local.health_imaging.frames import GeneratedBody
from local.health_imaging.image_sets import FrameAddress

__all__ = ["Call", "Fault", "FrameAddress", "GeneratedBody", "HealthImagingEmulator"]
