"""Runs code on hostile input in separate processes without credentials and with limited memory and time."""
