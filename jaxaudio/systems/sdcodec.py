"""SD-Codec: one encoder, a quantiser per kind of sound (Bie et al., 2024, arXiv:2409.11228).

Speech, music and effects are quantised from the same latents of their mixture. What the decoder makes of one
quantiser's latents is that source; of their sum, the mixture. So its codes separate.
"""

import dataclasses
import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.convert.rules import Rule, prefixed
from jaxaudio.dsp.masks import ratio_masked
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import receptive, spectral_autoencoder, wave_autoencoder, weight_norm
from jaxaudio.nn.masked import kept
from jaxaudio.quantize import rvq, vq

Params = Any

_WAVES = dataclasses.replace(wave_autoencoder.HOP_320, crop="down")

MIX = "mix"
"""The name of the sum of all tracks, where `decode` is told what to make."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of an SD-Codec.

    Attributes:
      sample_rate: samples per second.
      waves: encoder and decoder: of waveforms, as published, or of spectra.
      tracks: names of the sources, each with a quantiser.
      levels: codes per frame and track.
      shared: the last so many levels are one quantiser for all tracks, of what their own levels leave.
      size: entries of each level's codebook.
      width: numbers per entry.
      cosine: choose entries by angle, as published, rather than distance.
    """

    sample_rate: int = 16000
    waves: wave_autoencoder.Config | spectral_autoencoder.Config = _WAVES
    tracks: tuple[str, ...] = ("speech", "music", "sfx")
    levels: int = 12
    shared: int = 0
    size: int = 1024
    width: int = 8
    cosine: bool = True

    def __post_init__(self) -> None:
        if not self.tracks or len({*self.tracks, MIX}) <= len(self.tracks):
            raise ConfigError(f"tracks have names of their own, none of them {MIX!r}, not {self.tracks}.")
        if not 0 <= self.shared < self.levels:
            raise ConfigError(f"of {self.levels} levels 0 to {self.levels - 1} can be shared, not {self.shared}.")

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return self.waves.hop

    @property
    def autoencoder(self) -> ModuleType:
        """The module of `waves`."""
        return spectral_autoencoder if isinstance(self.waves, spectral_autoencoder.Config) else wave_autoencoder

    @property
    def own(self) -> rvq.Config:
        """Shape of a track's quantiser."""
        return self._quantizer(self.levels - self.shared)

    @property
    def common(self) -> rvq.Config:
        """Shape of the quantiser that tracks share."""
        return self._quantizer(self.shared)

    def _quantizer(self, levels: int) -> rvq.Config:
        return rvq.Config(dim=self.waves.latent, levels=levels, size=self.size, width=self.width, cosine=self.cosine)


SDCODEC_16KHZ = Config()
"""As published: 6 kbit/s per track (75 M parameters)."""

SDCODEC_16KHZ_SHARED_1 = Config(shared=1)
"""The variant with one shared level."""

SDCODEC_16KHZ_SHARED_4 = Config(shared=4)
"""The published variant with four shared levels."""

SDCODEC_16KHZ_SHARED_8 = Config(shared=8)
"""The published variant with eight shared levels."""

MINI = Config(
    waves=spectral_autoencoder.Config(width=192, hidden=512, encoder_layers=5, decoder_layers=5, latent=128),
    tracks=("speech", "music"),
    levels=8,
    cosine=False,
)
"""Small enough to train on two cores: 4 kbit/s per track, from spectra to spectra."""


def init(key: Array, config: Config) -> dict[str, Any]:
    """Random variables {"params": ...}; under `jax.eval_shape`, their shapes at no cost."""
    waves, common, *own = jax.random.split(key, 2 + len(config.tracks))
    quantizer = {f"rvq_dict_{t}": rvq.init(k, config.own) for t, k in zip(config.tracks, own, strict=True)}
    if config.shared:
        quantizer["shared_rvq"] = rvq.init(common, config.common)
    return {"params": {**config.autoencoder.init(waves, config.waves), "quantizer": quantizer}}


def from_dac(params: Params, dac_params: Params, config: Config) -> Params:
    """Starts a model as the variant "pretrainDAC" does: encoder, decoder and every track's levels are a DAC's.

    Args:
      params: of `init`.
      dac_params: of a DAC with the same encoder and decoder, and at least as many levels.
      config: of the SD-Codec; shared levels begin with the DAC's first, too.

    Raises:
      ConfigError: the two do not fit.
    """
    theirs = dac_params["params"]
    books = theirs["quantizer"]
    made = {"encoder": theirs["encoder"], "decoder": theirs["decoder"]}
    counts = {name: len(levels) for name, levels in params["params"]["quantizer"].items()}
    if len(books) < max(counts.values()):
        raise ConfigError(f"the DAC has {len(books)} levels, the SD-Codec needs {max(counts.values())}.")
    made["quantizer"] = {
        name: {f"quantizers_{i}": books[f"quantizers_{i}"] for i in range(count)} for name, count in counts.items()
    }
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (made, params["params"])]
    if shapes[0] != shapes[1]:
        raise ConfigError(f"the DAC's encoder, decoder or codebooks have other sizes than {config}.")
    return {"params": jax.tree.map(jnp.array, made)}


def quantize(
    params: Params, config: Config, audio: Array, n_quantizers: int | None = None, lengths: Array | None = None
) -> dict[str, rvq.Quantized]:
    """Everything that encoding computes, by track; see `encode`."""
    p = params["params"]
    x = config.autoencoder.encode(p, config.waves, audio, lengths=lengths)
    return quantize_latents(p["quantizer"], config, x, n_quantizers)


def quantize_latents(
    params: Any, config: Config, x: Array, n_quantizers: int | None = None
) -> dict[str, rvq.Quantized]:
    """The quantisers alone, of the encoder's latents (batch, frames, latent).

    Args:
      params: params["params"]["quantizer"] of `init`.
      config: that they belong to.
      x: (batch, frames, latent).
      n_quantizers: levels to use, the tracks' own before the shared ones; all by default.

    Raises:
      UsageError: levels that the model does not have.
    """
    used = config.levels if n_quantizers is None else n_quantizers
    if not 1 <= used <= config.levels:
        raise UsageError(f"the model has {config.levels} levels, not {used}: give 1 to {config.levels}.")
    own = min(used, config.own.levels)
    made = [rvq.quantize(params[f"rvq_dict_{t}"], config.own, x, own) for t in config.tracks]
    if used > own:
        rest = jnp.concatenate([x - part.z for part in made])
        more = rvq.quantize(params["shared_rvq"], config.common, rest, used - own)
        shares = zip(*(jnp.split(part, len(made)) for part in more), strict=True)
        made = [_joined(part, rvq.Quantized(*share)) for part, share in zip(made, shares, strict=True)]
    return dict(zip(config.tracks, made, strict=True))


def _joined(a: rvq.Quantized, b: rvq.Quantized) -> rvq.Quantized:
    """Of two quantisers in a row."""
    codes, latents = (jnp.concatenate(pair, -1) for pair in ((a.codes, b.codes), (a.latents, b.latents)))
    return rvq.Quantized(a.z + b.z, codes, latents, a.commitment + b.commitment, a.codebook + b.codebook)


def encode(
    params: Params, config: Config, audio: Array, n_quantizers: int | None = None, lengths: Array | None = None
) -> Array:
    """Codes of every source in mixtures.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      audio: (batch, time) at `config.sample_rate`, in [-1, 1].
      n_quantizers: levels to use, from the first on; all by default.
      lengths: (batch,) int, samples of each item, if they differ: its codes are those that it has by itself.

    Returns:
      (batch, ceil(time / hop), tracks, levels) int32, tracks in the order of `config.tracks`; 0 past an item's own
      frames.

    Raises:
      UsageError: another shape, or levels that the model does not have.
    """
    made = quantize(params, config, audio, n_quantizers, lengths)
    codes = jnp.stack([made[t].codes for t in config.tracks], 2)
    return codes if lengths is None else kept(codes, -(-lengths // config.hop))


def latents(params: Params, config: Config, codes: Array) -> Array:
    """The latents (batch, frames, tracks, latent) that codes (batch, frames, tracks, levels) stand for."""
    p = params["params"]["quantizer"]
    own = config.own.levels
    made = jnp.stack(
        [rvq.decode(p[f"rvq_dict_{t}"], config.own, codes[:, :, i, :own]) for i, t in enumerate(config.tracks)], 2
    )
    if codes.shape[-1] <= own:
        return made
    return made + rvq.decode(p["shared_rvq"], config.common, codes[..., own:])


def decode(
    params: Params,
    config: Config,
    codes: Array,
    sources: Sequence[str] = (MIX,),
    length: int | None = None,
    frames: Array | None = None,
) -> Array:
    """Waveforms of codes: of the mixture, of tracks, or of several.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      codes: (batch, frames, tracks, levels) integers of `encode`; or (batch, frames, tracks, latent) floats.
      sources: names of tracks, `MIX` for the sum of all, or several tracks joined by "+"; they are decoded at once.
      length: samples, at most frames * hop, which is the default.
      frames: (batch,) int, frames of each item, if they differ: its samples are those that it has by itself.

    Returns:
      (batch, sources, length) in (-1, 1), zeros past what an item's own frames make.

    Raises:
      UsageError: a track or levels that the model does not have, or more samples than the frames make.
    """
    z = latents(params, config, codes) if jnp.issubdtype(codes.dtype, jnp.integer) else codes
    weights = np.array([_members(config, source) for source in sources], np.float32)
    z = jnp.einsum("st,bftd->bsfd", weights.astype(z.dtype), z, precision="highest")
    own = None if frames is None else jnp.repeat(jnp.asarray(frames), len(sources))
    audio = config.autoencoder.decode(params["params"], config.waves, z.reshape(-1, *z.shape[2:]), length, own)
    return audio.reshape(len(codes), len(sources), -1)


def _members(config: Config, source: str) -> list[bool]:
    names = config.tracks if source == MIX else tuple(source.split("+"))
    if unknown := sorted({*names} - {*config.tracks}):
        raise UsageError(f"the model has no track {unknown[0]!r}: choose from {', '.join((*config.tracks, MIX))}.")
    return [t in names for t in config.tracks]


def separate(
    params: Params, config: Config, mixture: Array, sources: Sequence[str] | None = None, *, masked: bool = False
) -> Array:
    """Separates mixtures.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      mixture: (batch, time) at `config.sample_rate`.
      sources: as in `decode`; all tracks by default.
      masked: split the mixture by the ratio of what is decoded ("sep_mask"), so that the sources sum to it, instead of
        returning that itself.

    Returns:
      (batch, sources, time).
    """
    sources = config.tracks if sources is None else tuple(sources)
    made = quantize(params, config, mixture)
    z = jnp.stack([made[t].z for t in config.tracks], 2)
    if not masked:
        return decode(params, config, z, sources, mixture.shape[1])
    parts = ratio_masked(mixture, decode(params, config, z, config.tracks, mixture.shape[1]))
    weights = np.array([_members(config, source) for source in sources], np.float32)
    return jnp.einsum("st,btn->bsn", weights.astype(parts.dtype), parts, precision="highest")


class Reconstruction(NamedTuple):
    """What training looks at.

    Attributes:
      audio: (batch, rows, time) what was asked for; by default the mixture of valid tracks, each with the items that
        `swaps` gives it, and then the tracks, unswapped.
      codes: (batch, frames, tracks, levels).
      latents: (batch, frames, tracks, levels, width) what each level was to quantise.
      commitment: mean over items and their valid tracks of the sum over levels.
      codebook: the same.
      perplexity: (tracks, levels) entries in use, see `vq.perplexity`.
    """

    audio: Array
    codes: Array
    latents: Array
    commitment: Array
    codebook: Array
    perplexity: Array


def reconstruct(
    params: Params,
    config: Config,
    mixture: Array,
    valid: Array,
    *,
    swaps: Array | None = None,
    rows: Array | None = None,
) -> Reconstruction:
    """Encodes mixtures, and decodes them and their sources, for training, with gradients through the quantisers.

    Args:
      params: of `init`, or with weight normalisation (`normalized`).
      config: that they belong to.
      mixture: (batch, time).
      valid: (batch, tracks) 1 for the sources that are in an item's mixture, 0 for the others.
      swaps: (tracks, batch) permutations of the batch that make new mixtures of the sources' latents; none by default.
      rows: (batch, rows) int, what is decoded of each item, 0 for the mixture and i + 1 for the i-th track; everything
        by default.
    """
    p = weight_norm.fuse(params["params"])
    x = config.autoencoder.encode(p, config.waves, mixture)
    made = quantize_latents(p["quantizer"], config, x)
    parts = jnp.stack([made[t].z for t in config.tracks])  # (tracks, batch, frames, latent)
    weights = jnp.asarray(valid, x.dtype).T
    kept = parts * weights[:, :, None, None]
    mix = jnp.sum(kept if swaps is None else jax.vmap(lambda z, order: z[order])(kept, jnp.asarray(swaps)), 0)
    wanted = jnp.stack([mix, *parts], 1)
    if rows is not None:
        wanted = jnp.take_along_axis(wanted, rows[:, :, None, None], 1)
    # Not `decode`: the few samples that odd strides may cut off are not worth a second decoder.
    audio = config.autoencoder.decode_raw(p, config.waves, wanted.reshape(-1, *x.shape[1:]))
    audio = audio.reshape(*wanted.shape[:2], -1)[..., : mixture.shape[1]]

    def valid_mean(losses: list[Array]) -> Array:
        return jnp.mean(jnp.sum(jnp.stack(losses) * weights, 0) / jnp.sum(weights, 0))

    codes = jnp.stack([made[t].codes for t in config.tracks], 2)
    used = jax.vmap(jax.vmap(functools.partial(vq.perplexity, size=config.size)))(jnp.moveaxis(codes, (2, 3), (0, 1)))
    commitment, codebook = ([getattr(made[t], name) for t in config.tracks] for name in ("commitment", "codebook"))
    rests = jnp.stack([made[t].latents for t in config.tracks], 2).reshape(*codes.shape, -1)
    return Reconstruction(audio, codes, rests, valid_mean(commitment), valid_mean(codebook), used)


def normalized(params: Params) -> Params:
    """The same parameters with weight normalisation, as the published training has them; see `nn.weight_norm`.

    Those of a spectral autoencoder, whose blocks have norms of their own, are trained as they are.
    """
    if any(name.startswith("convnext") for name in params["params"]["encoder"]):
        return params
    return weight_norm.split(params, rf"params/{wave_autoencoder.TRANSPOSED}")


@functools.partial(jax.jit, static_argnums=(1, 3))
def _encode(params: Params, config: Config, audio: Array, n_quantizers: int | None, lengths: Any) -> Array:
    return encode(params, config, audio, n_quantizers, lengths)


@functools.partial(jax.jit, static_argnums=(1, 3))
def _decode(params: Params, config: Config, codes: Array, sources: tuple[str, ...], frames: Any) -> Array:
    return jnp.moveaxis(decode(params, config, codes, sources, frames=frames), 1, 2)


def encoder_windows(
    params: Params, config: Config, *, size: int = 256, n_quantizers: int | None = None
) -> receptive.Windows:
    """Windows of `size` frames over mixtures that give `encode`'s codes, for `receptive.push` and `receptive.run`."""

    def process(audio: np.ndarray, lengths: np.ndarray | None) -> Array:
        return _encode(params, config, audio, n_quantizers, lengths)

    return receptive.Windows(
        process=receptive.of_few_lengths(process, size, config.hop, 1),
        size=size,
        context=receptive.context_in_frames(config.autoencoder.encoder_layers(config.waves), config.hop),
        inputs=config.hop,
        outputs=1,
    )


def decoder_windows(
    params: Params, config: Config, *, sources: Sequence[str] = (MIX,), size: int = 256
) -> receptive.Windows:
    """Windows of `size` frames over codes that give `decode`'s samples as (batch, time, sources)."""

    def process(codes: np.ndarray, frames: np.ndarray | None) -> Array:
        return _decode(params, config, codes, tuple(sources), frames)

    return receptive.Windows(
        process=receptive.of_few_lengths(process, size, 1, config.hop),
        size=size,
        context=receptive.context_of_samples(config.autoencoder.decoder_layers(config.waves), config.hop),
        inputs=1,
        outputs=config.hop,
    )


WEIGHTS = (
    Rule(r"quantizer\.jitter_dict\..*", None),  # the probability of an augmentation that is off
    *prefixed("", wave_autoencoder.WEIGHTS, "params"),
    *prefixed(r"quantizer\.rvq_dict\.(?P<track>\w+)\.", rvq.WEIGHTS, r"params/quantizer/rvq_dict_\g<track>"),
    *prefixed(r"quantizer\.shared_rvq\.", rvq.WEIGHTS, "params/quantizer/shared_rvq"),
)
"""Conversion rules for the published checkpoints."""
