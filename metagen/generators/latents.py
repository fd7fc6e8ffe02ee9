"""Images to latents and back, and likelihoods by importance sampling, of a VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from metagen.generators.networks import Decoder
from metagen.generators.traits import Traits

if TYPE_CHECKING:  # which imports this file
    from metagen.generators.vae import Likelihood, Normal


def log_ratio(code: torch.Tensor, noise: torch.Tensor, log_variance: torch.Tensor, prior: Normal) -> torch.Tensor:
    """Log prior(code) - log posterior(code) for a code that was drawn from the posterior with this noise: [...]."""
    outside = (code - prior.mean).square() * (-prior.log_variance).exp()
    return 0.5 * (noise.square() - outside + log_variance - prior.log_variance).sum(-1)


class LatentCodes(Traits):
    """The methods of an autoencoder with a standard normal prior beside its loss and its samples."""

    decoder: Decoder
    log_likelihood: Likelihood

    @property
    def likelihood_of_samples(self) -> bool:
        """See `Generator`."""
        return True

    def posterior(self, images: torch.Tensor) -> Normal:
        """Mean and log variance of q(z | image), each [n, latent]."""
        raise NotImplementedError

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
        standard = type(posterior)(torch.zeros_like(codes), torch.zeros_like(codes))
        decoded = self.decoder(codes.flatten(0, 1)).unflatten(0, noise.shape[:2])
        ratio = log_ratio(codes, noise, posterior.log_variance, standard)
        return ratio + self.log_likelihood(decoded, images.expand_as(decoded))
