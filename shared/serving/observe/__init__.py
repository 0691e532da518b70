"""What operators see of a service: metrics and logs."""
