"""The bridge between training and serving: a model folder that describes itself."""
