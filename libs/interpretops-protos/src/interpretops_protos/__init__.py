"""Messages and gRPC stubs of InterpretOps, generated from the contracts in `protos/`."""
