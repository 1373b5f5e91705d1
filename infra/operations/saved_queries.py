"""Saved CloudWatch Logs Insights queries over the audit records. The runbook shows the same texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import aws_logs as logs
from constructs import Construct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.config import Config


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """A saved query.

    Attributes
    ----------
    name : str
        The name in the console.
    text : str
        The query. The reader replaces what is between ``<`` and ``>``.
    reads_exports : bool
        Whether it also reads the logs of the functions that export.
    reads_access_log : bool
        Whether it also reads API Gateway's access log.
    """

    name: str
    text: str
    reads_exports: bool = False
    reads_access_log: bool = False


READERS_OF_IMAGE_SET = SavedQuery(
    "Who has read an image set",
    """filter ispresent(audit) and imageSetId = "<image set id>"
| stats count_distinct(requestId) as requests, count_distinct(imageFrameId) as images, sum(bytes) as total_bytes,
    min(@timestamp) as first_at, max(@timestamp) as last_at by principal, issuer, sourceIp
| sort last_at desc
| limit 10000""",
    reads_exports=True,
)

READS_OF_PRINCIPAL = SavedQuery(
    "What a principal has read",
    """filter ispresent(audit) and principal = "<principal>"
| stats count_distinct(requestId) as requests, count_distinct(imageFrameId) as images, sum(bytes) as total_bytes,
    min(@timestamp) as first_at, max(@timestamp) as last_at by datastoreId, imageSetId, issuer, sourceIp
| sort last_at desc
| limit 10000""",
    reads_exports=True,
)

READS_BY_URL = SavedQuery(
    "Reads through pre-signed URLs",
    """filter audit = "answer" and delivery = "url"
| fields @timestamp, principal, issuer, sourceIp, datastoreId, imageSetId, imageFrameId, bytes, requestId
| sort @timestamp desc
| limit 10000""",
)

RECORDS_OF_REQUEST = SavedQuery(
    "Records of a request",
    """filter requestId = "<request id>"
| fields @timestamp, audit, principal, issuer, sourceIp, httpMethod, resourcePath, datastoreId, imageSetId,
    imageFrameId, versionId, frames, resolution, delivery, bytes, status, problem, errorType
| sort @timestamp asc""",
    reads_exports=True,
    reads_access_log=True,
)

REFUSALS = SavedQuery(
    "Refused and failed requests",
    """filter ispresent(extendedRequestId) and status like /^[45]/
| fields @timestamp, principal, issuer, sourceIp, httpMethod, resourcePath, status, errorType, requestId
| sort @timestamp desc
| limit 10000""",
    reads_access_log=True,
)

SAVED_QUERIES = (READERS_OF_IMAGE_SET, READS_OF_PRINCIPAL, READS_BY_URL, RECORDS_OF_REQUEST, REFUSALS)


class SavedQueries(Construct):
    """The saved queries of a deployment, in a folder with its name.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the name of the folder.
    api_logs : sequence of logs.LogGroup
        The logs of the API function and the render function.
    access_log : logs.LogGroup
        API Gateway's access log.
    export_logs : sequence of logs.LogGroup
        The logs of the functions that export.

    References
    ----------
    AWS CloudFormation template reference, ``AWS::Logs::QueryDefinition``.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        api_logs: Sequence[logs.LogGroup],
        access_log: logs.LogGroup,
        export_logs: Sequence[logs.LogGroup],
    ) -> None:
        super().__init__(scope, construct_id)
        for query in SAVED_QUERIES:
            groups = [
                *api_logs,
                *([access_log] if query.reads_access_log else []),
                *(export_logs if query.reads_exports else []),
            ]
            logs.CfnQueryDefinition(
                self,
                query.name.title().replace(" ", "").replace("-", ""),
                name=f"{config.stack_name}/{query.name}",
                query_string=query.text,
                log_group_names=[group.log_group_name for group in groups],
            )
