"""Codebooks of an SD-Codec that follow what they quantise, where the published ones are learnt by gradients.

Gradients move only the rows that are chosen, by as little as the optimiser moves anything: after an hour, a tenth of
the rows was in use. Moving averages put each row where its vectors are, and revive those that nothing chooses (van den
Oord et al., 2017, arXiv:1711.00937, appendix A.1; Dhariwal et al., 2020, arXiv:2005.00341, section 3.1).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.quantize import rvq, vq
from jaxaudio.systems import sdcodec

Books = dict[str, dict[str, Array]]
"""By quantiser, the levels of `vq.EmaState` stacked."""


def start(quantizer: Any) -> Books:
    """Of the parameters of all quantisers, params["quantizer"]: rows that the first step revives."""
    books = {name: rvq.stacked(levels, len(levels))["codebook"] for name, levels in quantizer.items()}
    return {name: vq.empty_state(book)._asdict() for name, book in books.items()}


def put(quantizer: Any, books: Books) -> Any:
    """The parameters of all quantisers with these codebooks."""
    return {
        name: {
            level: {**p, "codebook": books[name]["codebook"][int(level.rpartition("_")[2])]}
            for level, p in levels.items()
        }
        for name, levels in quantizer.items()
    }


def moved(
    books: Books,
    config: sdcodec.Config,
    made: sdcodec.Reconstruction,
    valid: Array,
    key: Array,
    *,
    decay: float,
    axis_name: str | None = None,
) -> Books:
    """The codebooks after a step.

    Args:
      books: before it.
      config: of the SD-Codec.
      made: by it.
      valid: (batch, tracks) 1 for the sources that were in an item's mixture: the others move no codebook.
      key: of the step.
      decay: weight of the past.
      axis_name: the mapped axis under `jax.pmap`.
    """
    frames = made.codes.shape[1]
    real = jnp.repeat(jnp.moveaxis(valid, 1, 0)[..., None] > 0, frames, -1)  # (tracks, batch, frames)
    latents, codes = jnp.moveaxis(made.latents, (2, 3), (0, 1)), jnp.moveaxis(made.codes, (2, 3), (0, 1))

    def update(name: str, x: Array, codes: Array, real: Array, number: int) -> dict[str, Array]:
        draw, state = jax.random.fold_in(key, number), vq.EmaState(**books[name])
        return vq.ema_levels(state, x, codes, real, draw, decay=decay, axis_name=axis_name)._asdict()

    own = config.own.levels
    new = {
        f"rvq_dict_{t}": update(f"rvq_dict_{t}", latents[i, :own], codes[i, :own], real[i], i)
        for i, t in enumerate(config.tracks)
    }
    if config.shared:  # whose batch is that of all tracks
        x, chosen = (jnp.concatenate(list(part[:, own:]), 1) for part in (latents, codes))
        new["shared_rvq"] = update("shared_rvq", x, chosen, jnp.concatenate(list(real)), len(config.tracks))
    return new
