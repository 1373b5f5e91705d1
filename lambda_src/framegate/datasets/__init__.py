"""Builds DICOM files from the metadata and the frames of image sets."""
