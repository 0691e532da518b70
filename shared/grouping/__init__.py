"""Groups of rows that are alike by their features, for texts and photos; torch-free."""
