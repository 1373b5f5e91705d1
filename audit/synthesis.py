"""Synthesizes the deployments that are audited, with cdk-nag's packs: ``python -m audit.synthesis <folder>``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from aws_cdk import App, Validations
from cdk_nag import NIST80053R5Checks

from audit.deployments import CONFIGURATIONS, REPORT
from infra.application import add_checks, compose

PROJECT = Path(__file__).resolve().parent.parent


def synthesize(name: str, outdir: Path) -> None:
    """Write the cloud assembly of one deployment, and the report of cdk-nag's packs beside it.

    Parameters
    ----------
    name : str
        Which of :data:`~audit.deployments.CONFIGURATIONS`.
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
        **CONFIGURATIONS[name],
    }
    app = App(context=context, outdir=str(outdir))
    compose(app)
    add_checks(app)
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
