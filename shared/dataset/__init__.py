"""The dataset folder: parquet with its history, to data what a bundle is to models. Torch-free."""
