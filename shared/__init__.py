"""What both services stand on: errors, the bundle, runtimes, serving and training. Imports neither vision nor nlp."""
