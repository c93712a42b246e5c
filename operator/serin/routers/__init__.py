"""Pure: a split of traffic as a gateway's manifest, and back. One module per kind of gateway."""
