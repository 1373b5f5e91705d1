"""Shows datasets in the demo: a series exported as DICOM files, a query of the table, and a batch of decoded slices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow.dataset
import pydicom
from pyarrow.fs import S3FileSystem
from pydicom.pixels.processing import apply_rescale
from rich.table import Table

from framegate.bucket_layout import table_prefix
from framegate.table_schema import SCHEMA
from local.cloud import ACCESS_KEY, REGION, SECRET_KEY
from local.demo_part import DemoPart
from local.importing import import_folder
from local.pictures import contact_sheet, picture_of_pixels
from local.samples import SLICES, write_series

if TYPE_CHECKING:
    from pathlib import Path

QUERY = """
SELECT modality, "rows", "columns", slice_thickness_mm AS "thickness, mm", convolution_kernel[1] AS kernel,
       count(*) AS slices, round(sum(frame_size_bytes) / 1e6, 2) AS MB
FROM frames WHERE dicom_key IS NOT NULL AND slice_thickness_mm <= 3 GROUP BY ALL
"""
FILES = (
    "SELECT dicom_key FROM frames WHERE modality = 'CT' AND dicom_key IS NOT NULL ORDER BY image_position_patient_mm[3]"
)


class DatasetDemo(DemoPart):
    """The part of the demo about datasets, for a deployment with DICOM files and tables."""

    def export_series(self, folder: Path) -> np.ndarray:
        """Import a series, and wait until its DICOM files are in the table; return its Hounsfield units."""
        expected = write_series(folder)
        import_folder(self._cloud, self._datastore_id, folder)
        self._wait(lambda: len(self._query(FILES)[1]) >= SLICES, "exporting DICOM files, and updating the table")
        return expected

    def show(self, expected: np.ndarray, sheet: Path) -> None:
        """Query the table, decode the slices as docs/datasets.md shows, compare them, and draw them on a sheet."""
        names, rows = self._query(QUERY)
        table = Table(*names, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*map(str, row))
        self._console.print("SELECT … FROM frames WHERE slice_thickness_mm <= 3 GROUP BY ALL", style="dim")
        self._console.print(table)
        batch = np.stack([self._decoded(key, sheet.parent) for (key,) in self._query(FILES)[1]])
        is_right = np.array_equal(batch, expected)
        self.failures += not is_right
        verdict = "[green]identical with the imported files[/]" if is_right else "[red]not as imported[/]"
        self._console.print(f"a batch of {batch.shape[0]} slices of {batch.shape[1]} × {batch.shape[2]}: {verdict}")
        pictures = [(f"slice {number} of the batch", picture_of_pixels(each)) for number, each in enumerate(batch, 1)]
        contact_sheet(pictures, sheet)

    def _decoded(self, key: str, folder: Path) -> np.ndarray:
        path = folder / key.rpartition("/")[2]
        self._s3.download_file(self._bucket, key, str(path))
        dataset = pydicom.dcmread(path)
        path.unlink()
        return np.asarray(apply_rescale(dataset.pixel_array, dataset), np.float32)

    def _query(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Query the table; return the names of the columns and the rows. There are none before the first file."""
        files = S3FileSystem(
            access_key=ACCESS_KEY, secret_key=SECRET_KEY, region=REGION, endpoint_override=self._cloud.endpoint
        )
        prefix = f"{self._bucket}/{table_prefix(SCHEMA, 'frames')}".rstrip("/")
        try:
            frames = pyarrow.dataset.dataset(prefix, filesystem=files, format="parquet", partitioning="hive")
        except FileNotFoundError:
            return [], []
        with duckdb.connect() as connection:
            found = connection.register("frames", frames).execute(query)
            return [name for name, *_ in found.description or ()], found.fetchall()
