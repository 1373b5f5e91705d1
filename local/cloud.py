"""Starts the local cloud: MiniStack as AWS, the emulator as HealthImaging, and the stack by ``cdk deploy``."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.error import URLError
from urllib.parse import urlsplit

import boto3
import psutil
from botocore.config import Config

from local import assets
from local.certificates import write_certificate
from local.health_imaging import HealthImagingEmulator

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parent.parent
MINISTACK_PYTHON = PROJECT / ".venv-ministack" / "bin" / "python"
CDK = PROJECT / "node_modules" / ".bin" / "cdk"
STATE = PROJECT / ".local-cloud"

ACCOUNT = "000000000000"
REGION = "us-east-1"
# MiniStack reads an access key of twelve digits as the account.
ACCESS_KEY, SECRET_KEY = ACCOUNT, "test"

# Like AWS, MiniStack rejects events from others whose source is aws.medical-imaging.
EVENT_SOURCE = "local.medical-imaging"

START_TIMEOUT_SECONDS = 30
DEPLOY_TIMEOUT_SECONDS = 300


class LocalCloudError(Exception):
    """The local cloud failed; the message says why."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The deployed stack: the URL of its API, and its outputs."""

    api_url: str
    frame_bucket: str
    export_queue_url: str
    deferred_store_queue_url: str
    dead_letter_queue_url: str
    state_machine_arn: str
    table_database: str | None
    table_workgroup: str | None


class LocalCloud:
    """A cloud on loopback that runs while its ``with`` block runs.

    Parameters
    ----------
    report : callable
        Called with a few words at each step.
    enforced : bool
        Whether IAM policies, bucket policies, CORS and signatures are enforced, as in AWS. This also turns TLS on.
    trusted : Path, optional
        The certificate of a server outside this cloud that the functions call.

    Attributes
    ----------
    health_imaging : HealthImagingEmulator
        The emulator, which runs in this process. Use it to add frames and arm faults.
    ca_bundle : Path or None
        The certificate to trust, if the cloud uses TLS.
    """

    health_imaging: HealthImagingEmulator
    ca_bundle: Path | None = None

    def __init__(
        self, report: Callable[[str], None] = lambda _: None, *, enforced: bool = False, trusted: Path | None = None
    ) -> None:
        self._report = report
        self._enforced = enforced
        self._trusted = trusted
        self._bootstrapped = False
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _start(self) -> None:
        STATE.mkdir(exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=STATE))
        self._resources.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._port = _free_port()
        if self._enforced:
            self.ca_bundle = self._folder / "server.crt"
            write_certificate(self.ca_bundle, self._folder / "server.key")
        self.health_imaging = self._resources.enter_context(
            HealthImagingEmulator(
                s3=self.client("s3"),
                events=self.client("events"),
                event_source=EVENT_SOURCE,
                account_id=ACCOUNT,
                region=REGION,
            )
        )
        self._report("starting MiniStack, which emulates AWS, and the HealthImaging emulator")
        self._start_ministack()

    def client(self, service: str) -> Any:
        """Create a boto3 client for a service of the local cloud."""
        return boto3.client(
            service,  # type: ignore[call-overload]  # the stubs list every service name as a literal
            endpoint_url=self.health_imaging.url if service == "medical-imaging" else self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            verify=str(self.ca_bundle) if self.ca_bundle else None,
            config=Config(signature_version="s3v4") if service == "s3" else Config(inject_host_prefix=False),
        )

    @property
    def endpoint(self) -> str:
        """The endpoint of every AWS service except HealthImaging."""
        return f"{'https' if self._enforced else 'http'}://localhost:{self._port}"

    def deploy(self, *datastore_ids: str, **context: str) -> Deployment:
        """Deploy the stack with ``cdk deploy``, as a user does.

        Parameters
        ----------
        *datastore_ids : str
            The data stores that the stack serves.
        **context : str
            Further configuration keys.

        Raises
        ------
        LocalCloudError
            If the CDK fails; the message has the CDK's output.
        """
        if not self._bootstrapped:
            self._report("bootstrapping the account (cdk bootstrap)")
            self._cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}", "--app", "")
            self._bootstrapped = True
        settings = {"datastore_ids": ",".join(datastore_ids), "event_source": EVENT_SOURCE, **context}
        keys = " ".join(f"-c {key}={value}" for key, value in settings.items() if key != "event_source")
        self._report(f"deploying the stack (cdk deploy {keys})")
        outputs_file, output = self._folder / "outputs.json", self._folder / "cdk.out"
        with assets.deploying():
            assets.restore(output)
            self._cdk(
                "deploy",
                *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
                *("--require-approval", "never", "--output", str(output)),
                *("--outputs-file", str(outputs_file)),
            )
            assets.save(output)
        (outputs,) = json.loads(outputs_file.read_text()).values()
        # The output names AWS's host; MiniStack serves the same API under a path.
        api_id = urlsplit(outputs["ApiUrl"]).netloc.partition(".")[0]
        stage = urlsplit(outputs["ApiUrl"]).path.strip("/")
        return Deployment(
            api_url=f"{self.endpoint}/_aws/execute-api/{api_id}/{stage}",
            frame_bucket=outputs["FrameBucketName"],
            export_queue_url=outputs["ExportQueueUrl"],
            deferred_store_queue_url=outputs["DeferredStoreQueueUrl"],
            dead_letter_queue_url=outputs["ExportDeadLetterQueueUrl"],
            state_machine_arn=outputs["ExportStateMachineArn"],
            table_database=outputs.get("TableDatabase"),
            table_workgroup=outputs.get("TableWorkgroup"),
        )

    def function_processes(self) -> list[psutil.Process]:
        """The worker processes that run functions.

        A process between fork and exec is left out: it is still a copy of MiniStack, with all of its memory.
        """
        ministack = psutil.Process(self._ministack.pid)
        return [each for each in ministack.children() if _command_of(each) not in ([], ministack.cmdline())]

    def _start_ministack(self) -> None:
        folders = {name: self._folder / name for name in ("TMPDIR", "STATE_DIR", "S3_DATA_DIR")}
        for folder in folders.values():
            folder.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            **{name: str(folder) for name, folder in folders.items()},
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self._port),
            # Functions inherit these and botocore reads them, so the stack itself needs no setting for an emulator.
            "AWS_ENDPOINT_URL_MEDICAL_IMAGING": self.health_imaging.url,
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        }
        if self._enforced:
            environment |= {
                "AUTH": "true",
                "USE_SSL": "1",
                "MINISTACK_SSL_CERT": str(self.ca_bundle),
                "MINISTACK_SSL_KEY": str(self._folder / "server.key"),
                "IOT_MTLS_ENABLED": "0",
            }
        if self._trusted:
            environment["SSL_CERT_FILE"] = str(self._trusted)
        log = self._resources.enter_context((self._folder / "ministack.log").open("wb"))
        # MiniStack gets its own session, so that Ctrl-C does not stop it before everything that depends on it.
        self._ministack = subprocess.Popen(
            [MINISTACK_PYTHON, "-m", "local.ministack"],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._resources.callback(_stop, self._ministack)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if self._ministack.poll() is not None or time.monotonic() > deadline:
                raise LocalCloudError(f"MiniStack did not start:\n{self._log_tail()}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        trust = ssl.create_default_context(cafile=self.ca_bundle) if self.ca_bundle else None
        try:
            url = f"{self.endpoint}/_ministack/health"
            with urllib.request.urlopen(url, timeout=1, context=trust) as answer:  # noqa: S310 - a loopback URL of ours
                return bool(answer.status == HTTPStatus.OK)
        except (URLError, OSError):
            return False

    def _log_tail(self) -> str:
        return "\n".join((self._folder / "ministack.log").read_text(errors="replace").splitlines()[-20:])

    def _cdk(self, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "CDK_DISABLE_CLI_TELEMETRY": "true",
            # cdk-nag takes longer than the rest of a synthesis; tests/infra/test_checks.py runs it.
            "CDK_VALIDATION": "false",
            "CI": "true",
            "NO_COLOR": "1",
        }
        if self.ca_bundle:
            environment |= {"AWS_CA_BUNDLE": str(self.ca_bundle), "NODE_EXTRA_CA_CERTS": str(self.ca_bundle)}
        try:
            done = subprocess.run(
                [CDK, *arguments, "--no-notices", "--progress", "events"],
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=DEPLOY_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as timeout:
            printed = (timeout.stdout or b"").decode(errors="replace")
            raise LocalCloudError(f"cdk {arguments[0]} took over {DEPLOY_TIMEOUT_SECONDS} s:\n{printed}") from None
        if done.returncode:
            raise LocalCloudError(f"cdk {arguments[0]} failed:\n{done.stdout}\nMiniStack's log:\n{self._log_tail()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop MiniStack and the functions that it runs."""
    try:
        workers = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        workers = []
    process.terminate()
    _, alive = psutil.wait_procs([psutil.Process(process.pid), *workers] if process.poll() is None else workers, 5)
    for straggler in alive:
        straggler.kill()
    process.wait()


def _command_of(process: psutil.Process) -> list[str]:
    """The command line of a process; empty if the process has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
