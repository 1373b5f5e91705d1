"""Builds the CDK application from its context: the configuration, the stack, and cdk-nag's checks."""

from __future__ import annotations

import sys

from aws_cdk import Annotations, App, Validations
from cdk_nag import AwsSolutionsChecks, HIPAASecurityChecks

from infra.config import Config, ConfigError
from infra.framegate_stack import FramegateStack


def compose(app: App) -> FramegateStack:
    """Add Framegate to a CDK application.

    Parameters
    ----------
    app : App
        The application; its context is the configuration.

    Returns
    -------
    FramegateStack
        The new stack.

    Raises
    ------
    ConfigError
        The configuration has faults. The application is unchanged.
    """
    config = Config.from_context(app.node.get_all_context())
    stack = FramegateStack(app, "Framegate", config=config)
    if config.environment == "production" and "*" in config.cors_origins:
        Annotations.of(stack).add_warning_v2(
            "framegate:corsOrigins",
            "cors_origins=* lets pages of every origin call the API. List the origins of your viewers, for example: "
            "-c cors_origins=https://viewer.example.org",
        )
    return stack


def add_checks(app: App) -> None:
    """Make synthesis fail on every finding of cdk-nag that is not acknowledged next to its construct."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app), HIPAASecurityChecks(app))


def main() -> None:
    """Write the cloud assembly, or exit with the faults of the configuration."""
    app = App()
    try:
        compose(app)
    except ConfigError as error:
        sys.exit(str(error))
    add_checks(app)
    app.synth()
