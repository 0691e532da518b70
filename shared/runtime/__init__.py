"""Computes a bundle's network, on ONNX Runtime (CPU) or torch (CUDA), one batch at a time."""
