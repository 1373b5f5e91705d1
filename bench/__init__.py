"""Measures Framegate against simpler ways to do the same, in one run on one machine."""
