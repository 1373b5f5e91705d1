"""The tables of exported instances and frames. They exist only with `dataset_tables`."""
