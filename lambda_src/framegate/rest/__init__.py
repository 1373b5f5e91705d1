"""The HTTP side of the REST API: routes, parameters, negotiation, responses and problem documents."""
