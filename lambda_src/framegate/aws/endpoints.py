"""Resolves service endpoints from botocore's rules, without a client."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.utils import ensure_boolean

from framegate.settings import configured_endpoint_url

if TYPE_CHECKING:
    from botocore.session import Session


def endpoint_url(session: Session, service: str, api_version: str, host_prefix: str = "") -> str:
    """Return the URL of a service, without a trailing slash.

    Parameters
    ----------
    session : botocore.session.Session
        Provides the Region, and ``AWS_USE_FIPS_ENDPOINT``, ``AWS_USE_DUALSTACK_ENDPOINT`` and
        ``AWS_IGNORE_CONFIGURED_ENDPOINT_URLS`` or their settings in the configuration file.
    service : str
        The service's name in botocore, such as ``medical-imaging``.
    api_version : str
        The version of its model. Without it, botocore's loader would search all services.
    host_prefix : str
        The prefix that an operation adds to the host name. An endpoint from the environment gets no prefix.

    Raises
    ------
    botocore.exceptions.BotoCoreError
        If the rules forbid the combination, such as FIPS with a custom endpoint. The SDK raises the same error.

    References
    ----------
    AWS SDKs and Tools reference guide, "Service-specific endpoints" and "Dual-stack and FIPS endpoints".
    Smithy, "Endpoint rules engine".
    """
    # Importing it costs time in a cold start, and not every function needs it.
    from botocore.endpoint_provider import EndpointProvider

    loader = session.get_component("data_loader")
    rules = loader.load_data(f"{service}/{api_version}/endpoint-rule-set-1")
    configured = None if _is_set(session, "ignore_configured_endpoint_urls") else configured_endpoint_url(service)
    endpoint = EndpointProvider(rules, loader.load_data("partitions")).resolve_endpoint(
        Region=session.get_config_variable("region"),
        UseFIPS=_is_set(session, "use_fips_endpoint"),
        UseDualStack=_is_set(session, "use_dualstack_endpoint"),
        Endpoint=configured,
    )
    url = urlsplit(endpoint.url)
    host = url.netloc if configured else host_prefix + url.netloc
    return url._replace(netloc=host).geturl().rstrip("/")


def _is_set(session: Session, variable: str) -> bool:
    return ensure_boolean(session.get_config_variable(variable) or False)
