"""The statements that roles are made of: each names its actions and its resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import Aws, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from infra.acknowledge import acknowledge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_logs as logs

    from infra.config import Config
    from infra.frame_store import FrameStore


def allow(sid: str, actions: Sequence[str], *resources: str, **equal: str) -> iam.PolicyStatement:
    """Return a statement that allows actions on resources, where the conditions hold.

    Parameters
    ----------
    sid : str
        What it is for.
    actions : sequence of str
        The actions.
    *resources : str
        The ARNs.
    **equal : str
        Condition keys and the values that they must have, ``__`` in the place of ``:``.
    """
    conditions = {"StringEquals": {name.replace("__", ":"): value for name, value in equal.items()}} if equal else None
    return iam.PolicyStatement(sid=sid, actions=list(actions), resources=list(resources), conditions=conditions)


def image_sets(stack: Stack, config: Config) -> list[str]:
    """Return the ARNs of all image sets of the data stores on the deployment's list."""
    return [
        stack.format_arn(service="medical-imaging", resource="datastore", resource_name=f"{each}/imageset/*")
        for each in config.datastore_ids
    ]


def use_key(frame_store: FrameStore, *services: str) -> iam.PolicyStatement:
    """Return the statement that allows use of the stack's key, through these services alone."""
    via = [f"{service}.{Aws.REGION}.{Aws.URL_SUFFIX}" for service in services]
    return iam.PolicyStatement(
        sid="EncryptFrames",
        actions=["kms:GenerateDataKey", "kms:Decrypt"],
        resources=[frame_store.key.key_arn],
        conditions={"StringEquals": {"kms:ViaService": via if len(via) > 1 else via[0]}},
    )


def use_key_for(
    frame_store: FrameStore, sid: str, actions: Sequence[str], context: Mapping[str, str | list[str]]
) -> iam.PolicyStatement:
    """Return the statement that allows use of the stack's key, for data of this encryption context alone."""
    return iam.PolicyStatement(
        sid=sid,
        actions=list(actions),
        resources=[frame_store.key.key_arn],
        conditions={"StringEquals": {f"kms:EncryptionContext:{name}": value for name, value in context.items()}},
    )


def write_logs(group: logs.LogGroup) -> iam.PolicyStatement:
    """Return the statement that allows a function to log to its group."""
    return allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], group.log_group_arn)


def write_traces() -> iam.PolicyStatement:
    """Return the statement that allows tracing. X-Ray knows no resources for it."""
    return allow("WriteTraces", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*")


def acknowledge_image_sets(role: iam.Role, config: Config) -> None:
    """Accept that a role reads all image sets of the listed data stores."""
    acknowledge(
        role,
        "The image sets of a data store on the deployment's list: they come and go, the list decides.",
        *(
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:medical-imaging:<AWS::Region>:<AWS::AccountId>:"
            f"datastore/{datastore_id}/imageset/*]"
            for datastore_id in config.datastore_ids
        ),
    )


def acknowledge_prefixes(role: iam.Role, frame_store: FrameStore, *prefixes: str) -> None:
    """Accept that a role has all objects under these prefixes of the bucket."""
    bucket_id = Stack.of(role).get_logical_id(cast("s3.CfnBucket", frame_store.bucket.node.default_child))
    acknowledge(
        role,
        "Prefixes that each hold one kind of object; their keys are unknown at deployment.",
        *(f"AwsSolutions-IAM5[Resource::<{bucket_id}.Arn>/{prefix}*]" for prefix in prefixes),
    )


def acknowledge_inline_policy(role: iam.Role) -> None:
    """Accept that a role's policy is a part of it."""
    acknowledge(
        role,
        "The policy is for this role alone: it is made, changed and removed with it, and attached to nothing else.",
        "HIPAA.Security-IAMNoInlinePolicy",
    )


def acknowledge_traces(role: iam.Role) -> None:
    """Accept that tracing names no resource."""
    acknowledge(role, "X-Ray has no resource-level permissions.", "AwsSolutions-IAM5[Resource::*]")
