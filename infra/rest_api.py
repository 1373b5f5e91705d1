"""The REST API: its routes, who may call them, and what it logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from framegate.observability import NAMESPACE
from framegate.rest.routes import METHODS, ROUTES
from infra.acknowledge import acknowledge
from infra.domain import Domain
from infra.firewall import Firewall
from infra.gateway_problems import add_gateway_problems
from infra.private_endpoint import endpoint_configuration, resource_policy
from infra.retention import log_group
from infra.tls import endpoint_access_mode, security_policy

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms

    from infra.config import Config

THROTTLED_REQUESTS = "ThrottledRequests"
"""Metric of the requests that were answered with 429. A filter of the access log counts them, not the code."""

STAGE = "v1"

CORS_REQUEST_HEADERS = (
    # A browser asks before it sends an Accept header that has a quoted string in it (Fetch standard, "CORS-safelisted
    # request-header").
    "Accept",
    "Authorization",
    "Cache-Control",
    "Content-Type",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Range",
    "X-Amz-Date",
    "X-Amz-Security-Token",
    "X-Amz-Content-Sha256",
    # The SDKs for JavaScript send this one in the place of User-Agent, which browsers keep to themselves.
    "X-Amz-User-Agent",
    # What tracing adds to the requests of a page: AWS X-Ray; W3C Trace Context and Baggage; Sentry.
    "X-Amzn-Trace-Id",
    "traceparent",
    "tracestate",
    "baggage",
    "sentry-trace",
)
"""Request headers that a web page of an allowed origin may send, beside those of ``cors_request_headers``."""

# Of the address, the route's template alone: a real path or query is whatever a client writes into it.
_ACCESS_LOG = {
    "requestId": "$context.requestId",
    "extendedRequestId": "$context.extendedRequestId",
    "requestTimeEpoch": "$context.requestTimeEpoch",
    "httpMethod": "$context.httpMethod",
    "resourcePath": "$context.resourcePath",
    "status": "$context.status",
    "responseLatency": "$context.responseLatency",
    "integrationLatency": "$context.integrationLatency",
    "integrationStatus": "$context.integration.status",
    "responseLength": "$context.responseLength",
    "callerArn": "$context.identity.userArn",
    "errorType": "$context.error.responseType",
    "xrayTraceId": "$context.xrayTraceId",
}


_AUTHORIZED_BY = {
    "iam": "Callers are authorized by IAM (Signature Version 4).",
    "jwt": "Callers are authorized by a token of the configured OpenID Connect issuer.",
}


class RestApi(Construct):
    """The endpoint that clients call.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        Its name there.
    config : Config
        Decides where it is reached, throttling, the web origins that may call, and how long logs are kept.
    key : kms.IKey
        Encrypts the access log.
    handler : lambda_.IFunction
        Answers every request that is authorized, those for unknown paths and methods included.
    authorization : apigateway.MethodOptions
        Who may call.

    Attributes
    ----------
    api : apigateway.RestApi
        The API itself.
    url : str
        Where it is reached, without a slash at the end.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        key: kms.IKey,
        handler: lambda_.IFunction,
        authorization: apigateway.MethodOptions,
    ) -> None:
        super().__init__(scope, construct_id)
        access_logs = log_group(self, "AccessLogs", config, key)
        self.api = apigateway.RestApi(
            self,
            # API Gateway does not change the endpoint type of an API whose access mode is STRICT. With another name
            # here, CloudFormation creates another API and then deletes the old one.
            "PrivateApi" if config.vpc_endpoint_ids else "Api",
            rest_api_name=config.stack_name,
            description="Image frames of AWS HealthImaging by URL",
            endpoint_configuration=endpoint_configuration(self, config),
            policy=resource_policy(config),
            # With a domain name of its own, the API has this one address and no other.
            disable_execute_api_endpoint=config.domain_name is not None or None,
            # Only a listed type makes bytes of the function's base64, and a frame can be of any.
            binary_media_types=["*/*"],
            default_method_options=authorization,
            cloud_watch_role=config.api_gateway_account_role,
            # As soon as it is created, every API of the account and Region logs with this role. RETAIN keeps it even
            # when the first deployment fails and is rolled back. RETAIN_ON_UPDATE_OR_DELETE (RetainExceptOnCreate)
            # would delete it then. All other APIs would lose their logs, as CloudFormation does not restore the role
            # that was set before.
            cloud_watch_role_removal_policy=RemovalPolicy.RETAIN if config.api_gateway_account_role else None,
            deploy_options=apigateway.StageOptions(
                stage_name=STAGE,
                throttling_rate_limit=config.throttle_rate,
                throttling_burst_limit=config.throttle_burst,
                tracing_enabled=True,
                # Metrics for each method cost $0.30 a month each. Alarms and dashboard read those of the stage, which
                # are free.
                metrics_enabled=False,
                logging_level=apigateway.MethodLoggingLevel.OFF,
                data_trace_enabled=False,
                access_log_destination=apigateway.LogGroupLogDestination(access_logs),
                access_log_format=apigateway.AccessLogFormat.custom(
                    json.dumps({"service": config.stack_name, **_ACCESS_LOG})
                ),
            ),
        )
        cfn_api = cast("apigateway.CfnRestApi", self.api.node.default_child)
        cfn_api.security_policy = security_policy(config)
        cfn_api.endpoint_access_mode = endpoint_access_mode(config)
        # API Gateway counts what it refuses for being too much among all else that a client did wrong.
        access_logs.add_metric_filter(
            THROTTLED_REQUESTS,
            filter_pattern=logs.FilterPattern.string_value("$.status", "=", "429"),
            metric_namespace=NAMESPACE,
            metric_name=THROTTLED_REQUESTS,
            metric_value="1",
            dimensions={"service": "$.service"},
        )
        # CDK's own output of the address, beside which ours would stand.
        self.api.node.try_remove_child("Endpoint")
        self.url = self._url(config)
        self._add_routes(config, handler)
        add_gateway_problems(self.api, config)
        if config.domain_name is not None:
            Domain(self, "Domain", config=config, api=self.api)
        if config.waf:
            Firewall(self, "Firewall", config=config, key=key, stage=self.api.deployment_stage)
        self._acknowledge_findings(config)

    def _url(self, config: Config) -> str:
        if config.domain_name is not None:
            return f"https://{config.domain_name}"
        # A VPC endpoint's own name for a private API leads there with its private DNS on or off.
        host = "-".join([self.api.rest_api_id, *config.vpc_endpoint_ids[:1]])
        return f"https://{host}.execute-api.{Aws.REGION}.{Aws.URL_SUFFIX}/{STAGE}"

    def _add_routes(self, config: Config, handler: lambda_.IFunction) -> None:
        # One permission for the whole API: one for each method, twice, would soon fill the function's policy.
        integration = apigateway.LambdaIntegration(handler, scope_permission_to_method=False)
        root = self.api.root
        for route in ROUTES:
            for method in route.operation_by_method:
                root.resource_for_path(route.template).add_method(method, integration)
        # All else goes to the function, too, so that it is the function that answers 404 and 405.
        resources = [root, *map(root.resource_for_path, (*(route.template for route in ROUTES), "{proxy+}"))]
        for resource in resources:
            resource.add_method("ANY", integration)
            self._answer_preflight(resource, config)

    def _answer_preflight(self, resource: apigateway.IResource, config: Config) -> None:
        method = resource.add_cors_preflight(
            allow_origins=list(config.cors_origins),
            allow_methods=[*METHODS, "OPTIONS"],
            allow_headers=_cors_request_headers(config),
            max_age=Duration.days(1),
        )
        # With every media type binary, a mock integration fails with status 500 unless told that it is text.
        cfn_method = cast("apigateway.CfnMethod", method.node.default_child)
        for part in ("Integration", "Integration.IntegrationResponses.0"):
            cfn_method.add_property_override(f"{part}.ContentHandling", "CONVERT_TO_TEXT")
        if config.cognito_scopes:
            acknowledge(
                method,
                "The scopes are those of the other methods, and CDK leaves them out of this one.",
                "@aws-cdk/aws-apigateway:invalidAuthScope",
            )

    def _acknowledge_findings(self, config: Config) -> None:
        if config.auth != "cognito":
            acknowledge(self.api, _AUTHORIZED_BY[config.auth], "AwsSolutions-COG4")
        acknowledge(
            self.api,
            "The function checks every identifier and parameter, and names the wrong one in a problem document.",
            "AwsSolutions-APIG2",
        )
        acknowledge(
            self.api.deployment_stage,
            "Execution logs go to a log group without retention and can hold what clients send. Access logs, the "
            "function's log and X-Ray account for every request.",
            "AwsSolutions-APIG6",
            "HIPAA.Security-APIGWExecutionLoggingEnabled",
        )
        acknowledge(
            self.api.deployment_stage,
            "Clients cache frames. API Gateway's cache takes answers up to 1 MB, and would keep frames longer than "
            "their image set.",
            "HIPAA.Security-APIGWCacheEnabledAndEncrypted",
        )
        acknowledge(
            self.api.deployment_stage,
            "A client certificate proves API Gateway to an HTTP backend. There is none: it calls a function, by IAM.",
            "HIPAA.Security-APIGWSSLEnabled",
        )
        if not config.waf:
            acknowledge(
                self.api.deployment_stage,
                "Every method needs authorization, so nothing anonymous gets past API Gateway; requests are throttled. "
                "The configuration key `waf` puts a firewall there.",
                "AwsSolutions-APIG3",
            )
        if config.api_gateway_account_role:
            acknowledge(
                self.api,
                "The policy that API Gateway documents for its account-wide logging role. The role serves all APIs of "
                "the account, so it cannot be narrowed to this one's log groups.",
                "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
                "AmazonAPIGatewayPushToCloudWatchLogs]",
            )


def _cors_request_headers(config: Config) -> list[str]:
    """Return the headers that a page may send: ours, and those configured that are not among them."""
    ours = {name.lower() for name in CORS_REQUEST_HEADERS}
    return [*CORS_REQUEST_HEADERS, *(name for name in config.cors_request_headers if name.lower() not in ours)]
