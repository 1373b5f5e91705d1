"""What runs on the developer's own machine: the local cloud and the demo."""
