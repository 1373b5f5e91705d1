"""The REST API: its routes, their authorization, and the access log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from framegate.observability import NAMESPACE
from framegate.rest.http import SECURITY_HEADERS
from framegate.rest.routes import API_ROUTES, METHODS, PICTURE_ROUTES, ROUTES
from infra.acknowledge import acknowledge
from infra.api.domain import Domain
from infra.api.firewall import Firewall
from infra.api.gateway_problems import add_gateway_problems
from infra.api.private_endpoint import endpoint_configuration, resource_policy
from infra.api.tls import endpoint_access_mode, security_policy
from infra.retention import log_group

if TYPE_CHECKING:
    from aws_cdk import aws_kms as kms

    from infra.config import Config

THROTTLED_REQUESTS = "ThrottledRequests"
UNAUTHORIZED_REQUESTS = "UnauthorizedRequests"
FORBIDDEN_REQUESTS = "ForbiddenRequests"
DENIED_REQUESTS = "DeniedRequests"

ACCESS_LOG_METRICS = {
    THROTTLED_REQUESTS: '{ $.status = "429" }',
    UNAUTHORIZED_REQUESTS: '{ $.status = "401" }',
    FORBIDDEN_REQUESTS: '{ $.status = "403" }',
    # The policy of the caller, the authorizer or the API denies the request. Other 403s have no valid signature.
    DENIED_REQUESTS: '{ $.errorType = "ACCESS_DENIED" }',
}
"""Metrics that filters of the access log count, and their patterns. API Gateway's own metric counts every 4xx."""

STAGE = "v1"

HEAD_SHARE = 0.25
"""HEAD requests that an operation with a limit of its own accepts, for each GET request."""

METADATA_RATE_FACTOR, METADATA_BURST_FACTOR = 2, 8
"""Requests for DICOM metadata that a route accepts, for each request of the frame index.

HealthImaging's quota of GetDICOMSeriesMetadata is twice that of GetImageSet. A viewer requests the metadata of all
series of a study at once, and most of it comes from the bucket, so a burst may exceed the quota.
"""

CORS_REQUEST_HEADERS = (
    # A browser sends a preflight for an Accept header that contains a quoted string (Fetch standard, "CORS-safelisted
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
    # The AWS SDKs for JavaScript send this header instead of User-Agent, which browsers do not let them set.
    "X-Amz-User-Agent",
    # Headers that tracing libraries add: AWS X-Ray; W3C Trace Context and Baggage; Sentry.
    "X-Amzn-Trace-Id",
    "traceparent",
    "tracestate",
    "baggage",
    "sentry-trace",
)
"""Request headers that a page of an allowed origin may send, in addition to those of ``cors_request_headers``."""

# The log has the template of the route but neither path nor query, where clients can write anything.
ACCESS_LOG_FIELDS = {
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
    "sourceIp": "$context.identity.sourceIp",
    "errorType": "$context.error.responseType",
}
"""The members of the access log under every kind of authorization."""

# API Gateway inserts values without escaping them. `sub` is a UUID in Cognito, whereas a user may have chosen the value
# of another claim. The authorizer encodes the claim that it passes on.
PRINCIPAL_FIELDS = {
    "iam": {"principal": "$context.identity.userArn"},
    "cognito": {"principal": "$context.authorizer.claims.sub", "issuer": "$context.authorizer.claims.iss"},
    "jwt": {"principal": "$context.authorizer.principal", "issuer": "$context.authorizer.issuer"},
}
"""The members of the access log that name the caller, by kind of authorization."""


_AUTHORIZED_BY = {
    "iam": "IAM authorizes callers (Signature Version 4).",
    "jwt": "A Lambda authorizer checks tokens of the configured OpenID Connect issuer.",
}


class RestApi(Construct):
    """The REST API that clients call.

    Parameters
    ----------
    scope : Construct
        The stack.
    construct_id : str
        The construct's id in `scope`.
    config : Config
        Gives the endpoint, throttling, allowed web origins and the retention of logs.
    key : kms.IKey
        Encrypts the access log.
    handler : lambda_.IFunction
        Answers every authorized request but those for pictures, including requests for unknown paths and methods.
    picture_handler : lambda_.IFunction
        Answers the requests for pictures.
    authorization : apigateway.MethodOptions
        The authorization of every method except preflights.

    Attributes
    ----------
    api : apigateway.RestApi
        The API.
    access_logs : logs.LogGroup
        The access log.
    url : str
        Base URL of the API, without a trailing slash.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: Config,
        key: kms.IKey,
        handler: lambda_.IFunction,
        picture_handler: lambda_.IFunction,
        authorization: apigateway.MethodOptions,
    ) -> None:
        super().__init__(scope, construct_id)
        self.access_logs = log_group(self, "AccessLogs", config, key, has_audit_records=True)
        self.api = apigateway.RestApi(
            self,
            # API Gateway cannot change the endpoint type of an API whose access mode is STRICT. The different id makes
            # CloudFormation create another API and then delete the old one.
            "PrivateApi" if config.vpc_endpoint_ids else "Api",
            rest_api_name=config.stack_name,
            description="Image frames of AWS HealthImaging by URL",
            endpoint_configuration=endpoint_configuration(self, config),
            policy=resource_policy(config, STAGE),
            # An API with a custom domain name must not be reachable by its default endpoint.
            disable_execute_api_endpoint=config.domain_name is not None or None,
            # API Gateway decodes the function's base64 only for listed media types, and a frame can have any.
            binary_media_types=["*/*"],
            default_method_options=authorization,
            cloud_watch_role=config.api_gateway_account_role,
            # Every API of the account and Region logs with this role as soon as it exists. RETAIN keeps it even when
            # the first deployment fails and is rolled back. RETAIN_ON_UPDATE_OR_DELETE (RetainExceptOnCreate) would
            # delete it then, and all other APIs would lose their logs, because CloudFormation does not restore the
            # previous role.
            cloud_watch_role_removal_policy=RemovalPolicy.RETAIN if config.api_gateway_account_role else None,
            deploy_options=apigateway.StageOptions(
                stage_name=STAGE,
                throttling_rate_limit=config.throttle_rate,
                throttling_burst_limit=config.throttle_burst,
                method_options=_own_throttles(config),
                # API Gateway's trace segments contain the URL with its path and query: UIDs, and patients' names in
                # searches (API Gateway developer guide, "Understanding AWS X-Ray traces"). The function's do not.
                tracing_enabled=False,
                # Metrics of methods cost $0.30 a month each. Alarms and dashboard read those of the stage, which are
                # free.
                metrics_enabled=False,
                logging_level=apigateway.MethodLoggingLevel.OFF,
                data_trace_enabled=False,
                access_log_destination=apigateway.LogGroupLogDestination(self.access_logs),
                access_log_format=apigateway.AccessLogFormat.custom(
                    json.dumps({"service": config.stack_name, **ACCESS_LOG_FIELDS, **PRINCIPAL_FIELDS[config.auth]})
                ),
            ),
        )
        cfn_api = cast("apigateway.CfnRestApi", self.api.node.default_child)
        cfn_api.security_policy = security_policy(config)
        cfn_api.endpoint_access_mode = endpoint_access_mode(config)
        for name, pattern in ACCESS_LOG_METRICS.items():
            self.access_logs.add_metric_filter(
                name,
                filter_pattern=logs.FilterPattern.literal(pattern),
                metric_namespace=NAMESPACE,
                metric_name=name,
                metric_value="1",
                dimensions={"service": "$.service"},
            )
        # Remove the CDK's output of the URL: the stack has its own.
        self.api.node.try_remove_child("Endpoint")
        self.url = self._url(config)
        self._add_routes(config, handler, picture_handler)
        add_gateway_problems(self.api, config)
        if config.domain_name is not None:
            Domain(self, "Domain", config=config, api=self.api)
        if config.waf:
            Firewall(self, "Firewall", config=config, key=key, stage=self.api.deployment_stage)
        self._acknowledge_findings(config)

    def _url(self, config: Config) -> str:
        if config.domain_name is not None:
            return f"https://{config.domain_name}"
        # The host name with the endpoint's id reaches a private API with the endpoint's private DNS on or off.
        host = "-".join([self.api.rest_api_id, *config.vpc_endpoint_ids[:1]])
        return f"https://{host}.execute-api.{Aws.REGION}.{Aws.URL_SUFFIX}/{STAGE}"

    def _add_routes(self, config: Config, handler: lambda_.IFunction, picture_handler: lambda_.IFunction) -> None:
        # One permission covers the whole API. Two for each method would soon exceed the size of the function's policy.
        integration, pictures = (
            apigateway.LambdaIntegration(each, scope_permission_to_method=False) for each in (handler, picture_handler)
        )
        root = self.api.root
        integrations = {route.template: integration for route in API_ROUTES}
        integrations |= {route.template: pictures for route in PICTURE_ROUTES}
        for route in ROUTES:
            for method in route.operation_by_method:
                root.resource_for_path(route.template).add_method(method, integrations[route.template])
        # All other requests go to the functions too, which answer 404 and 405.
        for template, each in {"/": integration, **integrations, "{proxy+}": integration}.items():
            resource = root if template == "/" else root.resource_for_path(template)
            resource.add_method("ANY", each)
            self._answer_preflight(resource, config)

    def _answer_preflight(self, resource: apigateway.IResource, config: Config) -> None:
        method = resource.add_cors_preflight(
            allow_origins=list(config.cors_origins),
            allow_methods=[*METHODS, "OPTIONS"],
            allow_headers=_cors_request_headers(config),
            max_age=Duration.days(1),
        )
        # If every media type is binary, a mock integration fails with status 500 unless it converts to text.
        cfn_method = cast("apigateway.CfnMethod", method.node.default_child)
        for part in ("Integration", "Integration.IntegrationResponses.0"):
            cfn_method.add_property_override(f"{part}.ContentHandling", "CONVERT_TO_TEXT")
        for name, value in SECURITY_HEADERS.items():
            parameter = f"ResponseParameters.method\\.response\\.header\\.{name}"
            cfn_method.add_property_override(f"MethodResponses.0.{parameter}", value=True)
            cfn_method.add_property_override(f"Integration.IntegrationResponses.0.{parameter}", f"'{value}'")
        if config.cognito_scopes:
            acknowledge(
                method,
                "The scopes apply to the other methods. The CDK removes them from preflights.",
                "@aws-cdk/aws-apigateway:invalidAuthScope",
            )

    def _acknowledge_findings(self, config: Config) -> None:
        if config.auth != "cognito":
            acknowledge(self.api, _AUTHORIZED_BY[config.auth], "AwsSolutions-COG4")
        acknowledge(
            self.api,
            "The function checks every identifier and parameter, and names an invalid one in a problem document.",
            "AwsSolutions-APIG2",
        )
        acknowledge(
            self.api.deployment_stage,
            "Execution logs go to a log group without retention and can contain what clients send. The access log, "
            "the function's log and X-Ray cover every request.",
            "AwsSolutions-APIG6",
            "HIPAA.Security-APIGWExecutionLoggingEnabled",
        )
        acknowledge(
            self.api.deployment_stage,
            "API Gateway's trace segments contain the URL: UIDs, and patients' names in searches. The function traces "
            "its requests instead.",
            "HIPAA.Security-APIGWXrayEnabled",
        )
        acknowledge(
            self.api.deployment_stage,
            "API Gateway's cache would answer without the function, which checks the caller and records the read. It "
            "would keep frames after their image set is deleted, and it accepts responses up to 1 MB only.",
            "HIPAA.Security-APIGWCacheEnabledAndEncrypted",
        )
        acknowledge(
            self.api.deployment_stage,
            "A client certificate identifies API Gateway to an HTTP backend. This API calls a Lambda function by IAM.",
            "HIPAA.Security-APIGWSSLEnabled",
        )
        if not config.waf:
            acknowledge(
                self.api.deployment_stage,
                "Every method requires authorization, so API Gateway rejects anonymous requests, and it throttles "
                "the others. The configuration key `waf` adds a firewall.",
                "AwsSolutions-APIG3",
            )
        if config.api_gateway_account_role:
            acknowledge(
                self.api,
                "API Gateway documents this policy for its account-wide logging role. The role serves all APIs of the "
                "account, so its policy cannot name the log groups of this API only.",
                "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
                "AmazonAPIGatewayPushToCloudWatchLogs]",
            )


def _own_throttles(config: Config) -> dict[str, apigateway.MethodDeploymentOptions]:
    """Return the settings of the methods with a limit of their own, by path and method.

    API Gateway counts the requests of each method by themselves. HEAD runs the code of GET and makes the same calls, so
    it gets a quarter as many requests, and both together stay below HealthImaging's quota. No limit exceeds that of the
    stage.
    """
    rate, burst = config.index_throttle_rate, config.index_throttle_burst
    limits = {
        "index": (rate, burst),
        # Searches have the same quota as GetImageSet, one for each route.
        "search": (rate, burst),
        "metadata": (METADATA_RATE_FACTOR * rate, METADATA_BURST_FACTOR * burst),
    }
    options = {}
    for route in ROUTES:
        for method, operation in route.operation_by_method.items():
            if operation.throttle is not None:
                rate, burst = limits[operation.throttle]
                rate, burst = min(rate, config.throttle_rate), min(burst, config.throttle_burst)
                options[f"{route.template}/{method}"] = apigateway.MethodDeploymentOptions(
                    throttling_rate_limit=rate * HEAD_SHARE if method == "HEAD" else rate,
                    throttling_burst_limit=max(1, int(burst * HEAD_SHARE)) if method == "HEAD" else burst,
                    # A method with settings of its own does not inherit these from the stage.
                    metrics_enabled=False,
                    logging_level=apigateway.MethodLoggingLevel.OFF,
                    data_trace_enabled=False,
                )
    return options


def _cors_request_headers(config: Config) -> list[str]:
    """Return the request headers that a page may send: ours, and the configured ones without duplicates."""
    ours = {name.lower() for name in CORS_REQUEST_HEADERS}
    return [*CORS_REQUEST_HEADERS, *(name for name in config.cors_request_headers if name.lower() not in ours)]
