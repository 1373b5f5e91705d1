"""Runs the emulator from the command line: ``python -m local.health_imaging``."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import boto3

from local.health_imaging import HealthImagingEmulator
from local.signals import unwind_on_signals

_DESCRIPTION = """\
Emulates AWS HealthImaging on this machine: data stores, DICOM import, image sets, metadata and frames, in memory.
It creates one data store, prints its id, and serves until Ctrl-C. Any AWS SDK or the AWS CLI can call it: set the two
environment variables that it prints. Requests must be signed, with any credentials; signatures are not verified."""

_EPILOGUE = """\
examples:
  import a folder of DICOM files, and fetch the first frame:
    python -m local.health_imaging --dicom ~/dicom
    (then run one of the "aws medical-imaging get-image-frame" lines that it prints)

  throttle the next three GetImageFrame calls:
    curl -d '{"operation": "GetImageFrame", "error": "ThrottlingException", "times": 3}' \\
      http://127.0.0.1:4590/_emulator/faults

  break off every frame after 1,000 bytes:
    curl -d '{"then": "reset", "after": 1000}' http://127.0.0.1:4590/_emulator/faults

faults and calls:
  GET, POST and DELETE /_emulator/faults lists, arms and disarms faults. Members of a fault:
  operation (default GetImageFrame; null for all), error, latency (seconds), then (reset, close or stall),
  after (bytes of the body), bytes_per_second, stall_seconds, times, probability,
  datastore_id, image_set_id, image_frame_id.
  GET and DELETE /_emulator/calls lists and forgets the calls that the emulator answered."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.health_imaging",
        description=_DESCRIPTION,
        epilog=_EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=4590, help="port on 127.0.0.1; 0 picks a free one (default: 4590)")
    parser.add_argument("--dicom", type=Path, metavar="FOLDER", help="import every DICOM file in this folder tree")
    parser.add_argument("--s3-endpoint", metavar="URL", help="S3 that StartDICOMImportJob reads, such as MiniStack")
    parser.add_argument("--events-endpoint", metavar="URL", help="EventBridge that receives the service's events")
    parser.add_argument(
        "--event-source",
        default="aws.medical-imaging",
        metavar="SOURCE",
        help="source of these events; EventBridge accepts aws.* from AWS only (default: aws.medical-imaging)",
    )
    parser.add_argument(
        "--throttles",
        choices=["documented"],
        help="answer calls above the developer guide's quotas with ThrottlingException (default: no quotas)",
    )
    arguments = parser.parse_args()
    if arguments.dicom is not None and not arguments.dicom.is_dir():
        parser.error(f"--dicom: {arguments.dicom} is not a folder")
    return arguments


def main() -> int:
    """Run the emulator from the command line."""
    arguments = _arguments()
    unwind_on_signals()
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
    print(f"HealthImaging emulator: {emulator.url}\nFor SDKs and the AWS CLI:")
    print(f"  export AWS_ENDPOINT_URL_MEDICAL_IMAGING={emulator.url}")
    print("  export AWS_DISABLE_HOST_PREFIX_INJECTION=true")
    datastore_id = emulator.create_datastore("local")
    print(f"Data store: {datastore_id}", flush=True)
    if folder is None:
        return
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    image_sets = emulator.import_files(datastore_id, paths)
    frames = sum(len(each.frames) for each in image_sets)
    print(f"Imported {frames} frames in {len(image_sets)} image sets from {len(paths)} files. First frames:")
    for image_set in image_sets:
        for frame_id in list(image_set.frames)[:1]:
            print(
                f"  aws medical-imaging get-image-frame --datastore-id {datastore_id} --image-set-id {image_set.id} "
                f"--image-frame-information imageFrameId={frame_id} frame.bin"
            )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
