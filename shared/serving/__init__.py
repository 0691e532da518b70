"""What both services share at the HTTP edge."""
