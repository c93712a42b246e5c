"""Canaries whose failures never become a counted bad answer, played through the operator's own code."""
