"""One module per contestant; each runs in its own environment as a process of its own."""
