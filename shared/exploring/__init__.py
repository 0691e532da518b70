"""`percept explore`: what is in a dataset, what looks wrong in it, and a page that shows both. Torch-free."""
