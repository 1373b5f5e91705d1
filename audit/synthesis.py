"""Synthesizes the deployments that are audited, with cdk-nag's packs: ``python -m audit.synthesis <folder>``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from aws_cdk import App, Validations
from cdk_nag import NIST80053R5Checks

from infra.application import compose

PROJECT = Path(__file__).resolve().parent.parent
REPORT = "validation-report.json"

_DATASTORE_ID = "0123456789abcdef0123456789abcdef"
CONFIGURATIONS: dict[str, dict[str, str]] = {
    "default": {},
    "production": {
        "environment": "production",
        "alarm_email": "operations@example.org",
        "auth": "jwt",
        "jwt_issuer": "https://login.example.org/realms/imaging",
        "jwt_audience": "framegate",
        "jwt_datastores_claim": "https://example.org/datastores",
        "domain_name": "frames.example.org",
        "domain_certificate_arn": "arn:aws:acm:eu-west-1:123456789012:certificate/12345678-1234-1234-1234-123456789012",
        "domain_hosted_zone_id": "Z0123456789ABCDEFGHIJ",
        "waf": "true",
        "cors_origins": "https://viewer.example.org",
    },
    "private": {
        "auth": "cognito",
        "cognito_user_pool_arn": "arn:aws:cognito-idp:eu-west-1:123456789012:userpool/eu-west-1_AbCdEfGhI",
        "cognito_scopes": "frames/read",
        "vpc_endpoint_ids": "vpce-0123456789abcdef0",
    },
}
"""The context of each deployment that is audited, by the name of its folder."""


def synthesize(name: str, outdir: Path) -> None:
    """Write the cloud assembly of one deployment, and the report of cdk-nag's packs beside it.

    Parameters
    ----------
    name : str
        Which of :data:`CONFIGURATIONS`.
    outdir : Path
        Where the assembly is written.

    Raises
    ------
    RuntimeError
        Synthesis failed for another reason than the findings of a pack.
    """
    flags = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"]
    context = {
        **flags,
        "aws:cdk:bundling-stacks": [],
        "aws:cdk:enable-path-metadata": True,
        "datastore_ids": _DATASTORE_ID,
        **CONFIGURATIONS[name],
    }
    app = App(context=context, outdir=str(outdir))
    compose(app)
    Validations.of(app).add_plugins(NIST80053R5Checks(app))
    try:
        app.synth()
    except RuntimeError:
        # A finding fails the synthesis after the template and the report are written.
        if not (outdir / REPORT).is_file():
            raise


def main() -> None:
    """Synthesize every deployment into a folder of its own."""
    for name in CONFIGURATIONS:
        synthesize(name, Path(sys.argv[1]) / name)


if __name__ == "__main__":
    main()
