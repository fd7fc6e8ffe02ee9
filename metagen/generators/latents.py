"""Images to latents and back, and likelihoods by importance sampling, of a VAE."""

from __future__ import annotations

from abc import abstractmethod

import torch

from metagen.generators.base import Generator, Likelihood, Normal
from metagen.generators.networks import Decoder


def log_ratio(
    code: torch.Tensor, noise: torch.Tensor, posterior: Normal, mean: torch.Tensor, log_variance: torch.Tensor
) -> torch.Tensor:
    """Log prior(code) - log posterior(code): [...].

    Args:
        code: drawn from the posterior with this noise, [..., latent].
        noise: standard normal, of the same shape.
        posterior: of the code.
        mean: of the prior.
        log_variance: of the prior.
    """
    outside = (code - mean).square() * (-log_variance).exp()
    return 0.5 * (noise.square() - outside + posterior.log_variance - log_variance).sum(-1)


class LatentCodes(Generator):
    """All of a VAE with one latent vector an image and a standard normal prior, but for its loss and its samples."""

    decoder: Decoder
    log_likelihood: Likelihood

    @property
    def likelihood_of_samples(self) -> bool:
        """See `Generator`."""
        return True

    @abstractmethod
    def posterior(self, images: torch.Tensor) -> Normal:
        """Mean and log variance of q(z | image), each [n, latent]."""

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """The posterior means [n, latent] of images [n, C, H, W]."""
        return self.posterior(images).mean

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, C, H, W] through the posterior mean and back."""
        return self.log_likelihood.expected(self.decoder(self.project(images)))

    def interpolate(self, first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
        """From each image of `first` [n, C, H, W] to that of `last`, in the latent: [n, steps, C, H, W]."""
        start, end = (self.project(images)[:, None] for images in (first, last))
        path = torch.lerp(start, end, torch.linspace(0, 1, steps, device=first.device)[:, None])
        return self.log_likelihood.expected(self.decoder(path.flatten(0, 1))).unflatten(0, (-1, steps))

    def log_weights(self, images: torch.Tensor, noise: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
        """Log importance weights log p(x, z) - log q(z | x) of images [n, C, H, W], noise [s, n, latent]: [s, n].

        Their logsumexp minus log s estimates log p(x) from below (Burda 2016, arXiv:1509.00519).
        """
        posterior = self.posterior(images)
        codes = posterior.draw(noise)
        decoded = self.decoder(codes.flatten(0, 1)).unflatten(0, noise.shape[:2])
        ratio = log_ratio(codes, noise, posterior, torch.zeros_like(codes), torch.zeros_like(codes))
        return ratio + self.log_likelihood(decoded, images.expand_as(decoded))
