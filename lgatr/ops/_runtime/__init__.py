"""What operations share: stages, the choice of implementation, building and calling C++ kernels."""
