"""The deployments that are audited: between them, they have every resource that Framegate can create."""

REPORT = "validation-report.json"
"""What CDK writes the findings of cdk-nag's packs to, in a cloud assembly."""

_DATASTORE_ID = "0123456789abcdef0123456789abcdef"

CONFIGURATIONS: dict[str, dict[str, str]] = {
    "default": {"datastore_ids": _DATASTORE_ID},
    "production": {
        "datastore_ids": _DATASTORE_ID,
        "environment": "production",
        "alarm_email": "operations@example.org",
        "auth": "jwt",
        "jwt_issuer": "https://login.example.org/realms/imaging",
        "jwt_audience": "framegate",
        "jwt_datastores_claim": "https://example.org/datastores",
        "authorization_function_arn": "arn:aws:lambda:eu-west-1:123456789012:function:image-access:live",
        "api_concurrency": "100",
        "domain_name": "frames.example.org",
        "domain_certificate_arn": "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
        "domain_hosted_zone_id": "Z0123456789ABCDEFGHIJ",
        "waf": "true",
        "cors_origins": "https://viewer.example.org",
    },
    "private": {
        "datastore_ids": _DATASTORE_ID,
        "auth": "cognito",
        "cognito_user_pool_arn": "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_AbCdEfGhI",
        "cognito_scopes": "frames/read",
        "vpc_endpoint_ids": "vpce-0123456789abcdef0",
        "s3_vpc_endpoint_ids": "vpce-0fedcba9876543210",
        "vpc_subnet_ids": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
        "vpc_security_group_ids": "sg-0123456789abcdef0",
    },
}
"""The context of each deployment that is audited, by the name of its folder."""
