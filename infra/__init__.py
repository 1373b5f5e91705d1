"""The CDK application. Import it before ``aws_cdk``: it silences jsii's warnings about the version of Node.js.

jsii runs aws_cdk on Node.js and prints twenty lines about old and untested versions, before any message of ours.
``make`` checks the version (Node.js 20 or newer). jsii still reports versions that are known to be broken. To see a
warning, set its variable to an empty value.
"""

from __future__ import annotations

import os

# The first variable takes major versions: every version that runs the CDK reaches its end of life. The others take any
# value.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", ",".join(map(str, range(20, 100))))
os.environ.setdefault("JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION", "1")
os.environ.setdefault("JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION", "1")
