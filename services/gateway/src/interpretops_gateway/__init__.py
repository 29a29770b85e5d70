"""The edge: who calls, what they may do, and REST in front of the services."""
