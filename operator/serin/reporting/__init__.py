"""The status, with its conditions and caveats, and the Events. Nothing is decided from it. Pure."""
