"""A language model of sound in the time-frequency domain (Liu et al., 2021, arXiv:2107.09998).

`vqvae` turns mel spectrograms into grids of codes and back; `prior` says which codes follow which, for a class.
`transformer` says so, too, for classes or vectors, with the keys and values of earlier steps kept and in one more of
the `orders` of codes.
"""

from jaxaudio.systems.soundlm import orders, prior, transformer, vqvae

__all__ = ["orders", "prior", "transformer", "vqvae"]
