"""A generative separator in hand: it makes anew what a query describes, where `Separator` weakens the rest."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax
import numpy as np

from jaxaudio.errors import UsageError
from jaxaudio.models.encoders import Condition, open_prompts
from jaxaudio.models.folder import Card, in_hand
from jaxaudio.models.inputs import (
    Spans,
    as_channels,
    as_rate,
    as_spans,
    as_texts,
    inside,
    levelled,
    resampled,
    shaped,
)
from jaxaudio.models.latents import Stage, Stages, bounded
from jaxaudio.models.requests import Options, Request, guided, told
from jaxaudio.nn import latent_audio
from jaxaudio.systems import flowsep


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FlowSeparator:
    """A model that separates by rectified flow, from `jaxaudio.load`.

    Attributes:
      name: of the model.
      system: "flowsep".
      config: the system's configuration.
      params: parameters for the pure functions of `jaxaudio.systems.flowsep`, on the default device.
      sample_rate: that the model works at, in Hz.
      licence: of the weights.
      source: of the weights.
      card: everything that is known about the model.
    """

    name: str
    system: str
    config: flowsep.Config
    params: Any
    sample_rate: int
    licence: str
    source: str
    card: Card

    @functools.cached_property
    def encoder(self) -> Callable[[Sequence[str]], Condition]:
        """The text encoder, read when it is first needed."""
        return open_prompts(self.card)

    @functools.cached_property
    def stages(self) -> Stages:
        """Encoder, sampler and decoder, compiled when they are first needed."""
        return Stages(self.config, self.params)

    @property
    def sampling(self) -> flowsep.Sampling:
        """How it samples where nothing else is asked for: what its card says under "sampling", or the system's own."""
        return flowsep.Sampling(**self.card.about.get("sampling", {}))

    def embed(self, texts: str | Sequence[str]) -> Condition:
        """Queries -> what the U-Net is told, the queries leading; raises UsageError for what has no words."""
        return told(self.encoder(as_texts(texts)), self.config.unet)

    def separate(
        self,
        audio: Any,
        query: str | Sequence[str],
        *,
        sample_rate: int,
        residual: bool = False,
        spans: Spans | None = None,
        drawn: bool = False,
        chunk: str = "auto",
        **options: Unpack[Options],
    ) -> Any:
        """Makes what a query describes within a mixture.

        Every channel is separated by itself, with the same noise: equal channels give equal results. The mixture is
        levelled for the model, and its level given back. Long audio is computed in overlapping windows that agree at
        every step, in bounded memory. The result is made anew: it sounds like what was there, but its waveform need
        not be the mixture's, so that the residual may hold more of it than one would hear. Silence gives silence.

        Args:
          audio: (time,) or (time, channels), float in [-1, 1] or integers, of any length; not changed.
          query: what to separate, in words; of several, each is asked of the whole mixture.
          sample_rate: of `audio`, in Hz. What is made has nothing above half the model's rate.
          residual: also return what is left, so that estimate + residual is the audio.
          spans: (from, to) in seconds where the sound is, such as [(2.0, 3.5)]; elsewhere it is silent.
          drawn: whether the mixture's latent is drawn from its posterior, as published, or the mean of that.
          chunk: "auto" or "off", as other separators have it; windows are the model's own in any case.
          **options: see `Options`; `negative` asks for a guidance other than 1. A count above 1 gives an axis after
            that of the queries.

        Returns:
          float32 of the shape of `audio`, with a leading axis for a list of queries; with `residual`, two of them.

        Raises:
          AudioError: audio that is empty, not finite, or has a shape or type that is no audio.
          UsageError: an empty query, a span outside of the audio, or anything else that cannot be.
        """
        queries, (samples, squeeze), rate = as_texts(query), as_channels(audio), as_rate(sample_rate)
        if chunk not in ("auto", "off"):
            raise UsageError(f"{self.name} has windows of its own; leave the chunk of {chunk!r} out.")
        spans = None if spans is None else as_spans(spans, len(samples) / rate)
        request = Request(self, self.sampling, flowsep.schedule, options)
        if any(request.negative) and request.sampling.guidance == 1:
            raise UsageError("a negative query counts with a guidance other than 1; give guidance=2, or --guidance 2.")
        condition = self.embed(queries)
        negative = told(self.encoder(request.negatives(len(queries))), self.config.unet)

        length = -(-len(samples) * self.sample_rate // rate)
        waves = np.stack([resampled(channel, rate, self.sample_rate, length) for channel in samples.T])
        waves, gain, _ = levelled(waves)
        positions, (channels, count) = self.stages.positions(length), (len(waves), request.count)
        # Rows: every query for each channel in turn; each candidate draws the same noise for all of them.
        rows = len(queries) * channels
        items = np.tile(request.candidates, (rows, 1))
        request.expect(items.size, positions, channels)
        mixture = request.encode(waves, drawn=drawn)
        asked = jax.tree.map(lambda x: np.repeat(x, channels, 0), {"condition": condition, "negative": negative})
        silent = None if spans is None else {"silent": latent_audio.outside(self.config.audio, positions, spans)}
        made = request.sample(
            _separate(self.config, request.compiled),
            asked["condition"],
            asked["negative"],
            items,
            positions,
            silent,
            mixture=np.tile(mixture, (len(queries), 1, 1, 1)),
        )
        made = made[..., :length].reshape(len(queries), channels, request.made, length) * gain[:, :, None]
        order = request.chosen(made.mean(1), queries)
        heard = np.ptp(samples, 0) > 0
        where = 1.0 if spans is None else inside(spans, len(samples), rate)
        out = np.zeros((len(queries), count, *samples.shape), np.float32)
        for q, k, c in np.ndindex(len(queries), count, channels):
            if heard[c]:
                one = made[q, c, order[q, k]]
                out[q, k, :, c] = resampled(one, self.sample_rate, rate, len(samples)) * where
        out = out[:, 0] if count == 1 else out
        results = [out, samples - out] if residual else [out]
        results = tuple(shaped(x, squeeze, isinstance(query, str)) for x in results)
        return results if residual else results[0]


def open_flow_separator(card: Card) -> FlowSeparator:
    """Reads the weights of a generative separator; see `jaxaudio.load`."""
    return FlowSeparator(**in_hand(card))


@functools.cache
def _separate(config: flowsep.Config, sampling: flowsep.Sampling) -> Stage:
    def run(params: Any, shared: dict[str, Any], rows: dict[str, Any]) -> jax.Array:
        z = flowsep.separate(
            params,
            config,
            rows["mixture"],
            rows["condition"],
            rows["negative"],
            jax.random.key(shared["seed"]),
            sampling=guided(sampling, shared),
            silent=shared.get("silent"),
            items=rows["items"],
        )
        return bounded(z)

    return run
