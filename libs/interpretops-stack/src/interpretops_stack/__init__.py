"""The whole platform on one machine, as ordinary processes."""
