"""The tables of exported instances and frames."""
