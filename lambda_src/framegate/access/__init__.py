"""Who may read what: the tokens that callers bring, and what they grant."""
