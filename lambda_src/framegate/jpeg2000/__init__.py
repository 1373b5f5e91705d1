"""JPEG 2000 and HTJ2K codestreams and their pixels, without I/O."""
