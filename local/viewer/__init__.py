"""OHIF, a DICOM viewer for the browser, on the local cloud."""
