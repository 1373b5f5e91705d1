"""One module and one `lambda_handler` for each function: it builds the parts and calls them."""
