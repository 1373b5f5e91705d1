"""What a user can configure: one typed object, read from CDK context and checked before anything is built."""

from __future__ import annotations

import difflib
import re
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

# CDK namespaces the context keys that it defines (`aws:cdk:…`, `@aws-cdk/…`, `availability-zones:account=…`). These
# two, which the CLI's commands `acknowledge` and `migrate` write, are the exceptions.
_CDK_KEYS = frozenset({"acknowledged-issue-numbers", "cdk-migrate"})

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
_LOG_RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip

_DATASTORE_ID = re.compile(r"[0-9a-z]{32}")
_STACK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EVENT_SOURCE = re.compile(r"[A-Za-z0-9._/-]{1,256}")
_EMAIL = re.compile(rf"[^@\s]{{1,64}}@{_LABEL}(?:\.{_LABEL})+", re.IGNORECASE)
_USER_POOL_ARN = re.compile(r"arn:aws[a-z-]*:cognito-idp:[a-z0-9-]+:[0-9]{12}:userpool/[A-Za-z0-9_-]+_[A-Za-z0-9]+")
# RFC 6749, section 3.3, and no comma, which parts a list.
_SCOPE = re.compile(r"[!#-+\--\[\]-~]{1,256}")
# OpenID Connect Core 1.0, section 2: https, no query and no fragment.
_ISSUER = re.compile(
    r"https://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+;=:@%-]*)*"
)
_AUDIENCE = re.compile(r"[!-+\--~]{1,256}")
_CLAIM = re.compile(r"[!-~]{1,256}")
_DOMAIN_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])")
_CERTIFICATE_ARN = re.compile(r"arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[A-Za-z0-9-]+")
_HOSTED_ZONE_ID = re.compile(r"Z[0-9A-Z]{1,31}")
# Those characters of a token (RFC 9110, section 5.6.2) that names of headers have. `*` is left out on purpose: browsers
# do not take it to mean Authorization.
_HEADER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VPC_ENDPOINT_ID = re.compile(r"vpce-[0-9a-f]{8,17}")
_ORIGIN = re.compile(
    rf"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?"
)
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


class _InvalidValueError(Exception):
    """A value that a key does not take; the text completes «<key>: »."""


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
    """How one configuration key is read and explained.

    Parameters
    ----------
    parse : Callable[[object], Any]
        Turns a context value, text from ``-c`` or JSON from ``cdk.json``, into the typed value, or raises.
    meaning : str
        What the key decides, for the reference table.
    example : str
        A right value, as written after ``-c <key>=``.
    only_with : OnlyWith | None
        What the key needs beside it.
    """

    parse: Callable[[object], Any]
    meaning: str
    example: str
    only_with: OnlyWith | None = None


def _whole_number(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip(), re.ASCII):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _InvalidValueError(f"{_shown(value)} is not a whole number from {low} to {high}")
        return value

    return parse


def _number_of(choices: tuple[int, ...]) -> Callable[[object], int]:
    in_range = _whole_number(min(choices), max(choices))

    def parse(value: object) -> int:
        try:
            number = in_range(value)
        except _InvalidValueError:
            number = -1
        if number not in choices:
            raise _InvalidValueError(f"{_shown(value)} is not one of {', '.join(map(str, choices))}")
        return number

    return parse


def _one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or value.strip() not in choices:
            raise _InvalidValueError(f"{_shown(value)} is not one of {', '.join(choices)}")
        return value.strip()

    return parse


def _names_or_none(*choices: str) -> Callable[[object], tuple[str, ...]]:
    """Read a list of some of the choices, given back in their order; ``none`` is none of them."""
    parse_list = _list_or_none(_list_of(_one_of(*choices), f"{', '.join(choices)}"))

    def parse(value: object) -> tuple[str, ...]:
        names = parse_list(value)
        return tuple(choice for choice in choices if choice in names)

    return parse


def _optional(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    def parse_unless_none(value: object) -> Any:
        return None if value in ("", "none") else parse(value)

    return parse_unless_none


def _list_or_none(parse: Callable[[object], tuple[str, ...]]) -> Callable[[object], tuple[str, ...]]:
    def parse_unless_none(value: object) -> tuple[str, ...]:
        return () if value in ("", "none", [], ()) else parse(value)

    return parse_unless_none


def _true_or_false(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip() in ("true", "false"):
        return value.strip() == "true"
    raise _InvalidValueError(f"{_shown(value)} is neither true nor false")


def _matching(pattern: re.Pattern[str], description: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _InvalidValueError(f"{_shown(value)} is not {description}")
        return value

    return parse


def _list_of(parse_item: Callable[[object], str], what: str) -> Callable[[object], tuple[str, ...]]:
    """Read a list given as JSON array or as text with commas."""

    def parse(value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [item.strip() for item in value.split(",")] if value.strip() else []
        if not isinstance(value, list | tuple) or not value:
            raise _InvalidValueError(f"{_shown(value)} is not a list of {what}")
        items = tuple(parse_item(item) for item in value)
        repeated = sorted({item for item in items if items.count(item) > 1})
        if repeated:
            raise _InvalidValueError(f"{', '.join(map(_shown, repeated))} is given more than once")
        return items

    return parse


def _origin(value: object) -> str:
    if value == "*":
        return "*"
    match = _ORIGIN.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        raise _InvalidValueError(
            f"{_shown(value)} is not an origin: scheme://host[:port] in lower case, without a path"
        )
    if match["port"] and int(match["port"]) == _DEFAULT_PORTS.get(match["scheme"]):
        raise _InvalidValueError(f"{_shown(value)} names the default port, which browsers leave out: leave it out")
    return match[0]


def _origins(value: object) -> tuple[str, ...]:
    origins = _list_of(_origin, "origins")(value)
    if "*" in origins and len(origins) > 1:
        raise _InvalidValueError("'*' already allows every origin: give either '*' or a list of origins")
    return origins


def _header_names(value: object) -> tuple[str, ...]:
    names = _list_or_none(
        _list_of(_matching(_HEADER_NAME, "the name of a header: letters, digits and - . _"), "header names")
    )(value)
    lower = [name.lower() for name in names]
    repeated = [name for name in names if lower.count(name.lower()) > 1]
    if repeated:
        raise _InvalidValueError(f"{', '.join(map(_shown, repeated))} are the same header: case does not matter")
    return names


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


@dataclass(frozen=True)
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
        tuple[str, ...],
        Key(
            _list_of(_matching(_DATASTORE_ID, "a data store id, 32 digits and lower-case letters"), "data store ids"),
            "HealthImaging data stores whose frames are served and exported; requests for any other are refused",
            "0123456789abcdef0123456789abcdef",
        ),
    ]
    stack_name: Annotated[
        str,
        Key(
            _matching(_STACK_NAME, "a stack name: letters, digits and hyphens, a letter first, at most 128"),
            "Name of the CloudFormation stack; another name gives a second, independent deployment",
            "Framegate-Research",
        ),
    ] = "Framegate"
    environment: Annotated[
        Literal["development", "production"],
        Key(
            _one_of("development", "production"),
            "What it is for; `production` protects the stack from deletion and deploys gradually",
            "production",
        ),
    ] = "development"
    gradual_deployment: Annotated[
        bool | None,
        Key(
            _optional(_true_or_false),
            "Whether a new version of the API's function gets a tenth of the requests first, and all only if no alarm "
            "rings; `none` means in `production`",
            "true",
        ),
    ] = None
    alarm_email: Annotated[
        str | None,
        Key(
            _optional(_matching(_EMAIL, "an e-mail address")),
            "Who hears of alarms; `none` leaves it to whoever subscribes to the topic",
            "operations@example.org",
        ),
    ] = None
    architecture: Annotated[
        Literal["arm64", "x86_64"], Key(_one_of("arm64", "x86_64"), "Processor that the functions run on", "x86_64")
    ] = "arm64"
    memory_mb: Annotated[
        int, Key(_whole_number(512, 10240), "Memory of the API's function; 1769 MB come with one whole vCPU", "3008")
    ] = 1769
    # API Gateway gives a request up after 29 s: the last second is for a cold start, so that the answer is still ours.
    timeout_seconds: Annotated[
        int, Key(_whole_number(10, 29), "Time that a request may take; API Gateway gives up after 29 s", "20")
    ] = 28
    presigned_url_lifetime_seconds: Annotated[
        int, Key(_whole_number(60, 3600), "How long the pre-signed URL of a large frame can be used", "900")
    ] = 300
    cors_origins: Annotated[
        tuple[str, ...],
        Key(_origins, "Web origins whose pages may call the API, or `*` for any", "https://viewer.example.org"),
    ] = ("*",)
    cors_request_headers: Annotated[
        tuple[str, ...],
        Key(
            _header_names,
            "Request headers that those pages may send beside the usual ones, which docs/access.md lists",
            "X-Viewer-Version",
        ),
    ] = ()
    auth: Annotated[
        Literal["iam", "cognito", "jwt"],
        Key(
            _one_of("iam", "cognito", "jwt"),
            "Who may call: principals of IAM, users of a Cognito user pool, or holders of a token of an OpenID Connect "
            "issuer",
            "jwt",
        ),
    ] = "iam"
    cognito_user_pool_arn: Annotated[
        str | None,
        Key(
            _optional(_matching(_USER_POOL_ARN, "the ARN of a Cognito user pool")),
            "The user pool of `auth=cognito`",
            "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_Example",
            OnlyWith("auth", "cognito", required=True),
        ),
    ] = None
    cognito_scopes: Annotated[
        tuple[str, ...],
        Key(
            _list_or_none(_list_of(_matching(_SCOPE, "a scope of OAuth 2.0"), "scopes")),
            "Scopes of which an access token needs one; with `none`, identity tokens are taken",
            "frames/read",
            OnlyWith("auth", "cognito"),
        ),
    ] = ()
    jwt_issuer: Annotated[
        str | None,
        Key(
            _optional(_matching(_ISSUER, "an https:// URL without query and fragment")),
            "The OpenID Connect issuer of `auth=jwt`, exactly as tokens have it in `iss`",
            "https://login.example.org/realms/imaging",
            OnlyWith("auth", "jwt", required=True),
        ),
    ] = None
    jwt_audience: Annotated[
        tuple[str, ...],
        Key(
            _list_or_none(_list_of(_matching(_AUDIENCE, "an audience without spaces and commas"), "audiences")),
            "Audiences of which a token must have one in `aud`",
            "framegate",
            OnlyWith("auth", "jwt", required=True),
        ),
    ] = ()
    jwt_datastores_claim: Annotated[
        str | None,
        Key(
            _optional(_matching(_CLAIM, "the name of a claim")),
            "Claim that lists the data stores that the token's holder may read; with `none`, every holder reads all",
            "https://example.org/datastores",
            OnlyWith("auth", "jwt"),
        ),
    ] = None
    waf: Annotated[
        bool,
        Key(_true_or_false, "Whether AWS WAF stands before the API, with AWS's common rules and a rate limit", "true"),
    ] = False
    # A CT study has a thousand frames, and a hospital is one address.
    waf_rate_limit: Annotated[
        int,
        Key(
            _whole_number(100, 100_000_000),
            "Requests that one address may make in five minutes",
            "50000",
            OnlyWith("waf", value=True),
        ),
    ] = 20_000
    domain_name: Annotated[
        str | None,
        Key(
            _optional(_matching(_DOMAIN_NAME, "a domain name in lower case")),
            "Domain name of the API, in the place of API Gateway's own",
            "frames.example.org",
        ),
    ] = None
    domain_certificate_arn: Annotated[
        str | None,
        Key(
            _optional(_matching(_CERTIFICATE_ARN, "the ARN of a certificate in ACM")),
            "Certificate for `domain_name`, in the Region of the API",
            "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
            OnlyWith("domain_name", required=True),
        ),
    ] = None
    domain_hosted_zone_id: Annotated[
        str | None,
        Key(
            _optional(_matching(_HOSTED_ZONE_ID, "the id of a hosted zone")),
            "Route 53 zone in which `domain_name` becomes an alias of the API; with `none`, that is left to you",
            "Z0123456789ABCDEFGHIJ",
            OnlyWith("domain_name"),
        ),
    ] = None
    vpc_endpoint_ids: Annotated[
        tuple[str, ...],
        Key(
            _list_or_none(_list_of(_matching(_VPC_ENDPOINT_ID, "the id of a VPC endpoint"), "VPC endpoint ids")),
            "VPC endpoints for `execute-api` through which alone the API is reached; with `none`, it is public",
            "vpce-0123456789abcdef0",
        ),
    ] = ()
    fips_endpoints: Annotated[
        bool,
        Key(
            _true_or_false,
            "Whether the functions and the API use only cryptography validated by FIPS 140; HealthImaging has such "
            "endpoints in us-east-1 and us-west-2",
            "true",
        ),
    ] = False
    # HealthImaging takes 1000 GetImageFrame calls per second and account: half of them is left to everyone else.
    throttle_rate: Annotated[
        int, Key(_whole_number(1, 100_000), "Requests per second that the API takes before it answers 429", "200")
    ] = 500
    throttle_burst: Annotated[
        int, Key(_whole_number(1, 100_000), "Requests that may come at once, above `throttle_rate`", "400")
    ] = 1000
    export_events: Annotated[
        tuple[Literal["Created", "Updated", "Copied"], ...],
        Key(
            _names_or_none("Created", "Updated", "Copied"),
            "What has to happen to an image set for its frames to be exported; `none` exports on request only",
            "Created",
        ),
    ] = ("Created", "Updated", "Copied")
    # SQS event sources take no fewer than 2.
    export_concurrency: Annotated[
        int,
        Key(
            _whole_number(2, 500),
            "Workers that export at the same time on events, and as many again for request manifests",
            "5",
        ),
    ] = 2
    export_rate: Annotated[
        int,
        Key(
            _whole_number(1, 100_000),
            "`GetImageFrame` calls per second that all workers together make; an account has 1000",
            "800",
        ),
    ] = 400
    export_timeout_seconds: Annotated[
        int,
        Key(
            _whole_number(10, 900),
            "Time of one invocation that exports; what takes longer goes on in the next one",
            "900",
        ),
    ] = 300
    export_memory_mb: Annotated[int, Key(_whole_number(1024, 10240), "Memory of the functions that export", "3008")] = (
        1769
    )
    verify: Annotated[
        bool,
        Key(
            _true_or_false,
            "Whether every exported lossless frame is decoded and compared with HealthImaging's checksum of its pixels",
            "true",
        ),
    ] = False
    event_source: Annotated[
        str,
        Key(
            _matching(_EVENT_SOURCE, "the source of an event"),
            "Source of the events of HealthImaging; another one only where no AWS is, as in the local cloud",
            "local.medical-imaging",
        ),
    ] = "aws.medical-imaging"
    frame_retention_days: Annotated[
        int | None,
        Key(
            _optional(_whole_number(1, 36_500)),
            "Days after which stored frames and manifests expire; `none` keeps them until their image set is deleted",
            "30",
        ),
    ] = None
    log_retention_days: Annotated[
        int, Key(_number_of(_LOG_RETENTION_DAYS), "Days that logs are kept; a value that CloudWatch Logs takes", "90")
    ] = 365
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Key(_one_of("DEBUG", "INFO", "WARNING", "ERROR"), "Least severe level that the functions log", "DEBUG"),
    ] = "INFO"
    removal_policy: Annotated[
        Literal["retain", "destroy"],
        Key(
            _one_of("retain", "destroy"),
            "What `cdk destroy` does with stored frames, their key and the logs; `destroy` needs the buckets empty",
            "destroy",
        ),
    ] = "retain"
    api_gateway_account_role: Annotated[
        bool,
        Key(
            _true_or_false,
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
        keys, faults, values = config_keys(), {}, {}
        for name, value in context.items():
            if ":" in name or "/" in name or name in _CDK_KEYS:
                continue
            if name not in keys:
                faults[name] = _unknown(name)
            elif value is not None:
                try:
                    values[name] = keys[name].parse(value)
                except _InvalidValueError as invalid:
                    faults[name] = f"{invalid}. For example: -c {name}={keys[name].example}"
        for field in fields(cls):
            if field.default is MISSING and field.name not in values and field.name not in faults:
                faults[field.name] = f"is missing. For example: -c {field.name}={keys[field.name].example}"
        faults |= _discords(values, set(faults))
        if faults:
            raise ConfigError(faults)
        return cls(**values)


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
    return {field.name: hints[field.name].__metadata__[0] for field in fields(Config)}


def config_table() -> str:
    """Return the reference of all configuration keys as a Markdown table."""
    rows = ["| key | default | meaning | example |", "| --- | --- | --- | --- |"]
    for name, key in config_keys().items():
        rows.append(f"| `{name}` | {_default_shown(_defaults()[name])} | {key.meaning} | `-c {name}={key.example}` |")
    return "\n".join(rows)


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
