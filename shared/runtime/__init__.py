"""What computes a bundle's network: ONNX Runtime on CPU, torch on CUDA."""
