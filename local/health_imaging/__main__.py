"""The emulator on its own: ``python -m local.health_imaging``."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import boto3

from local.health_imaging import HealthImagingEmulator
from local.signals import stop_in_good_order

_DESCRIPTION = """\
AWS HealthImaging on this machine, for developing against it: data stores, DICOM import, image sets, metadata, frames.
Any AWS SDK and the AWS CLI can call it; signatures are not checked, but there has to be one. Faults are armed with
POST /_emulator/faults, for example {"operation": "GetImageFrame", "error": "ThrottlingException", "times": 3}, and
disarmed with DELETE; GET /_emulator/calls tells what was called."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.health_imaging", description=_DESCRIPTION)
    parser.add_argument("--port", type=int, default=4590, help="port on 127.0.0.1, 0 for any free one (default: 4590)")
    parser.add_argument("--dicom", type=Path, metavar="FOLDER", help="import the DICOM files in and below this folder")
    parser.add_argument("--s3-endpoint", metavar="URL", help="where StartDICOMImportJob reads files, such as MiniStack")
    parser.add_argument("--events-endpoint", metavar="URL", help="EventBridge to send image set events to")
    parser.add_argument(
        "--event-source",
        default="aws.medical-imaging",
        metavar="SOURCE",
        help="source of these events; clouds refuse aws.* from anyone else (default: aws.medical-imaging)",
    )
    parser.add_argument(
        "--throttles",
        choices=["documented"],
        help="enforce quotas with ThrottlingException: documented, those of the developer guide (default: none)",
    )
    arguments = parser.parse_args()
    if arguments.dicom is not None and not arguments.dicom.is_dir():
        parser.error(f"--dicom: there is no folder {arguments.dicom}")
    return arguments


def main() -> int:
    """Run the emulator from the command line."""
    arguments = _arguments()
    stop_in_good_order()
    try:
        emulator = HealthImagingEmulator(
            port=arguments.port,
            s3=boto3.client("s3", endpoint_url=arguments.s3_endpoint) if arguments.s3_endpoint else None,
            events=boto3.client("events", endpoint_url=arguments.events_endpoint)
            if arguments.events_endpoint
            else None,
            event_source=arguments.event_source,
            throttles=arguments.throttles,
        )
    except (OSError, OverflowError) as error:
        print(f"Port {arguments.port} cannot be used ({error}); choose another with --port.", file=sys.stderr)
        return 1
    with emulator:
        _introduce(emulator, arguments.dicom)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("\nstopped")
    return 0


def _introduce(emulator: HealthImagingEmulator, folder: Path | None) -> None:
    print(f"HealthImaging is at {emulator.url}. For SDKs and the CLI:")
    print(f"  export AWS_ENDPOINT_URL_MEDICAL_IMAGING={emulator.url}")
    print("  export AWS_DISABLE_HOST_PREFIX_INJECTION=true")
    datastore_id = emulator.create_datastore("local")
    print(f"Data store: {datastore_id}", flush=True)
    if folder is None:
        return
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    image_sets = emulator.import_files(datastore_id, paths)
    frames = sum(len(each.frames) for each in image_sets)
    print(f"Imported {frames} frames of {len(image_sets)} image sets from {len(paths)} files.")
    for image_set in image_sets:
        for frame_id in list(image_set.frames)[:1]:
            print(
                f"  aws medical-imaging get-image-frame --datastore-id {datastore_id} --image-set-id {image_set.id} "
                f"--image-frame-information imageFrameId={frame_id} frame.bin"
            )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
