"""`percept report`: what a model is good for, on a page for people who decide."""
