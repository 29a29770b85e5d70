"""How services call one another: a gRPC server, its channels, and what a call carries."""
