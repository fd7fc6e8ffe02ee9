"""Meta-training with Lightning."""
