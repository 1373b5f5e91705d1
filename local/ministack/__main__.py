"""Extends MiniStack, and runs it."""

from __future__ import annotations

import sys

from ministack.app import main  # type: ignore[import-not-found]

from local.ministack import (
    condition_keys,
    full_object_checksums,
    layers,
    math_alarms,
    remapped_headers,
    reserved_concurrency,
    result_writer,
    task_errors,
)

EXTENSIONS = (
    condition_keys,
    full_object_checksums,
    layers,
    math_alarms,
    remapped_headers,
    reserved_concurrency,
    result_writer,
    task_errors,
)

if __name__ == "__main__":
    for extension in EXTENSIONS:
        extension.extend()
    sys.exit(main())
