"""Reads JPEG 2000 and HTJ2K codestreams: their resolutions, packets and pixels."""
