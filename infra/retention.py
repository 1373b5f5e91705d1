"""Decides how long what the stack keeps is kept: in time, and past the stack itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import RemovalPolicy
from aws_cdk import aws_logs as logs

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms
    from constructs import Construct

    from infra.config import Config

VENDED_LOGS = "/aws/vendedlogs/states/"
"""What the name of a log group of Step Functions begins with.

All groups under this prefix share a statement in the account's policy for log delivery, which has no room for many.
"""

WAF_LOGS = "aws-waf-logs-"
"""What the name of a log group of AWS WAF begins with: it takes no other."""


def removal_policy(config: Config) -> RemovalPolicy:
    """Return what happens to stored data when its resource leaves the stack."""
    if config.removal_policy == "destroy":
        return RemovalPolicy.DESTROY
    # Unlike RETAIN, leaves nothing behind when the first deployment fails and is rolled back.
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE


def log_group(
    scope: Construct, construct_id: str, config: Config, key: kms.IKey, name: str | None = None
) -> logs.LogGroup:
    """Create a log group that keeps its events as long as configured, encrypted, under a name of its own or a made one.

    Parameters
    ----------
    scope : Construct
        What logs there.
    construct_id : str
        Its name in `scope`.
    config : Config
        Decides how long events are kept, and what outlives the stack.
    key : kms.IKey
        Encrypts the events; its policy knows the names of groups.
    name : str, optional
        The group's name, where a service asks for one.
    """
    group = logs.LogGroup(
        scope, construct_id, log_group_name=name, encryption_key=key, removal_policy=removal_policy(config)
    )
    # The number of days itself, as CloudFormation takes it: the enumeration of CDK would need a table beside it.
    cast("logs.CfnLogGroup", group.node.default_child).retention_in_days = config.log_retention_days
    return group
