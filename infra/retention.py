"""The retention of logs, and what outlives the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import Aws, Fn, RemovalPolicy
from aws_cdk import aws_logs as logs

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from constructs import Construct

    from infra.config import Config

VENDED_LOGS = "/aws/vendedlogs/states/"
"""Name prefix of log groups of Step Functions.

All groups under this prefix share one statement in the account's policy for log delivery, whose size is limited.
"""

WAF_LOGS = "aws-waf-logs-"
"""Name prefix that AWS WAF requires of a log group."""


def removal_policy(config: Config) -> RemovalPolicy:
    """Return what CloudFormation does with stored data when its resource leaves the stack."""
    if config.removal_policy == "destroy":
        return RemovalPolicy.DESTROY
    # Unlike RETAIN, this leaves nothing behind when the first deployment fails and is rolled back.
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE


def unique_name(prefix: str) -> str:
    """Return a log group's name that ends with the id of the stack.

    A deleted stack leaves its log groups behind. A new stack of the same name must be able to create its own.
    """
    return f"{prefix}-{Fn.select(2, Fn.split('/', Aws.STACK_ID))}"


def log_group(
    scope: Construct,
    construct_id: str,
    config: Config,
    key: kms.IKey,
    name: str | None = None,
    *,
    has_audit_records: bool = False,
) -> logs.LogGroup:
    """Create an encrypted log group with the configured retention.

    Parameters
    ----------
    scope : Construct
        The construct that writes the log.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the retention, and decides whether the group outlives the stack.
    key : kms.IKey
        Encrypts the events. Its policy matches the names of the groups.
    name : str, optional
        Name of the group, if a service requires one; otherwise CloudFormation generates it.
    has_audit_records : bool
        Whether the log has audit records, which may have to be kept for longer.
    """
    group = logs.LogGroup(
        scope, construct_id, log_group_name=name, encryption_key=key, removal_policy=removal_policy(config)
    )
    # CloudFormation takes a number of days. The CDK's enumeration would need a table from numbers to members.
    cast("logs.CfnLogGroup", group.node.default_child).retention_in_days = (
        config.audit_log_retention_days if has_audit_records else config.log_retention_days
    )
    return group
