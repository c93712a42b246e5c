"""Failed requests at weight changes, the end of a withdrawn backend's traffic, and time-outs, on a real gateway."""
