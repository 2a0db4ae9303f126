"""The Wan diffusion transformer with one timestep per latent frame."""
