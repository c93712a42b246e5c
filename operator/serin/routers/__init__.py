"""Converts a traffic split to a route and back. Pure; one module per kind of route."""
