"""HTTP itself: errors as responses, request bodies, limits, the request log line, what browsers get."""
