"""One `lambda_handler` for each function: each module builds the parts and calls them."""
