"""The TLS settings of API Gateway, for the API and for its domain name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.config import Config


def security_policy(config: Config) -> str:
    """Return the security policy: TLS 1.2 with forward secrecy, or newer.

    Notes
    -----
    API Gateway developer guide, "Security policies for REST APIs". Without a policy, API Gateway accepts TLS 1.0. A
    domain name and its API should have the same policy, because API Gateway negotiates with the policy of the API.
    """
    if config.fips_endpoints:
        return "SecurityPolicy_TLS13_1_2_FIPS_PFS_PQ_2025_09"
    return "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09"


def endpoint_access_mode(config: Config) -> str:
    """Return ``STRICT`` for a public API and ``BASIC`` for a private one.

    Notes
    -----
    API Gateway developer guide, "Endpoint access mode". ``STRICT`` rejects a request whose ``Host`` header differs from
    the name in its TLS handshake. The guide advises against it for a private API that clients call by any name but its
    private DNS name or a custom domain name, and ``ApiUrl`` contains the id of a VPC endpoint. In both modes, the
    resource policy limits a private API to its VPC endpoints.
    """
    return "BASIC" if config.vpc_endpoint_ids else "STRICT"
