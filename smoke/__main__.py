"""Checks a real deployment: calls every route and every export once, and prints a line for each."""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console

from smoke.api_checks import ApiChecks
from smoke.deployment import Deployment
from smoke.dicomweb_checks import DicomWebChecks
from smoke.export_checks import ExportChecks
from smoke.platform_checks import PlatformChecks
from smoke.report import Outcome, Report


def main(arguments: list[str] | None = None) -> int:
    """Run the checks; return 0 if none failed."""
    parser = argparse.ArgumentParser(prog="make smoke", description=__doc__)
    parser.add_argument("--stack", default="Framegate", help="name of the CloudFormation stack")
    parser.add_argument("--image-set", help="datastoreId/imageSetId to use; by default, a small one is found")
    parser.add_argument("--api-url", help="base URL of the API, if it differs from the stack's ApiUrl")
    options = parser.parse_args(arguments)
    report = Report(Console(soft_wrap=True))
    deployment = Deployment(options.stack, os.environ.get("FRAMEGATE_TOKEN"), options.api_url)
    run(report, deployment, options.image_set)
    print(report.summary())
    return 1 if report.counts[Outcome.FAILED] else 0


def run(report: Report, deployment: Deployment, image_set: str | None) -> None:
    """Run all checks. A check is skipped if a check that it depends on failed."""
    platform, api = PlatformChecks(deployment), ApiChecks(deployment, image_set)
    basics = [
        report.check("credentials", platform.credentials),
        report.check("HealthImaging in this Region", platform.health_imaging),
        report.check("stack", platform.stack),
    ]
    of_platform = {
        "data stores": platform.data_stores,
        "alarms": platform.alarms,
        "dead-letter queue": platform.dead_letters,
        "SnapStart": platform.snap_start,
        "TLS": platform.tls,
    }
    of_api = {**api.by_name(), **DicomWebChecks(api).by_name()}
    of_exports = ["export by request manifest", "export by event", "clean-up"]
    find, access_log = "a frame to request", "access log"
    if Outcome.FAILED in basics:
        report.skip([*of_platform, find, *of_api, *of_exports, access_log], "there is no deployment to call")
        return
    for name, check in of_platform.items():
        report.check(name, check)
    if report.check(find, api.find) is not Outcome.PASSED:
        report.skip([*of_api, *of_exports, access_log], "there is no frame to request")
        return
    for name, check in of_api.items():
        report.check(name, check)
    exports = ExportChecks(deployment, api.frame, len(api.frames))
    for name, check in zip(of_exports, (exports.by_request, exports.by_event, exports.clean_up), strict=True):
        report.check(name, check)
    report.check(access_log, lambda: platform.access_log(api.request_id))


if __name__ == "__main__":
    sys.exit(main())
