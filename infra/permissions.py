"""Policy statements of roles. Each names its actions and resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import Aws, Fn, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from infra.acknowledge import acknowledge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_logs as logs
    from constructs import Construct

    from infra.config import Config
    from infra.frame_store import FrameStore


def uid_hash_secret() -> str:
    """The random part of the stack's id: constant while the stack exists, and in no log or event of the bucket."""
    return Fn.select(2, Fn.split("/", Aws.STACK_ID))


def allow(sid: str, actions: Sequence[str], *resources: str, **equal: str) -> iam.PolicyStatement:
    """Return a statement that allows actions on resources under conditions.

    Parameters
    ----------
    sid : str
        Purpose of the statement.
    actions : sequence of str
        The allowed actions.
    *resources : str
        ARNs of the resources.
    **equal : str
        Condition keys and their required values, with ``__`` instead of ``:``.
    """
    conditions = {"StringEquals": {name.replace("__", ":"): value for name, value in equal.items()}} if equal else None
    return iam.PolicyStatement(sid=sid, actions=list(actions), resources=list(resources), conditions=conditions)


def service_role(
    scope: Construct,
    construct_id: str,
    *,
    service: str,
    description: str,
    statements: Sequence[iam.PolicyStatement],
    same_account: bool = False,
) -> iam.Role:
    """Create a role that a service assumes, with one inline policy.

    Parameters
    ----------
    scope : Construct
        The construct that the role belongs to.
    construct_id : str
        The construct's id in `scope`.
    service : str
        Name of the service principal, such as ``lambda.amazonaws.com``.
    description : str
        Purpose of the role; the console shows it.
    statements : sequence of iam.PolicyStatement
        All that the role allows.
    same_account : bool
        Whether the service may assume the role only for resources of this account.
    """
    conditions = {"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}} if same_account else None
    role = iam.Role(
        scope,
        construct_id,
        description=description,
        assumed_by=iam.ServicePrincipal(service, conditions=conditions),
        inline_policies={"Allow": iam.PolicyDocument(statements=list(statements))},
    )
    acknowledge(
        role,
        "The policy belongs to this role only: CloudFormation creates, changes and deletes both together.",
        "HIPAA.Security-IAMNoInlinePolicy",
    )
    return role


def image_sets(stack: Stack, config: Config) -> list[str]:
    """Return ARN patterns of all image sets of the configured data stores."""
    return [
        stack.format_arn(service="medical-imaging", resource="datastore", resource_name=f"{each}/imageset/*")
        for each in config.datastore_ids
    ]


def data_stores(stack: Stack, config: Config) -> list[str]:
    """Return the ARNs of the configured data stores."""
    return [
        stack.format_arn(service="medical-imaging", resource="datastore", resource_name=each)
        for each in config.datastore_ids
    ]


def objects_of(frame_store: FrameStore, config: Config, *prefixes: str) -> list[str]:
    """Return ARN patterns of the objects of the configured data stores under these prefixes of the bucket."""
    return [
        frame_store.bucket.arn_for_objects(f"{prefix}{datastore_id}/*")
        for prefix in prefixes
        for datastore_id in config.datastore_ids
    ]


def use_key(frame_store: FrameStore, *services: str, sid: str = "EncryptFrames") -> iam.PolicyStatement:
    """Return the statement that allows use of the stack's key through these services only."""
    via = [f"{service}.{Aws.REGION}.{Aws.URL_SUFFIX}" for service in services]
    return iam.PolicyStatement(
        sid=sid,
        actions=["kms:GenerateDataKey", "kms:Decrypt"],
        resources=[frame_store.key.key_arn],
        conditions={"StringEquals": {"kms:ViaService": via if len(via) > 1 else via[0]}},
    )


def use_key_for(
    frame_store: FrameStore, sid: str, actions: Sequence[str], context: Mapping[str, str | list[str]]
) -> iam.PolicyStatement:
    """Return the statement that allows use of the stack's key with this encryption context only."""
    return iam.PolicyStatement(
        sid=sid,
        actions=list(actions),
        resources=[frame_store.key.key_arn],
        conditions={"StringEquals": {f"kms:EncryptionContext:{name}": value for name, value in context.items()}},
    )


def write_logs(group: logs.LogGroup) -> iam.PolicyStatement:
    """Return the statement that allows a function to write to its log group."""
    return allow("WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], group.log_group_arn)


def write_traces() -> iam.PolicyStatement:
    """Return the statement that allows tracing. X-Ray has no resource-level permissions."""
    return allow("WriteTraces", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*")


def acknowledge_image_sets(role: iam.Role, config: Config) -> None:
    """Acknowledge that a role reads all image sets of the configured data stores."""
    acknowledge(
        role,
        "The role reads the image sets of the configured data stores, whose ids are unknown at deployment.",
        *(
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:medical-imaging:<AWS::Region>:<AWS::AccountId>:"
            f"datastore/{datastore_id}/imageset/*]"
            for datastore_id in config.datastore_ids
        ),
    )


def acknowledge_objects(role: Construct, frame_store: FrameStore, config: Config, *prefixes: str) -> None:
    """Acknowledge that a role accesses all objects of the configured data stores under these prefixes."""
    acknowledge_prefixes(
        role, frame_store, *(f"{prefix}{each}/" for prefix in prefixes for each in config.datastore_ids)
    )


def acknowledge_prefixes(role: Construct, frame_store: FrameStore, *prefixes: str) -> None:
    """Acknowledge that a role accesses all objects under these prefixes of the bucket."""
    bucket_id = Stack.of(role).get_logical_id(cast("s3.CfnBucket", frame_store.bucket.node.default_child))
    acknowledge(
        role,
        "Each prefix holds one kind of object, whose keys are unknown at deployment.",
        *(f"AwsSolutions-IAM5[Resource::<{bucket_id}.Arn>/{prefix}*]" for prefix in prefixes),
    )


def acknowledge_traces(role: iam.Role) -> None:
    """Acknowledge that tracing names no resource."""
    acknowledge(role, "X-Ray has no resource-level permissions.", "AwsSolutions-IAM5[Resource::*]")
