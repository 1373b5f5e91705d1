"""Measurements: each a ratio or a count taken in one run, beside what it is compared with."""
