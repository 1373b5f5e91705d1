"""What a user can configure: one typed object, read from CDK context and checked before anything is built."""

from __future__ import annotations

import difflib
import re
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_core import ErrorDetails

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
    """The deployment's configuration has faults.

    Parameters
    ----------
    faults : Mapping[str, str]
        What is wrong, and what would be right, by configuration key.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        self.faults = dict(faults)
        lines = [f"  {key if key.isprintable() else ascii(key)}: {fault}" for key, fault in self.faults.items()]
        super().__init__("\n".join(["Framegate cannot be built with this configuration:", *lines]))


@dataclass(frozen=True)
class OnlyWith:
    """That a key means something only beside another.

    Parameters
    ----------
    key : str
        The other key.
    value : str | bool | None
        The value that it must have; ``None`` is any but its default.
    required : bool
        Whether the key has to be given then.
    """

    key: str
    value: str | bool | None = None
    required: bool = False

    def __str__(self) -> str:
        return self.key if self.value is None else f"{self.key}={str(self.value).lower()}"


@dataclass(frozen=True)
class Key:
    """How one configuration key is explained. Its annotation says what it takes.

    Parameters
    ----------
    meaning : str
        What the key decides, for the reference table.
    example : str
        A right value, as written after ``-c <key>=``.
    only_with : OnlyWith | None
        What the key needs beside it.
    """

    meaning: str
    example: str
    only_with: OnlyWith | None = None


def _text(pattern: str, what: str) -> Any:
    """Limit a text to a pattern that it must match as a whole; `what` completes «is not »."""
    return Field(pattern=rf"\A(?:{pattern})\Z", description=what)


def _unique(items: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({item for item in items if items.count(item) > 1})
    if repeated:
        raise ValueError(f"{', '.join(map(_shown, repeated))} is given more than once")
    return items


def _unique_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse names of headers that differ in nothing but case."""
    lower = [name.lower() for name in names]
    repeated = [name for name in names if lower.count(name.lower()) > 1]
    if repeated:
        raise ValueError(f"{', '.join(map(_shown, repeated))} are the same header: case does not matter")
    return names


def _origin(value: str) -> str:
    match = _ORIGIN.fullmatch(value)
    if value == "*":
        return value
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        raise ValueError(f"{_shown(value)} is not an origin: scheme://host[:port] in lower case, without a path")
    if match["port"] and int(match["port"]) == _DEFAULT_PORTS.get(match["scheme"]):
        raise ValueError(f"{_shown(value)} names the default port, which browsers leave out: leave it out")
    return value


def _every_origin_or_some(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins and len(origins) > 1:
        raise ValueError("'*' already allows every origin: give either '*' or a list of origins")
    return origins


def _in_order(events: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(events, key=("Created", "Updated", "Copied").index))


_UNIQUE = AfterValidator(_unique)
_DatastoreId = Annotated[str, _text("[0-9a-z]{32}", "a data store id, 32 digits and lower-case letters")]
_Origin = Annotated[str, AfterValidator(_origin)]
# Those characters of a token (RFC 9110, section 5.6.2) that names of headers have. `*` is left out on purpose: browsers
# do not take it to mean Authorization.
_HeaderName = Annotated[
    str, _text("[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "the name of a header: letters, digits and - . _")
]
# RFC 6749, section 3.3, and no comma, which parts a list.
_Scope = Annotated[str, _text(r"[!#-+\--\[\]-~]{1,256}", "a scope of OAuth 2.0")]
_Audience = Annotated[str, _text(r"[!-+\--~]{1,256}", "an audience without spaces and commas")]
_VpcEndpointId = Annotated[str, _text("vpce-[0-9a-f]{8,17}", "the id of a VPC endpoint")]
_Event = Literal["Created", "Updated", "Copied"]
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
_LogRetentionDays = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]


@checked_dataclass(frozen=True, config=ConfigDict(strict=True, regex_engine="python-re"))
class Config:
    """What the stack is built from.

    Each field is a CDK context key: given as ``-c key=value``, or under ``"context"`` in ``cdk.json``.

    Raises
    ------
    ConfigError
        By :meth:`from_context`: a key is unknown or missing, a value is not one that the key takes, or two keys do not
        belong together.

    Examples
    --------
    >>> Config.from_context({"datastore_ids": "0123456789abcdef0123456789abcdef"}).memory_mb
    1769
    """

    datastore_ids: Annotated[
        tuple[_DatastoreId, ...],
        Field(description="a list of data store ids", min_length=1),
        _UNIQUE,
        Key(
            "HealthImaging data stores whose frames are served and exported; requests for any other are refused",
            "0123456789abcdef0123456789abcdef",
        ),
    ]
    stack_name: Annotated[
        str,
        _text("[A-Za-z][A-Za-z0-9-]{0,127}", "a stack name: letters, digits and hyphens, a letter first, at most 128"),
        Key(
            "Name of the CloudFormation stack; another name gives a second, independent deployment",
            "Framegate-Research",
        ),
    ] = "Framegate"
    environment: Annotated[
        Literal["development", "production"],
        Key(
            "What it is for; `production` protects the stack from deletion and deploys gradually",
            "production",
        ),
    ] = "development"
    gradual_deployment: Annotated[
        bool | None,
        Key(
            "Whether a new version of the API's function gets a tenth of the requests first, and all only if no alarm "
            "rings; `none` means in `production`",
            "true",
        ),
    ] = None
    alarm_email: Annotated[
        str | None,
        _text(rf"(?i:[^@\s]{{1,64}}@{_LABEL}(?:\.{_LABEL})+)", "an e-mail address"),
        Key(
            "Who hears of alarms; `none` leaves it to whoever subscribes to the topic",
            "operations@example.org",
        ),
    ] = None
    architecture: Annotated[Literal["arm64", "x86_64"], Key("Processor that the functions run on", "x86_64")] = "arm64"
    memory_mb: Annotated[
        int, Field(ge=512, le=10240), Key("Memory of the API's function; 1769 MB come with one whole vCPU", "3008")
    ] = 1769
    # API Gateway gives a request up after 29 s: the last second is for a cold start, so that the answer is still ours.
    timeout_seconds: Annotated[
        int, Field(ge=10, le=29), Key("Time that a request may take; API Gateway gives up after 29 s", "20")
    ] = 28
    presigned_url_lifetime_seconds: Annotated[
        int, Field(ge=60, le=3600), Key("How long the pre-signed URL of a large frame can be used", "900")
    ] = 300
    cors_origins: Annotated[
        tuple[_Origin, ...],
        Field(description="a list of origins", min_length=1),
        _UNIQUE,
        AfterValidator(_every_origin_or_some),
        Key("Web origins whose pages may call the API, or `*` for any", "https://viewer.example.org"),
    ] = ("*",)
    cors_request_headers: Annotated[
        tuple[_HeaderName, ...],
        Field(description="a list of header names"),
        AfterValidator(_unique_names),
        Key(
            "Request headers that those pages may send beside the usual ones, which docs/access.md lists",
            "X-Viewer-Version",
        ),
    ] = ()
    auth: Annotated[
        Literal["iam", "cognito", "jwt"],
        Key(
            "Who may call: principals of IAM, users of a Cognito user pool, or holders of a token of an OpenID Connect "
            "issuer",
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
            "The user pool of `auth=cognito`",
            "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_Example",
            OnlyWith("auth", "cognito", required=True),
        ),
    ] = None
    cognito_scopes: Annotated[
        tuple[_Scope, ...],
        Field(description="a list of scopes"),
        _UNIQUE,
        Key(
            "Scopes of which an access token needs one; with `none`, identity tokens are taken",
            "frames/read",
            OnlyWith("auth", "cognito"),
        ),
    ] = ()
    jwt_issuer: Annotated[
        str | None,
        _text(_ISSUER, "an https:// URL without query and fragment"),
        Key(
            "The OpenID Connect issuer of `auth=jwt`, exactly as tokens have it in `iss`",
            "https://login.example.org/realms/imaging",
            OnlyWith("auth", "jwt", required=True),
        ),
    ] = None
    jwt_audience: Annotated[
        tuple[_Audience, ...],
        Field(description="a list of audiences"),
        _UNIQUE,
        Key(
            "Audiences of which a token must have one in `aud`",
            "framegate",
            OnlyWith("auth", "jwt", required=True),
        ),
    ] = ()
    jwt_datastores_claim: Annotated[
        str | None,
        _text("[!-~]{1,256}", "the name of a claim"),
        Key(
            "Claim that lists the data stores that the token's holder may read; with `none`, every holder reads all",
            "https://example.org/datastores",
            OnlyWith("auth", "jwt"),
        ),
    ] = None
    waf: Annotated[
        bool,
        Key("Whether AWS WAF stands before the API, with AWS's common rules and a rate limit", "true"),
    ] = False
    # A CT study has a thousand frames, and a hospital is one address.
    waf_rate_limit: Annotated[
        int,
        Field(ge=100, le=100_000_000),
        Key(
            "Requests that one address may make in five minutes",
            "50000",
            OnlyWith("waf", value=True),
        ),
    ] = 20_000
    domain_name: Annotated[
        str | None,
        _text(_DOMAIN_NAME, "a domain name in lower case"),
        Key(
            "Domain name of the API, in the place of API Gateway's own",
            "frames.example.org",
        ),
    ] = None
    domain_certificate_arn: Annotated[
        str | None,
        _text("arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9-]+", "the ARN of a certificate in ACM"),
        Key(
            "Certificate for `domain_name`, in the Region of the API",
            "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
            OnlyWith("domain_name", required=True),
        ),
    ] = None
    domain_hosted_zone_id: Annotated[
        str | None,
        _text("Z[0-9A-Z]{1,31}", "the id of a hosted zone"),
        Key(
            "Route 53 zone in which `domain_name` becomes an alias of the API; with `none`, that is left to you",
            "Z0123456789ABCDEFGHIJ",
            OnlyWith("domain_name"),
        ),
    ] = None
    vpc_endpoint_ids: Annotated[
        tuple[_VpcEndpointId, ...],
        Field(description="a list of VPC endpoint ids"),
        _UNIQUE,
        Key(
            "VPC endpoints for `execute-api` through which alone the API is reached; with `none`, it is public",
            "vpce-0123456789abcdef0",
        ),
    ] = ()
    fips_endpoints: Annotated[
        bool,
        Key(
            "Whether the functions and the API use only cryptography validated by FIPS 140; HealthImaging has such "
            "endpoints in us-east-1 and us-west-2",
            "true",
        ),
    ] = False
    # HealthImaging takes 1000 GetImageFrame calls per second and account: half of them is left to everyone else.
    throttle_rate: Annotated[
        int, Field(ge=1, le=100_000), Key("Requests per second that the API takes before it answers 429", "200")
    ] = 500
    throttle_burst: Annotated[
        int, Field(ge=1, le=100_000), Key("Requests that may come at once, above `throttle_rate`", "400")
    ] = 1000
    export_events: Annotated[
        tuple[_Event, ...],
        Field(description="a list of Created, Updated, Copied"),
        _UNIQUE,
        AfterValidator(_in_order),
        Key(
            "What has to happen to an image set for its frames to be exported; `none` exports on request only",
            "Created",
        ),
    ] = ("Created", "Updated", "Copied")
    # SQS event sources take no fewer than 2.
    export_concurrency: Annotated[
        int,
        Field(ge=2, le=500),
        Key(
            "Workers that export at the same time on events, and as many again for request manifests",
            "5",
        ),
    ] = 2
    export_rate: Annotated[
        int,
        Field(ge=1, le=100_000),
        Key(
            "`GetImageFrame` calls per second that all workers together make; an account has 1000",
            "800",
        ),
    ] = 400
    export_timeout_seconds: Annotated[
        int,
        Field(ge=10, le=900),
        Key(
            "Time of one invocation that exports; what takes longer goes on in the next one",
            "900",
        ),
    ] = 300
    export_memory_mb: Annotated[int, Field(ge=1024, le=10240), Key("Memory of the functions that export", "3008")] = (
        1769
    )
    verify: Annotated[
        bool,
        Key(
            "Whether every exported lossless frame is decoded and compared with HealthImaging's checksum of its pixels",
            "true",
        ),
    ] = False
    event_source: Annotated[
        str,
        _text("[A-Za-z0-9._/-]{1,256}", "the source of an event"),
        Key(
            "Source of the events of HealthImaging; another one only where no AWS is, as in the local cloud",
            "local.medical-imaging",
        ),
    ] = "aws.medical-imaging"
    frame_retention_days: Annotated[
        int | None,
        Field(ge=1, le=36_500),
        Key(
            "Days after which stored frames and manifests expire; `none` keeps them until their image set is deleted",
            "30",
        ),
    ] = None
    log_retention_days: Annotated[
        _LogRetentionDays, Key("Days that logs are kept; a value that CloudWatch Logs takes", "90")
    ] = 365
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Key("Least severe level that the functions log", "DEBUG"),
    ] = "INFO"
    removal_policy: Annotated[
        Literal["retain", "destroy"],
        Key(
            "What `cdk destroy` does with stored frames, their key and the logs; `destroy` needs the buckets empty",
            "destroy",
        ),
    ] = "retain"
    api_gateway_account_role: Annotated[
        bool,
        Key(
            "Whether to create the role with which API Gateway writes logs. An account has one in each Region, and "
            "creating another replaces it for all APIs: `true` only where there is none",
            "true",
        ),
    ] = False

    @property
    def export_rate_of_a_worker(self) -> float:
        """GetImageFrame calls a second of one worker; two functions, for events and requests, have as many each."""
        return self.export_rate / (2 * self.export_concurrency)

    @property
    def deploys_gradually(self) -> bool:
        """Whether traffic is shifted to a new version step by step."""
        return self.environment == "production" if self.gradual_deployment is None else self.gradual_deployment

    @classmethod
    def from_context(cls, context: Mapping[str, object]) -> Config:
        """Read the configuration from everything that CDK has as context.

        Parameters
        ----------
        context : Mapping[str, object]
            All context values. Keys that CDK itself defines are passed over; ``None`` counts as not given.

        Returns
        -------
        Config
            The checked configuration.

        Raises
        ------
        ConfigError
            With every fault found, not only the first.
        """
        known, faults, values = config_keys(), {}, {}
        for name, value in context.items():
            if ":" in name or "/" in name or name in _CDK_KEYS:
                continue
            if name not in known:
                faults[name] = _unknown(name)
            elif value is not None:
                values[name] = _from_text(value, _schemas()[name])
        config, wrong = _checked(values)
        # In the order in which the keys were given, and those that are missing at the end.
        faults = {name: fault for name in context for fault in [faults.get(name) or wrong.get(name)] if fault} | wrong
        right = {name: value for name, value in values.items() if name not in faults}
        faults |= _discords(right, set(faults))
        if config is None or faults:
            raise ConfigError(faults)
        return config


def _checked(values: Mapping[str, Any]) -> tuple[Config | None, dict[str, str]]:
    """Return the configuration, or what is wrong with its values by key; the first fault of each."""
    try:
        return Config(**values), {}
    except ValidationError as error:
        wrong: dict[str, str] = {}
        for each in error.errors(include_url=False):
            wrong.setdefault(str(each["loc"][0]), _fault(each))
        return None, wrong


def _fault(error: ErrorDetails) -> str:
    """Word an error of pydantic's: what is wrong with the value, and a right one."""
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
    """Say what a key takes; it completes «is not »."""
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if schema["type"] == "integer":
        return f"a whole number from {schema['minimum']} to {schema['maximum']}"
    return {"boolean": "true or false", "string": "text"}[schema["type"]]


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    """What each key takes, as JSON Schema; `nullable` where ``none`` stands for nothing."""
    schemas = {}
    for name, schema in TypeAdapter(Config).json_schema()["properties"].items():
        choices = [each for each in schema.get("anyOf", []) if each["type"] != "null"]
        schemas[name] = {**schema, **choices[0], "nullable": True} if choices else schema
    return schemas


def _from_text(value: object, schema: Mapping[str, Any]) -> object:
    """Read a context value as what its key takes: ``-c`` gives text, and ``cdk.json`` may. What is neither stays."""
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


def _discords(values: Mapping[str, Any], already_wrong: Collection[str]) -> dict[str, str]:
    """The faults of keys that do not belong together, where each for itself is right."""
    settings, faults = {**_defaults(), **values}, {}
    for name, key in config_keys().items():
        beside = key.only_with
        if beside is None or {name, beside.key} & set(already_wrong):
            continue
        is_given = settings[name] != _defaults()[name]
        other = settings[beside.key]
        is_beside = other == beside.value if beside.value is not None else other != _defaults()[beside.key]
        if is_given and not is_beside:
            wanted = beside if beside.value is not None else f"{beside}={config_keys()[beside.key].example}"
            faults[name] = f"means nothing without {beside}. Leave it out, or give: -c {wanted}"
        elif beside.required and is_beside and not is_given:
            faults[name] = f"is missing, and {beside} needs it. For example: -c {name}={key.example}"
    if settings["vpc_endpoint_ids"] and settings["domain_name"]:
        faults["vpc_endpoint_ids"] = (
            "makes the API private, and domain_name leads to a public one. Leave one of the two out"
        )
    return faults


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields(Config)}


def config_keys() -> dict[str, Key]:
    """Return every configuration key with how it is read and explained, in the order of the reference."""
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
