"""The configuration: one typed object, read from the CDK context and checked before anything is built."""

from __future__ import annotations

import difflib
import re
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from framegate.settings import FrameCaching  # noqa: TC001 - pydantic reads the annotations at run time
from framegate.table_schema import ATTRIBUTES, IDENTIFYING_KEYWORDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_core import ErrorDetails

MAX_DATASTORES = 6
"""Maximum number of data stores of a deployment. Each takes up to 700 characters of a role's inline policy, which IAM
limits to 10,240 (IAM user guide, "IAM and AWS STS quotas")."""

# CDK namespaces the context keys that it defines (`aws:cdk:…`, `@aws-cdk/…`, `availability-zones:account=…`). These
# two, which the CLI's commands `acknowledge` and `migrate` write, are the exceptions.
_CDK_KEYS = frozenset({"acknowledged-issue-numbers", "cdk-migrate"})

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ORIGIN = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?"
)
_DOMAIN_NAME = rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])"
# OpenID Connect Core 1.0, section 2: https, no query and no fragment.
_ISSUER = r"https://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+;=:@%-]*)*"
# A browser leaves the default port out of its Origin header, so an origin that has it would never match.
_DEFAULT_PORTS = {"http": 80, "https": 443}


class ConfigError(Exception):
    """The configuration has faults.

    Parameters
    ----------
    faults : Mapping[str, str]
        What is wrong, and a valid value, by configuration key.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        self.faults = dict(faults)
        lines = [f"  {key if key.isprintable() else ascii(key)}: {fault}" for key, fault in self.faults.items()]
        super().__init__("\n".join(["Framegate cannot be built with this configuration:", *lines]))


@dataclass(frozen=True)
class OnlyWith:
    """A condition on another key, without which a key has no effect.

    Parameters
    ----------
    key : str
        The other key.
    value : str | bool | None
        The value that the other key must have; ``None`` stands for any value but its default.
    required : bool
        Whether the condition makes the key required.
    """

    key: str
    value: str | bool | None = None
    required: bool = False

    def __str__(self) -> str:
        return self.key if self.value is None else f"{self.key}={str(self.value).lower()}"


@dataclass(frozen=True)
class Key:
    """The documentation of a configuration key. The field's annotation says which values it accepts.

    Parameters
    ----------
    meaning : str
        What the key decides, for the reference table.
    example : str
        A valid value, as written after ``-c <key>=``.
    only_with : OnlyWith | None
        The condition on another key, if any.
    """

    meaning: str
    example: str
    only_with: OnlyWith | None = None


def _text(pattern: str, what: str) -> Any:
    """Return the constraint that a text matches the whole pattern; `what` completes «is not »."""
    return Field(pattern=rf"\A(?:{pattern})\Z", description=what)


def _unique(items: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({item for item in items if items.count(item) > 1})
    if repeated:
        raise ValueError(f"{', '.join(map(_shown, repeated))} is given more than once")
    return items


def _unique_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Reject header names that differ only in case."""
    lower = [name.lower() for name in names]
    repeated = [name for name in names if lower.count(name.lower()) > 1]
    if repeated:
        raise ValueError(f"{', '.join(map(_shown, repeated))} name the same header: case does not matter")
    return names


def _origin(value: str) -> str:
    match = _ORIGIN.fullmatch(value)
    if value == "*":
        return value
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        raise ValueError(f"{_shown(value)} is not an origin: scheme://host[:port] in lower case, without a path")
    if match["port"] and int(match["port"]) == _DEFAULT_PORTS.get(match["scheme"]):
        raise ValueError(f"{_shown(value)} names the default port, which browsers omit: remove it")
    return value


def _every_origin_or_a_list(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins and len(origins) > 1:
        raise ValueError("'*' already allows every origin: give either '*' or a list of origins")
    return origins


def _few_enough(datastore_ids: tuple[str, ...]) -> tuple[str, ...]:
    if len(datastore_ids) > MAX_DATASTORES:
        raise ValueError(
            f"lists {len(datastore_ids)} data stores, but a deployment can serve {MAX_DATASTORES}: "
            "deploy a second stack"
        )
    return datastore_ids


def _in_order(events: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(events, key=("Created", "Updated", "Copied").index))


def _identifying_keyword(keyword: str) -> str:
    if keyword in IDENTIFYING_KEYWORDS:
        return keyword
    if any(column.keyword == keyword for column in ATTRIBUTES):
        raise ValueError(f"{_shown(keyword)} is always a column, because it identifies nobody: remove it")
    known = {each.lower(): each for each in IDENTIFYING_KEYWORDS}
    close = [known[each] for each in difflib.get_close_matches(keyword.lower().replace("_", ""), known, n=1)]
    hint = f"did you mean {close[0]}" if close else f"the keywords are {', '.join(IDENTIFYING_KEYWORDS)}"
    raise ValueError(f"{_shown(keyword)} is not the keyword of an identifying column: {hint}")


_UNIQUE = AfterValidator(_unique)
_DatastoreId = Annotated[str, _text("[0-9a-z]{32}", "a data store id, 32 digits and lower-case letters")]
_Origin = Annotated[str, AfterValidator(_origin)]
# The characters of a token (RFC 9110, section 5.6.2) that occur in header names. `*` is excluded on purpose: for
# browsers it does not include Authorization.
_HeaderName = Annotated[
    str, _text("[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "the name of a header: letters, digits and - . _")
]
# RFC 6749, section 3.3, without the comma, which separates list items.
_Scope = Annotated[str, _text(r"[!#-+\--\[\]-~]{1,256}", "a scope of OAuth 2.0")]
_ClientId = Annotated[str, _text("[A-Za-z0-9_+]{1,128}", "the id of an app client")]
_Audience = Annotated[str, _text(r"[!-+\--~]{1,256}", "an audience without spaces and commas")]
_VpcEndpointId = Annotated[str, _text("vpce-[0-9a-f]{8,17}", "the id of a VPC endpoint")]
_SubnetId = Annotated[str, _text("subnet-[0-9a-f]{8,17}", "the id of a subnet")]
_SecurityGroupId = Annotated[str, _text("sg-[0-9a-f]{8,17}", "the id of a security group")]
_Event = Literal["Created", "Updated", "Copied"]
_IdentifyingColumn = Annotated[str, AfterValidator(_identifying_keyword)]
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
_LogRetentionDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]


HIPAA_RETENTION_DAYS = 2192
"""Six years, for which a covered entity keeps the records of its security measures: 45 CFR 164.316(b)(2)(i)."""

PRODUCTION_MIN_RETENTION_DAYS: Mapping[str, int] = {
    "log_retention_days": 365,
    "audit_retention_days": HIPAA_RETENTION_DAYS,
}
"""Minimum values of keys in ``environment=production``, in days. AWS Config's rule cw-loggroup-retention-period-check
expects a year for logs, and so do its conformance packs for HIPAA and NIST SP 800-53."""


@checked_dataclass(frozen=True, config=ConfigDict(strict=True, regex_engine="python-re"))
class Config:
    """The configuration of a deployment.

    Each field is a CDK context key, given as ``-c key=value`` or under ``"context"`` in ``cdk.json``. Use
    :meth:`from_context` to read and check it.

    Examples
    --------
    >>> Config.from_context({"datastore_ids": "0123456789abcdef0123456789abcdef"}).memory_mb
    1769
    """

    datastore_ids: Annotated[
        tuple[_DatastoreId, ...],
        Field(description="a list of data store ids", min_length=1),
        _UNIQUE,
        AfterValidator(_few_enough),
        Key(
            "HealthImaging data stores to serve and export; requests for other data stores are refused",
            "0123456789abcdef0123456789abcdef",
        ),
    ]
    stack_name: Annotated[
        str,
        _text("[A-Za-z][A-Za-z0-9-]{0,127}", "a stack name: letters, digits and hyphens, a letter first, at most 128"),
        Key(
            "Name of the CloudFormation stack; a different name creates a second, independent deployment",
            "Framegate-Research",
        ),
    ] = "Framegate"
    environment: Annotated[
        Literal["development", "production"],
        Key(
            "Purpose of the deployment; `production` protects the stack from deletion, deploys gradually, and refuses "
            "settings that [put it at risk](security.md#production)",
            "production",
        ),
    ] = "development"
    gradual_deployment: Annotated[
        bool | None,
        Key(
            "Whether a new version of the API function first receives a tenth of the requests, and all of them only if "
            "no alarm is raised; `none` means yes in `production`, otherwise no",
            "true",
        ),
    ] = None
    alarm_email: Annotated[
        str | None,
        _text(rf"(?i:[^@\s]{{1,64}}@{_LABEL}(?:\.{_LABEL})+)", "an e-mail address"),
        Key(
            "E-mail address that receives alarms; with `none`, subscribe to the topic yourself",
            "operations@example.org",
        ),
    ] = None
    architecture: Annotated[Literal["arm64", "x86_64"], Key("Processor architecture of the functions", "x86_64")] = (
        "arm64"
    )
    memory_mb: Annotated[
        int, Field(ge=512, le=10240), Key("Memory of the API function, in MB; 1769 MB give one full vCPU", "3008")
    ] = 1769
    # API Gateway times out after 29 s. The last second is left for a cold start, so that the function answers first.
    timeout_seconds: Annotated[
        int, Field(ge=10, le=29), Key("Time limit of a request, in seconds; API Gateway times out after 29 s", "20")
    ] = 28
    presigned_url_lifetime_seconds: Annotated[
        int, Field(ge=60, le=3600), Key("Lifetime of a pre-signed URL, in seconds", "900")
    ] = 300
    frame_caching: Annotated[
        FrameCaching,
        Key(
            "What browsers may do with frames: `revalidate` keeps them and asks the API before each use, `immutable` "
            "uses them without asking, for machines that one person uses, and `no-store` keeps none",
            "no-store",
        ),
    ] = "revalidate"
    cors_origins: Annotated[
        tuple[_Origin, ...],
        Field(description="a list of origins", min_length=1),
        _UNIQUE,
        AfterValidator(_every_origin_or_a_list),
        Key("Web origins whose pages may call the API, or `*` for any", "https://viewer.example.org"),
    ] = ("*",)
    cors_request_headers: Annotated[
        tuple[_HeaderName, ...],
        Field(description="a list of header names"),
        AfterValidator(_unique_names),
        Key(
            "Request headers that these pages may send in addition to those that docs/access.md lists",
            "X-Viewer-Version",
        ),
    ] = ()
    auth: Annotated[
        Literal["iam", "cognito", "jwt"],
        Key(
            "How callers are authorized: by IAM, by a Cognito user pool, or by tokens of an OpenID Connect issuer",
            "jwt",
        ),
    ] = "iam"
    cognito_user_pool_arn: Annotated[
        str | None,
        _text(
            "arn:aws[a-z-]*:cognito-idp:[a-z0-9-]+:[0-9]{12}:userpool/[A-Za-z0-9_-]+_[A-Za-z0-9]+",
            "the ARN of a Cognito user pool",
        ),
        Key(
            "User pool for `auth=cognito`",
            "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_Example",
            OnlyWith("auth", "cognito", required=True),
        ),
    ] = None
    cognito_scopes: Annotated[
        tuple[_Scope, ...],
        Field(description="a list of scopes"),
        _UNIQUE,
        Key(
            "Scopes, one of which an access token must have; with `none`, the API accepts identity tokens",
            "frames/read",
            OnlyWith("auth", "cognito"),
        ),
    ] = ()
    cognito_client_ids: Annotated[
        tuple[_ClientId, ...],
        Field(description="a list of app client ids"),
        _UNIQUE,
        Key(
            "App clients of the user pool whose tokens are accepted; `auth=cognito` requires these or `cognito_scopes`",
            "1example23456789",
            OnlyWith("auth", "cognito"),
        ),
    ] = ()
    cognito_groups_are_datastores: Annotated[
        bool,
        Key(
            "Whether callers may read only the data stores whose ids are names of their groups (`cognito:groups`)",
            "true",
            OnlyWith("auth", "cognito"),
        ),
    ] = False
    jwt_issuer: Annotated[
        str | None,
        _text(_ISSUER, "an https:// URL without query and fragment"),
        Key(
            "OpenID Connect issuer for `auth=jwt`, exactly as in the claim `iss` of its tokens",
            "https://login.example.org/realms/imaging",
            OnlyWith("auth", "jwt", required=True),
        ),
    ] = None
    jwt_audience: Annotated[
        tuple[_Audience, ...],
        Field(description="a list of audiences"),
        _UNIQUE,
        Key(
            "Audiences, one of which a token must have in the claim `aud`",
            "framegate",
            OnlyWith("auth", "jwt", required=True),
        ),
    ] = ()
    jwt_datastores_claim: Annotated[
        str | None,
        _text("[!-~]{1,256}", "the name of a claim"),
        Key(
            "Claim that lists the data stores that the caller may read; with `none`, every caller may read all",
            "https://example.org/datastores",
            OnlyWith("auth", "jwt"),
        ),
    ] = None
    api_concurrency: Annotated[
        int | None,
        Field(ge=1, le=100_000),
        Key(
            "Concurrent requests of the API function, and as many of the render function, reserved from the account's "
            "concurrency; with `none`, both share the unreserved concurrency of the account",
            "500",
        ),
    ] = None
    audit_claim: Annotated[
        str,
        _text("[!-~]{1,256}", "the name of a claim"),
        Key(
            "Claim that names the caller in the audit record, with `auth=cognito` or `auth=jwt`",
            "preferred_username",
        ),
    ] = "sub"
    jwt_image_sets_claim: Annotated[
        str | None,
        _text("[!-~]{1,256}", "the name of a claim"),
        Key(
            "Claim that lists the image sets that the caller may read",
            "https://example.org/image-sets",
            OnlyWith("auth", "jwt"),
        ),
    ] = None
    jwt_studies_claim: Annotated[
        str | None,
        _text("[!-~]{1,256}", "the name of a claim"),
        Key(
            "Claim that lists the study instance UIDs whose image sets the caller may read",
            "https://example.org/studies",
            OnlyWith("auth", "jwt"),
        ),
    ] = None
    jwt_max_lifetime_seconds: Annotated[
        int | None,
        Field(ge=60, le=31_536_000),
        Key(
            "Maximum lifetime of a token, in seconds; with `none`, its issuer decides",
            "3600",
            OnlyWith("auth", "jwt"),
        ),
    ] = None
    authorization_function_arn: Annotated[
        str | None,
        _text(
            "arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_-]{1,64}(?::[A-Za-z0-9_$-]{1,128})?",
            "the ARN of a Lambda function, its version or its alias",
        ),
        Key(
            "Lambda function of yours, in the same Region, that decides who may read which image set",
            "arn:aws:lambda:eu-west-1:123456789012:function:image-access:live",
        ),
    ] = None
    authorization_cache_seconds: Annotated[
        int,
        Field(ge=0, le=3600),
        Key(
            "Seconds for which a decision of `authorization_function_arn` is cached; the function can ask for less",
            "300",
            OnlyWith("authorization_function_arn"),
        ),
    ] = 60
    waf: Annotated[
        bool,
        Key("Whether AWS WAF protects the API, with AWS's common rules and a rate limit", "true"),
    ] = False
    # A CT study has a thousand frames, and a hospital often has a single address.
    waf_rate_limit: Annotated[
        int,
        Field(ge=100, le=100_000_000),
        Key(
            "Requests that one IP address may send in five minutes",
            "50000",
            OnlyWith("waf", value=True),
        ),
    ] = 20_000
    # WAF cannot aggregate by caller under IAM: the header Authorization differs for each request.
    waf_token_rate_limit: Annotated[
        int,
        Field(ge=10, le=100_000_000),
        Key(
            "Requests that one token may send in five minutes, for `auth=jwt` and `auth=cognito`",
            "5000",
            OnlyWith("waf", value=True),
        ),
    ] = 10_000
    domain_name: Annotated[
        str | None,
        _text(_DOMAIN_NAME, "a domain name in lower case"),
        Key(
            "Domain name of the API, instead of the one that API Gateway assigns",
            "frames.example.org",
        ),
    ] = None
    domain_certificate_arn: Annotated[
        str | None,
        _text("arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9-]+", "the ARN of a certificate in ACM"),
        Key(
            "ACM certificate for `domain_name`, in the Region of the API",
            "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
            OnlyWith("domain_name", required=True),
        ),
    ] = None
    domain_hosted_zone_id: Annotated[
        str | None,
        _text("Z[0-9A-Z]{1,31}", "the id of a hosted zone"),
        Key(
            "Route 53 hosted zone that gets the alias records of `domain_name`; with `none`, create them yourself",
            "Z0123456789ABCDEFGHIJ",
            OnlyWith("domain_name"),
        ),
    ] = None
    vpc_endpoint_ids: Annotated[
        tuple[_VpcEndpointId, ...],
        Field(description="a list of VPC endpoint ids"),
        _UNIQUE,
        Key(
            "VPC endpoints for `execute-api`; the API accepts requests through them only. With `none`, it is public",
            "vpce-0123456789abcdef0",
        ),
    ] = ()
    # https://docs.aws.amazon.com/lambda/latest/api/API_VpcConfig.html
    vpc_subnet_ids: Annotated[
        tuple[_SubnetId, ...],
        Field(description="a list of subnet ids", max_length=16),
        _UNIQUE,
        Key(
            "Subnets of the functions; docs/access.md lists the VPC endpoints that they need. With `none`, the "
            "functions are in no VPC of yours",
            "subnet-0123456789abcdef0",
        ),
    ] = ()
    vpc_security_group_ids: Annotated[
        tuple[_SecurityGroupId, ...],
        Field(description="a list of security group ids", max_length=5),
        _UNIQUE,
        Key(
            "Security groups of the functions; they must allow HTTPS to the VPC endpoints",
            "sg-0123456789abcdef0",
            OnlyWith("vpc_subnet_ids", required=True),
        ),
    ] = ()
    s3_vpc_endpoint_ids: Annotated[
        tuple[_VpcEndpointId, ...],
        Field(description="a list of VPC endpoint ids"),
        _UNIQUE,
        Key(
            "VPC endpoints for S3; pre-signed URLs work through them only. With `none`, they work from any network",
            "vpce-0fedcba9876543210",
            OnlyWith("vpc_endpoint_ids"),
        ),
    ] = ()
    fips_endpoints: Annotated[
        bool,
        Key(
            "Whether the functions and the API use only cryptography validated under FIPS 140; HealthImaging has such "
            "endpoints in us-east-1 and us-west-2",
            "true",
        ),
    ] = False
    # HealthImaging allows 1000 GetImageFrame calls per second and account. The default leaves half to other callers.
    throttle_rate: Annotated[
        int, Field(ge=1, le=100_000), Key("Requests per second above which the API answers 429", "200")
    ] = 500
    throttle_burst: Annotated[
        int, Field(ge=1, le=100_000), Key("Size of a burst of requests above `throttle_rate`", "400")
    ] = 1000
    # HealthImaging allows 25 GetImageSet calls per second and account, and bursts of 50, and as many searches. The
    # defaults leave a fifth to other callers, counting the HEAD requests, which get a quarter as many.
    index_throttle_rate: Annotated[
        int,
        Field(ge=1, le=100_000),
        Key(
            "GET requests of the frame index, and of each search, per second above which the API answers 429; DICOM "
            "metadata gets twice as many, HEAD requests a quarter",
            "32",
        ),
    ] = 16
    index_throttle_burst: Annotated[
        int, Field(ge=1, le=100_000), Key("Size of a burst of requests above `index_throttle_rate`", "64")
    ] = 32
    export_events: Annotated[
        tuple[_Event, ...],
        Field(description="a list of Created, Updated, Copied"),
        _UNIQUE,
        AfterValidator(_in_order),
        Key(
            "Events of an image set that start an export of its frames; `none` exports on request only",
            "Created",
        ),
    ] = ("Created", "Updated", "Copied")
    export_output: Annotated[
        Literal["frames", "dicom"],
        Key(
            "What exports on events store: `frames`, or with `dicom` a DICOM file of each instance, which contains "
            "patient data. `dicom` also allows DICOM files in request manifests and in DICOMweb",
            "dicom",
        ),
    ] = "frames"
    dataset_tables: Annotated[
        bool,
        Key(
            "Whether [tables](datasets.md#the-tables) list what exports have stored: Parquet files with a row for each "
            "frame and each instance",
            "true",
        ),
    ] = False
    dataset_columns: Annotated[
        tuple[_IdentifyingColumn, ...],
        Field(description="a list of DICOM keywords that identify"),
        _UNIQUE,
        Key(
            "DICOM keywords of identifying attributes that the tables have columns for, from [this "
            "list](datasets.md#identifying-columns)",
            "PatientID,StudyInstanceUID",
            OnlyWith("dataset_tables", value=True),
        ),
    ] = ()
    dataset_catalog: Annotated[
        bool,
        Key(
            "Whether to create a Glue database of the tables and an Athena workgroup",
            "true",
            OnlyWith("dataset_tables", value=True),
        ),
    ] = False
    # The maximum concurrency of an SQS event source is at least 2.
    export_concurrency: Annotated[
        int,
        Field(ge=2, le=500),
        Key(
            "Concurrent workers for exports on events, and as many again for request manifests; two more store the "
            "frames that took too long for a request",
            "5",
        ),
    ] = 2
    export_rate: Annotated[
        int,
        Field(ge=1, le=100_000),
        Key(
            "`GetImageFrame` calls per second of all workers together; the quota of an account is 1000",
            "800",
        ),
    ] = 400
    export_timeout_seconds: Annotated[
        int,
        Field(ge=10, le=900),
        Key(
            "Time limit of one invocation that exports, in seconds; longer exports continue in another invocation",
            "900",
        ),
    ] = 300
    export_memory_mb: Annotated[
        int, Field(ge=1024, le=10240), Key("Memory of the functions that export, in MB", "3008")
    ] = 1769
    verify: Annotated[
        bool,
        Key(
            "Whether exports decode every lossless frame and compare its pixels with HealthImaging's checksum",
            "true",
        ),
    ] = False
    event_source: Annotated[
        str,
        _text("[A-Za-z0-9._/-]{1,256}", "the source of an event"),
        Key(
            "Source of HealthImaging's events; change it only without AWS, as in the local cloud",
            "local.medical-imaging",
        ),
    ] = "aws.medical-imaging"
    frame_retention_days: Annotated[
        int | None,
        Field(ge=1, le=36_500),
        Key(
            "Days after which stored frames, DICOM files, indexes and manifests expire; `none` keeps them until their "
            "image set is deleted",
            "30",
        ),
    ] = None
    log_retention_days: Annotated[
        _LogRetentionDays,
        Key("Retention of logs in days, a value that CloudWatch Logs accepts; at least 365 in `production`", "731"),
    ] = 365
    audit_retention_days: Annotated[
        _LogRetentionDays | None,
        Key(
            "Retention in days of the logs that have audit records, at least that of other logs; `none` means 2192 in "
            "`production`, otherwise `log_retention_days`",
            "3653",
        ),
    ] = None
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Key("Lowest level that the functions log", "DEBUG"),
    ] = "INFO"
    removal_policy: Annotated[
        Literal["retain", "destroy"],
        Key(
            "What `cdk destroy` does with stored frames, their key and the logs; `destroy` requires empty buckets",
            "destroy",
        ),
    ] = "retain"
    unusual_image_sets_per_hour: Annotated[
        int,
        Field(ge=10, le=1_000_000),
        Key(
            "Image sets that one principal reads in an hour, above which an alarm is raised; an image set is a series",
            "5000",
        ),
    ] = 1000
    api_gateway_account_role: Annotated[
        bool,
        Key(
            "Whether to create the role that API Gateway writes logs with. An account has one per Region, and a new "
            "one replaces it for all APIs: set `true` only if there is none",
            "true",
        ),
    ] = False

    @property
    def export_rate_per_worker(self) -> float:
        """GetImageFrame calls per second of one worker; each of the two export functions has as many workers."""
        return self.export_rate / (2 * self.export_concurrency)

    @property
    def writes_dicom_files(self) -> bool:
        """Whether exports and DICOMweb write DICOM files."""
        return self.export_output == "dicom"

    @property
    def audit_log_retention_days(self) -> int:
        """Days for which audit records are kept. Their log groups have other lines, too, which must stay as long."""
        default_days = HIPAA_RETENTION_DAYS if self.environment == "production" else self.log_retention_days
        return max(self.audit_retention_days or default_days, self.log_retention_days)

    @property
    def deploys_gradually(self) -> bool:
        """Whether a deployment shifts traffic to a new version step by step."""
        return self.environment == "production" if self.gradual_deployment is None else self.gradual_deployment

    @classmethod
    def from_context(cls, context: Mapping[str, object]) -> Config:
        """Read and check the configuration from the CDK context.

        Parameters
        ----------
        context : Mapping[str, object]
            All context values. Keys that the CDK defines are ignored; ``None`` counts as not given.

        Returns
        -------
        Config
            The checked configuration.

        Raises
        ------
        ConfigError
            A key is unknown or missing, a value is invalid, or two keys contradict each other. The error lists every
            fault.
        """
        known, faults, values = config_keys(), {}, {}
        for name, value in context.items():
            if ":" in name or "/" in name or name in _CDK_KEYS:
                continue
            if name not in known:
                faults[name] = _unknown(name)
            elif value is not None:
                values[name] = _from_text(value, _schemas()[name])
        config, invalid = _checked(values)
        # The faults keep the order of the given keys; missing keys come last.
        faults = {
            name: fault for name in context for fault in [faults.get(name) or invalid.get(name)] if fault
        } | invalid
        valid = {name: value for name, value in values.items() if name not in faults}
        faults |= _conflicts(valid, set(faults))
        if config is None or faults:
            raise ConfigError(faults)
        return config


def _checked(values: Mapping[str, Any]) -> tuple[Config | None, dict[str, str]]:
    """Return the configuration, or the first fault of each key."""
    try:
        return Config(**values), {}
    except ValidationError as error:
        invalid: dict[str, str] = {}
        for each in error.errors(include_url=False):
            invalid.setdefault(str(each["loc"][0]), _fault(each))
        return None, invalid


def _fault(error: ErrorDetails) -> str:
    """Return the message for a pydantic error: what is wrong with the value, and a valid one."""
    name, *position = error["loc"]
    example = f"For example: -c {name}={config_keys()[str(name)].example}"
    if error["type"] == "missing":
        return f"is missing. {example}"
    if error["type"] == "value_error":
        return f"{error['ctx']['error']}. {example}"
    schema = _schemas()[str(name)]
    value = list(error["input"]) if isinstance(error["input"], tuple) else error["input"]
    return f"{_shown(value)} is not {_expected(schema['items'] if position else schema)}. {example}"


def _expected(schema: Mapping[str, Any]) -> str:
    """Return what a key accepts, as the words after «is not »."""
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if schema["type"] == "integer":
        return f"a whole number from {schema['minimum']} to {schema['maximum']}"
    return {"boolean": "true or false", "string": "text"}[schema["type"]]


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each key, with `nullable` where ``none`` means that there is no value."""
    schemas = {}
    for name, schema in TypeAdapter(Config).json_schema()["properties"].items():
        choices = [each for each in schema.get("anyOf", []) if each["type"] != "null"]
        schemas[name] = {**schema, **choices[0], "nullable": True} if choices else schema
    return schemas


def _from_text(value: object, schema: Mapping[str, Any]) -> object:
    """Convert a context value from text to the type of its key; return other values unchanged.

    ``-c`` gives text. ``cdk.json`` may give text or JSON values.
    """
    if schema["type"] == "array":
        if isinstance(value, str):
            nothing = value in ("", "none") if "minItems" not in schema else not value.strip()
            value = [] if nothing else [item.strip() for item in value.split(",")]
        return tuple(value) if isinstance(value, list) else value
    if not isinstance(value, str):
        return value
    if "nullable" in schema and value in ("", "none"):
        return None
    text = value.strip()
    if schema["type"] == "integer":
        return int(text) if re.fullmatch("[0-9]{1,9}", text) else value
    if schema["type"] == "boolean":
        return {"true": True, "false": False}.get(text, value)
    return text if "enum" in schema else value


def _conflicts(values: Mapping[str, Any], already_faulty: Collection[str]) -> dict[str, str]:
    """Return the faults of keys that are valid on their own but not together."""
    settings, faults = {**_defaults(), **values}, {}
    for name, key in config_keys().items():
        condition = key.only_with
        if condition is None or {name, condition.key} & set(already_faulty):
            continue
        is_given = settings[name] != _defaults()[name]
        other = settings[condition.key]
        is_met = other == condition.value if condition.value is not None else other != _defaults()[condition.key]
        if is_given and not is_met:
            needed = condition if condition.value is not None else f"{condition}={config_keys()[condition.key].example}"
            faults[name] = f"has no effect without {condition}. Remove it, or add: -c {needed}"
        elif condition.required and is_met and not is_given:
            faults[name] = f"is missing, and {condition} requires it. For example: -c {name}={key.example}"
    if settings["auth"] == "iam" and settings["waf_token_rate_limit"] != _defaults()["waf_token_rate_limit"]:
        faults.setdefault(
            "waf_token_rate_limit", "has no effect with auth=iam, where requests have no token. Remove it"
        )
    if settings["audit_claim"] != _defaults()["audit_claim"] and settings["auth"] == "iam":
        faults["audit_claim"] = "has no effect with auth=iam, because the caller's ARN is on record. Remove it"
    choice = {"cognito_scopes", "cognito_client_ids"}
    if (
        settings["auth"] == "cognito"
        and not any(settings[name] for name in choice)
        and not choice & set(already_faulty)
    ):
        example = config_keys()["cognito_scopes"].example
        faults["cognito_scopes"] = (
            "is missing, and so is cognito_client_ids; auth=cognito requires one of the two, because the user pool "
            f"issues tokens to all of its app clients. For example: -c cognito_scopes={example}"
        )
    if settings["vpc_endpoint_ids"] and settings["domain_name"]:
        faults["vpc_endpoint_ids"] = "makes the API private, but domain_name needs a public API. Remove one of the two"
    if settings["environment"] == "production":
        faults |= {name: fault for name, fault in _production_faults(settings).items() if name not in already_faulty}
    return faults


def _production_faults(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the faults of keys that put a production deployment at risk."""
    faults = {}
    if settings["event_source"] != _defaults()["event_source"]:
        faults["event_source"] = (
            "lets other applications of the account announce deletions, which environment=production forbids. Remove it"
        )
    if settings["removal_policy"] == "destroy":
        faults["removal_policy"] = "destroys frames and logs, which environment=production forbids. Remove it"
    for name, minimum in PRODUCTION_MIN_RETENTION_DAYS.items():
        if settings[name] is not None and settings[name] < minimum:
            faults[name] = (
                f"is shorter than the {minimum} days that environment=production requires. "
                f"For example: -c {name}={minimum}"
            )
    return faults


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields(Config)}


def config_keys() -> dict[str, Key]:
    """Return the documentation of every configuration key, in the order of the reference table."""
    hints = get_type_hints(Config, include_extras=True)
    return {
        field.name: next(each for each in hints[field.name].__metadata__ if isinstance(each, Key))
        for field in fields(Config)
    }


def config_table() -> str:
    """Return the reference of all configuration keys as a Markdown table."""
    rows = ["| key | default | meaning | example |", "| --- | --- | --- | --- |"]
    for name, key in config_keys().items():
        rows.append(f"| `{name}` | {_default_shown(_defaults()[name])} | {key.meaning} | `-c {name}={key.example}` |")
    return "\n".join(rows)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _unknown(name: str) -> str:
    keys = config_keys()
    close = difflib.get_close_matches(name, keys, n=1)
    if close:
        return f"is not a configuration key. Did you mean: -c {close[0]}={keys[close[0]].example}"
    return f"is not a configuration key. The keys are: {', '.join(keys)}"


def _default_shown(default: object) -> str:
    if default is MISSING:
        return "required"
    if isinstance(default, tuple):
        default = ",".join(default) or None
    return f"`{str(default).lower() if default is None or isinstance(default, bool) else default}`"


if __name__ == "__main__":
    print(config_table())
