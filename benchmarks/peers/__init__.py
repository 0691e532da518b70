"""What people use instead: small servers as one writes them after reading each library's first pages.

All of them take the same model files (`FOLDERS` names their variables) and compute on one thread a worker.
"""

FOLDERS = {"intent": "BENCH_INTENT", "qa": "BENCH_QA", "photo": "BENCH_TAGGER"}
"""Kind of request -> variable that names the folder of the model."""
WORKERS = "BENCH_WORKERS"
EAGER = "BENCH_EAGER"
"""Variable that names the folder of `eager_weights`."""
