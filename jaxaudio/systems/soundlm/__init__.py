"""A language model of sound in the time-frequency domain (Liu et al., 2021, arXiv:2107.09998).

`vqvae` turns mel spectrograms into grids of codes and back; `prior` says which codes follow which, for a class.
`transformer` says so, too, for classes or vectors, with the keys and values of earlier steps kept and in one more of
the `orders` of codes. `model` joins a codec, a prior and a vocoder: sounds of words.
"""

from jaxaudio.systems.soundlm import orders, prior, transformer, vqvae
from jaxaudio.systems.soundlm.model import MINI, Config, condition, decode, encode, init, loss, mel, sample, windows

__all__ = [
    "MINI",
    "Config",
    "condition",
    "decode",
    "encode",
    "init",
    "loss",
    "mel",
    "orders",
    "prior",
    "sample",
    "transformer",
    "vqvae",
    "windows",
]
