"""The root of the project, and the configurations that the tests deploy."""

from __future__ import annotations

from itertools import product
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
DATASTORE_A = "a" * 32
DATASTORE_B = "0123456789abcdef0123456789abcdef"

USER_POOL = "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_AbCdEfGhI"
DECISION_FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:image-access:live"
CERTIFICATE = "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
ENDPOINTS = ["vpce-0123456789abcdef0", "vpce-11111111111111111"]

AUTH = {
    "iam": {},
    "cognito": {
        "auth": "cognito",
        "cognito_user_pool_arn": USER_POOL,
        "cognito_client_ids": "1example23456789,2example23456789",
        "cognito_groups_are_datastores": "true",
        "authorization_function_arn": DECISION_FUNCTION,
    },
    "cognito with scopes": {
        "auth": "cognito",
        "cognito_user_pool_arn": USER_POOL,
        "cognito_scopes": "frames/read,frames/all",
    },
    "jwt": {
        "auth": "jwt",
        "jwt_issuer": "https://login.example.org/realms/imaging",
        "jwt_audience": "framegate,https://frames.example.org",
        "jwt_datastores_claim": "https://example.org/datastores",
        "jwt_image_sets_claim": "https://example.org/image-sets",
        "jwt_studies_claim": "https://example.org/studies",
        "jwt_max_lifetime_seconds": "3600",
    },
}
REACH = {
    "public": {},
    "at a domain": {"domain_name": "frames.example.org", "domain_certificate_arn": CERTIFICATE},
    "at a domain in Route 53": {
        "domain_name": "frames.example.org",
        "domain_certificate_arn": CERTIFICATE,
        "domain_hosted_zone_id": "Z0123456789ABCDEFGHIJ",
    },
    "private": {"vpc_endpoint_ids": ",".join(ENDPOINTS)},
}
VPC = {
    "vpc_subnet_ids": "subnet-0123456789abcdef0,subnet-11111111111111111",
    "vpc_security_group_ids": "sg-0123456789abcdef0",
}
FIREWALL = {"no firewall": {}, "firewall": {"waf": "true"}}

ACCESS = {
    f"{auth}, {reach}, {firewall}": {**AUTH[auth], **REACH[reach], **FIREWALL[firewall]}
    for (a, auth), (r, reach) in product(enumerate(AUTH), enumerate(REACH))
    for firewall in [list(FIREWALL)[(a + r) % 2]]
}
"""All combinations of authorization and endpoint, alternately with and without a firewall."""
