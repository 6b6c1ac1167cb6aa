"""Training runs on PyTorch Lightning, which no other room of the package knows."""
