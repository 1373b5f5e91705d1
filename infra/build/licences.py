"""Lists the licences of the packages that run in Lambda. ``make licences`` writes the list; a test compares it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from infra.build.bundling import (
    AUTHORIZER_REQUIREMENTS,
    DECODER_REQUIREMENTS,
    RENDERING_REQUIREMENTS,
    TABLE_REQUIREMENTS,
    bundle,
    bundle_layer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message

LAYERS = {
    "The decoder's layer": DECODER_REQUIREMENTS,
    "The render function's layer": RENDERING_REQUIREMENTS,
    "The authorizer's layer": AUTHORIZER_REQUIREMENTS,
    "The table function's layer": TABLE_REQUIREMENTS,
}

LICENCE_LIST = Path(__file__).resolve().parents[2] / "docs" / "licences.md"

_INTRODUCTION = """\
# Licences

These distributions run in Lambda. The licences come from their metadata. `lambda_src/*requirements.txt` locks the
versions with hashes, and the deployed packages contain the text of each licence. The wheel of imagecodecs contains
OpenJPH and OpenJPEG (BSD-2-Clause) and Little CMS (MIT), whose licences are in its folder `licenses`. In the render
function's layer, it also contains libjpeg-turbo (IJG and BSD-3-Clause), libjxl and CharLS (BSD-3-Clause) and Brotli
(MIT), and the wheel of Pillow contains libjpeg-turbo, libwebp, OpenJPEG, libtiff and others with their licences.
Framegate itself is under the Apache License 2.0. `make licences` writes this page.
"""


def licence_list(parts: Mapping[str, Path]) -> str:
    """Return the content of ``docs/licences.md``.

    Parameters
    ----------
    parts : mapping of str to Path
        Folders that the distributions of each part are installed in, by the title of the part.
    """
    sections = [_INTRODUCTION]
    for title, installed in parts.items():
        found = [
            HeaderParser().parsestr(path.read_text(encoding="utf-8")) for path in installed.glob("*.dist-info/METADATA")
        ]
        rows = sorted(f"| {each['Name']} | {each['Version']} | {_licence(each)} |" for each in found)
        sections.append(
            "\n".join([f"## {title}\n", "| distribution | version | licence |", "| --- | --- | --- |", *rows, ""])
        )
    return "\n".join(sections)


def _licence(metadata: Message) -> str:
    """Return the licence in the most precise form that the metadata has."""
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    names = [each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier", []) if each.startswith("License ::")]
    return ", ".join(names) or str(metadata["License"]).splitlines()[0]


def main() -> None:
    """Build every part and write the list."""
    with ExitStack() as stack:
        functions, *layers = (Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in ("functions", *LAYERS))
        bundle(functions, "arm64")
        parts = {"The functions": functions}
        for (title, requirements), layer in zip(LAYERS.items(), layers, strict=True):
            bundle_layer(requirements, layer, "arm64")
            parts[title] = layer / "python"
        LICENCE_LIST.write_text(licence_list(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
