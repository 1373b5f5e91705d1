"""Runs OHIF on the local cloud until Ctrl-C, with a login page, and prints the URL to open."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from local.cloud import LocalCloud
from local.command import run_command
from local.importing import import_folder
from local.samples import write_samples
from local.token_issuer import TokenIssuer
from local.viewer import ohif
from local.viewer.site import ViewerSite


def _report(text: str) -> None:
    print(f"… {text}", flush=True)


def run() -> int:
    """Start everything, print the URL, and wait for Ctrl-C."""
    application = ohif.download(_report)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with TokenIssuer(folder, "/viewer") as issuer, LocalCloud(_report, trusted=issuer.certificate) as cloud:
            datastore_id = cloud.client("medical-imaging").create_datastore(datastoreName="viewer")["datastoreId"]
            samples = folder / "samples"
            samples.mkdir()
            write_samples(samples)
            _report("importing DICOM files")
            import_folder(cloud, datastore_id, samples)
            with ViewerSite(application, issuer, issuer.new_key("ES256", "viewer")) as site:
                site.deploy(cloud, datastore_id)
                print(f"\nOpen {site.url} and log in with any name. Press Ctrl-C to stop.", flush=True)
                threading.Event().wait()
    return 0


if __name__ == "__main__":
    run_command(run)
