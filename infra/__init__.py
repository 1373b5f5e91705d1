"""The CDK application that deploys Framegate."""

import sys
from pathlib import Path

# The stack reads declarations of the product, such as its routes; the CDK command line runs app.py without PYTHONPATH.
sys.path.append(str(Path(__file__).resolve().parent.parent / "lambda_src"))
