"""The commands `serin replay` and `serin evidence`: read a trial's counts again, and compute its tests again."""
