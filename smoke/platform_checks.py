"""Checks the account and the stack before any call, and what only AWS can show, such as SnapStart and logs."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from smoke.deployment import EMULATED, HEALTH_IMAGING
from smoke.report import CheckFailedError, CheckSkippedError, expect

if TYPE_CHECKING:
    from smoke.deployment import Deployment

ACCESS_LOG_TIMEOUT_SECONDS = 120
"""API Gateway usually delivers its access log within a minute."""

CONNECT_TIMEOUT_SECONDS = 10


class PlatformChecks:
    """Checks of the account, the stack and the services around it.

    Parameters
    ----------
    deployment : Deployment
        The deployment under test.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    def credentials(self) -> str:
        """There are valid credentials and a Region."""
        if not self._deployment.region:
            raise CheckFailedError("no Region is configured: set AWS_REGION")
        identity = self._deployment.client("sts").get_caller_identity()
        return f"{identity['Arn']} in {self._deployment.region}"

    def health_imaging(self) -> str:
        """HealthImaging has an endpoint in this Region."""
        return self._deployment.require_health_imaging()

    def stack(self) -> str:
        """The stack exists and its last deployment succeeded."""
        status = self._deployment.stack["StackStatus"]
        if status not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            raise CheckFailedError(f"the stack is {status}: its last deployment did not succeed")
        return f"{self._deployment.stack_name} is {status}"

    def data_stores(self) -> str:
        """Every served data store exists and is active."""
        client = self._deployment.client(HEALTH_IMAGING)
        for datastore_id in self._deployment.datastore_ids:
            properties = client.get_datastore(datastoreId=datastore_id)["datastoreProperties"]
            expect(f"status of {datastore_id}", properties["datastoreStatus"], "ACTIVE")
        return f"{len(self._deployment.datastore_ids)} active"

    def alarms(self) -> str:
        """No alarm of the stack is in the state ALARM."""
        names = [physical for kind, physical in self._deployment.resources.values() if kind == "AWS::CloudWatch::Alarm"]
        answer = self._deployment.client("cloudwatch").describe_alarms(AlarmNames=names)
        active = [each["AlarmName"] for each in answer["MetricAlarms"] if each["StateValue"] == "ALARM"]
        if active:
            raise CheckFailedError(f"in ALARM: {', '.join(active)}; docs/operations.md says what to do")
        return f"{len(names)} alarms, none in ALARM"

    def dead_letters(self) -> str:
        """The dead-letter queues are empty."""
        name = "ApproximateNumberOfMessages"
        for output in ("ExportDeadLetterQueueUrl", "DeferredStoreDeadLetterQueueUrl"):
            url = self._deployment.outputs[output]
            answer = self._deployment.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=[name])
            expect(f"messages in {output}", answer["Attributes"][name], "0")
        return "empty"

    def snap_start(self) -> str:
        """The API function's live version uses SnapStart."""
        if EMULATED:
            raise CheckSkippedError("an emulated cloud has no SnapStart")
        alias = self._deployment.resource("AWS::Lambda::Alias", "ApiFunction")
        configuration = self._deployment.client("lambda").get_function_configuration(FunctionName=alias)
        expect("SnapStart's OptimizationStatus", configuration["SnapStart"]["OptimizationStatus"], "On")
        return f"on, version {configuration['Version']}"

    def tls(self) -> str:
        """The API negotiates TLS 1.2 or 1.3, and rejects TLS 1.1."""
        url = urlsplit(self._deployment.api_url)
        if url.scheme != "https":
            raise CheckSkippedError(f"the API is at {url.scheme}://")
        newest = self._negotiated(str(url.hostname), url.port or 443, ssl.create_default_context())
        old = ssl.create_default_context()
        # OpenSSL allows TLS 1.1 only at its lowest security level.
        old.set_ciphers("DEFAULT@SECLEVEL=0")
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        try:
            accepted = self._negotiated(str(url.hostname), url.port or 443, old)
        except (ssl.SSLError, ConnectionError):
            return f"{newest}; TLS 1.1 is rejected"
        raise CheckFailedError(f"the API accepts {accepted}")

    def access_log(self, request_id: str) -> str:
        """The access log has a line for an earlier request."""
        if EMULATED:
            raise CheckSkippedError("an emulated cloud writes no access log")
        group = self._deployment.resource("AWS::Logs::LogGroup", "RestApiAccessLogs")
        logs = self._deployment.client("logs")
        deadline = time.monotonic() + ACCESS_LOG_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            found = logs.filter_log_events(
                logGroupName=group,
                filterPattern=f'"{request_id}"',
                startTime=int((time.time() - 3600) * 1000),
            )
            if found["events"]:
                return f"has request {request_id}"
            time.sleep(5)
        raise CheckFailedError(
            f"{group} has no line for request {request_id} after {ACCESS_LOG_TIMEOUT_SECONDS} s; "
            "docs/operations.md says how API Gateway is allowed to write logs"
        )

    @staticmethod
    def _negotiated(host: str, port: int, context: ssl.SSLContext) -> str:
        with (
            socket.create_connection((host, port), CONNECT_TIMEOUT_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            return str(secured.version())
