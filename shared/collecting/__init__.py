"""`percept collect`: sources of all kinds into one dataset with every row's origin, wherever it was stopped."""
