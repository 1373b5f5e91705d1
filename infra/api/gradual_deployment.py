"""The gradual deployment of the API function, which an alarm rolls back."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.acknowledge import acknowledge
from infra.permissions import allow, service_role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import CfnElement
    from aws_cdk import aws_cloudwatch as cloudwatch

    from infra.api.api_function import ApiFunction

# The first step lasts as long as the alarms need to detect a faulty version.
STEPS = codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES


class GradualDeployment(Construct):
    """Lets CodeDeploy shift the alias to a new version step by step.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    function : ApiFunction
        The function whose alias shifts.
    alarms : sequence of cloudwatch.Alarm
        The alarms that stop a deployment and roll it back.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, function: ApiFunction, alarms: Sequence[cloudwatch.Alarm]
    ) -> None:
        super().__init__(scope, construct_id)
        role = self._role(function)
        codedeploy.LambdaDeploymentGroup(
            self,
            "Group",
            alias=function.alias,
            deployment_config=STEPS,
            alarms=list(alarms),
            auto_rollback=codedeploy.AutoRollbackConfig(
                failed_deployment=True, stopped_deployment=True, deployment_in_alarm=True
            ),
            # Otherwise the CDK would attach AWS's managed policy, which allows all aliases of the account.
            role=role.without_policy_updates(),
        )

    def _role(self, function: ApiFunction) -> iam.Role:
        any_alarm = Stack.of(self).format_arn(
            service="cloudwatch", resource="alarm", resource_name="*", arn_format=ArnFormat.COLON_RESOURCE_NAME
        )
        versions_and_aliases = f"{function.function.function_arn}:*"
        # The managed policy AWSCodeDeployRoleForLambdaLimited, restricted to this function. Hooks and revisions in S3
        # are left out because there are none. CodeDeploy's calls name versions as well as the alias.
        role = service_role(
            self,
            "Role",
            service="codedeploy.amazonaws.com",
            description="Lets CodeDeploy shift the traffic of the API function",
            statements=[
                allow(
                    "ShiftTraffic",
                    ["lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig"],
                    function.function.function_arn,
                    versions_and_aliases,
                ),
                allow("WatchAlarms", ["cloudwatch:DescribeAlarms"], any_alarm),
            ],
            same_account=True,
        )
        function_id = Stack.of(self).get_logical_id(cast("CfnElement", function.function.node.default_child))
        acknowledge(
            role,
            "CodeDeploy calls name the alias and versions of the function, as in AWS's managed policy. All belong to "
            "this function.",
            f"AwsSolutions-IAM5[Resource::<{function_id}.Arn>:*]",
        )
        acknowledge(
            role,
            "CloudWatch checks the permission to describe alarms against all alarms of the account.",
            "AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:cloudwatch:<AWS::Region>:<AWS::AccountId>:alarm:*]",
        )
        return role
