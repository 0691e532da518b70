"""The life of the models in a worker: loading, readiness, replacing, draining, and the routes for it."""
