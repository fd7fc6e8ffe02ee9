"""The VAE of discrete codes and its prior."""
