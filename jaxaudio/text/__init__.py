"""Tokenisers, text encoders and CLAP."""

from jaxaudio.text.mini import TextMini, load_mini
from jaxaudio.text.tokenizers import Tokenizer

__all__ = ["TextMini", "Tokenizer", "load_mini"]
