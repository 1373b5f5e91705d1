"""The CDK application. Importing it first keeps the CDK's runtime from writing about the version of Node.js.

jsii, with which aws_cdk runs on Node.js, warns of versions that are old or untested, in twenty lines and before any
message of ours. ``make`` checks the version (Node.js 20 or newer). Versions that are known to be broken are still
reported. Set a variable to an empty value to see its warning.
"""

from __future__ import annotations

import os

# The first takes major versions, and all that run the CDK will be old some day. The others take any value.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", ",".join(map(str, range(20, 100))))
os.environ.setdefault("JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION", "1")
os.environ.setdefault("JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION", "1")
