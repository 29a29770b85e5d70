"""What a process says about itself: logs, traces and metrics."""
