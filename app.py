"""Entry point of the CDK command line: builds the application and writes its cloud assembly."""

from __future__ import annotations

import sys

from aws_cdk import App

from infra.application import compose
from infra.config import ConfigError


def main() -> None:
    """Synthesise, or say what is wrong with the configuration."""
    app = App()
    try:
        compose(app)
    except ConfigError as error:
        sys.exit(str(error))
    app.synth()


if __name__ == "__main__":
    main()
