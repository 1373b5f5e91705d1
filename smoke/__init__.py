"""`make smoke`: calls every route and every export of a real deployment once, and prints a line for each."""
