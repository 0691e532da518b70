"""The alternatives: small servers as you would write them after reading each library's getting-started pages.

All use the same model files (`FOLDERS` has their environment variables) and one compute thread per worker.
"""

FOLDERS = {"intent": "BENCH_INTENT", "qa": "BENCH_QA", "photo": "BENCH_TAGGER"}
"""Kind of request -> environment variable with the model's folder."""
WORKERS = "BENCH_WORKERS"
EAGER = "BENCH_EAGER"
"""Environment variable with the folder that `eager_weights` wrote."""
