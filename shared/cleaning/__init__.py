"""`percept clean`: a plan that a person edits makes one dataset out of another, always the same. Torch-free."""
