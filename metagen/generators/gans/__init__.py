"""GANs: the game, its networks, its objectives."""
