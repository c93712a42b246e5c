"""The functional core: what is seen goes in as a frozen snapshot, what is to be done comes out. No clock, no I/O."""
