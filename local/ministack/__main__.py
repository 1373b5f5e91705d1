"""Applies the adaptations to MiniStack, and runs it."""

from __future__ import annotations

import sys

from ministack.app import main  # type: ignore[import-not-found]

from local.ministack import (
    condition_keys,
    full_object_checksums,
    function_code,
    log_alarms,
    math_alarms,
    query_definitions,
    remapped_headers,
    request_context,
    reserved_concurrency,
    result_writer,
    task_errors,
)
from local.ministack.patching import MiniStackChangedError

ADAPTATIONS = (
    condition_keys,
    full_object_checksums,
    function_code,
    log_alarms,
    math_alarms,
    query_definitions,
    remapped_headers,
    request_context,
    reserved_concurrency,
    result_writer,
    task_errors,
)

if __name__ == "__main__":
    try:
        for adaptation in ADAPTATIONS:
            adaptation.patches.apply()
    except MiniStackChangedError as error:
        sys.exit(str(error))
    sys.exit(main())
