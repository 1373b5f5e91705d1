"""Decides how long what the stack keeps is kept: in time, and past the stack itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import RemovalPolicy
from aws_cdk import aws_logs as logs

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config


def removal_policy(config: Config) -> RemovalPolicy:
    """Return what happens to stored data when its resource leaves the stack."""
    if config.removal_policy == "destroy":
        return RemovalPolicy.DESTROY
    # Unlike RETAIN, leaves nothing behind when the first deployment fails and is rolled back.
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE


def log_group(scope: Construct, construct_id: str, config: Config, name: str | None = None) -> logs.LogGroup:
    """Create a log group that keeps its events as long as configured, under a name of its own or one made for it."""
    group = logs.LogGroup(scope, construct_id, log_group_name=name, removal_policy=removal_policy(config))
    # The number of days itself, as CloudFormation takes it: the enumeration of CDK would need a table beside it.
    cast("logs.CfnLogGroup", group.node.default_child).retention_in_days = config.log_retention_days
    return group
