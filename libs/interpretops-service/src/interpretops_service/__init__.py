"""What the services share: where the platform's jobs, the contracts and the engine meet."""
