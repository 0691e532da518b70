"""What both services share: errors, the bundle, runtimes, serving and training. Imports neither vision nor nlp."""

import os

# ONNX Runtime 1.32 tells its maker about each model that it runs, and writes an id of the machine into the home of the
# user, unless this is set before it is imported. To allow that, set ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
