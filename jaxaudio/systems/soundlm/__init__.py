"""A language model of sound in the time-frequency domain (Liu et al., 2021, arXiv:2107.09998).

`vqvae` turns mel spectrograms into grids of codes and back; `prior` says which codes follow which, for a class.
"""

from jaxaudio.systems.soundlm import prior, vqvae

__all__ = ["prior", "vqvae"]
