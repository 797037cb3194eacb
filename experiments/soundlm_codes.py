"""Turns open_sounds into codes once, for the prior to learn from (the second stage).

python experiments/soundlm_codes.py --data data/open_sounds --codec runs/soundlm_codec/final --out data/codes
"""

import dataclasses
from typing import Any

import jax
from generation_latents import encoded

from jaxaudio.dsp.front_ends import level
from jaxaudio.systems import soundlm
from jaxaudio.train import load_params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is encoded by what.

    Attributes:
      data: folder of a built data set.
      codec: its weights, a run's `final`.
      out: folder to write; one below it for each split.
      splits: of the data set.
    """

    data: str = "data/open_sounds"
    codec: str = "runs/soundlm_codec/final"
    out: str = "data/codes"
    splits: tuple[str, ...] = ("heldout_clips", "train")


def main(o: Options) -> None:
    """Windows of 5.12 s, levelled as the system hears them; short sounds over and over.

    Half precision holds codes below 2,048 exactly.
    """
    config = soundlm.MINI
    params, about = load_params(o.codec)
    encode = jax.jit(lambda waveform: soundlm.encode({"codec": params}, config, level(waveform)))
    how: Any = {"sample_rate": config.sample_rate, "seconds": config.window, "about": {"codec": about["step"]}}
    for split, made in encoded(o.data, o.splits, o.out, encode, repeat=True, **how):
        print(f"{split}: {len(made.records)} windows")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
