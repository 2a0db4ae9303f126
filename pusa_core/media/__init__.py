"""Pictures, videos, and what encodes them: the VAE and the text encoders."""
