"""Token by token: greedy and random decoding and beam search over any cached model, compiled as one loop.

A model enters as a `Decoder`: a function that reads one token of each sequence, and one that picks sequences out of its
state. `generate` says one sequence per item, `beam_search` the best of several; `Rules` hold for both.
"""

from jaxaudio.text.decode.beams import Beam, Beams, beam_search
from jaxaudio.text.decode.decoder import Decoder, guided, together
from jaxaudio.text.decode.rules import Rules
from jaxaudio.text.decode.sequences import GREEDY, Generated, Sampling, generate

__all__ = [
    "GREEDY",
    "Beam",
    "Beams",
    "Decoder",
    "Generated",
    "Rules",
    "Sampling",
    "beam_search",
    "generate",
    "guided",
    "together",
]
