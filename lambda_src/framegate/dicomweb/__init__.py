"""DICOMweb: finds image sets and frames by UID, keeps the metadata of series, and passes searches on."""
