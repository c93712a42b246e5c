"""What `serin replay` and `serin evidence` do: count a trial again, and repeat the arithmetic of a test."""
