"""The KMS key that encrypts the data of the stack: objects, messages, logs, alarms, settings and executions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import ArnFormat, Aws, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from infra.retention import VENDED_LOGS, WAF_LOGS, removal_policy

if TYPE_CHECKING:
    from constructs import Construct

    from infra.config import Config


class EncryptionKey(kms.Key):
    """The key of the stack. Principals of the account use it by their own policies, services by the key's policy.

    A construct whose service needs the key adds the statement to the key's policy.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Decides whether the key outlives the stack.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: Config) -> None:
        super().__init__(
            scope,
            construct_id,
            description=f"Encrypts the data of {config.stack_name}",
            enable_key_rotation=True,
            removal_policy=removal_policy(config),
        )
        stack = Stack.of(self)
        # Amazon CloudWatch Logs user guide, "Encrypt log data in CloudWatch Logs using AWS Key Management Service". The
        # policy cannot refer to the groups, which refer to the key. CloudFormation starts their names with the stack's.
        groups = [
            stack.format_arn(
                service="logs", resource="log-group", resource_name=name, arn_format=ArnFormat.COLON_RESOURCE_NAME
            )
            for name in (
                f"{config.stack_name}-*",
                f"{VENDED_LOGS}{config.stack_name[:60]}-*",
                *([f"{WAF_LOGS}{config.stack_name}-*"] if config.waf else []),
            )
        ]
        self.add_to_resource_policy(
            iam.PolicyStatement(
                sid="EncryptLogs",
                principals=[iam.ServicePrincipal(f"logs.{Aws.REGION}.amazonaws.com")],
                actions=[
                    "kms:Encrypt",
                    "kms:Decrypt",
                    "kms:ReEncryptFrom",
                    "kms:ReEncryptTo",
                    "kms:GenerateDataKey",
                    "kms:GenerateDataKeyWithoutPlaintext",
                ],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            )
        )
