"""Runs Framegate on the developer's machine: the local cloud, the HealthImaging emulator and the demo."""
