"""The stages of a text-to-audio system as tasks for `fit`: autoencoder, vocoder, latent diffusion, rectified flow.

Each is trained by itself, on what the stages before it made (AudioLDM, section 3; FlowSep, section 3).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.data.clips import Clip
from jaxaudio.data.mixing import cut, resample, to_mono
from jaxaudio.data.pipeline import MixtureConfig, MixturePipeline
from jaxaudio.dsp.distances import log_mel_distance
from jaxaudio.nn import autoencoder, latent_audio
from jaxaudio.nn.discriminators import PatchConfig, WaveConfig
from jaxaudio.systems import flowsep
from jaxaudio.train.adversarial import GENERATOR, prepared
from jaxaudio.train.checkpoint import load_params
from jaxaudio.train.experiment import DataIterator, Experiment, Task
from jaxaudio.train.vae import init_vae, vae_losses
from jaxaudio.train.vocoder import first_frames, init_vocoder, vocoder_losses

Batch = dict[str, Any]


@dataclasses.dataclass
class Mapped:
    """A data iterator whose batches pass through a function on the host."""

    source: DataIterator
    function: Callable[[Batch], Batch]

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self.function(next(self.source))

    def get_state(self) -> Any:
        """The position of the source."""
        return self.source.get_state()

    def set_state(self, state: Any) -> None:
        """Goes on from there."""
        self.source.set_state(state)


def waveforms(clips: Any, mixtures: MixtureConfig) -> Mapped:
    """Batches {"waveform"}: every other row a sound by itself, the others two of them mixed.

    A separator encodes mixtures, so autoencoder and vocoder have to know them.
    """

    def choose(batch: Batch) -> Batch:
        alone = np.arange(len(batch["mixture"]))[:, None] % 2 == 0
        return {"waveform": np.where(alone, batch["segment"], batch["mixture"])}

    return Mapped(mixture_batches(clips, mixtures, lambda captions: {}), choose)


def conditions(embed: Callable[[Sequence[str]], np.ndarray]) -> Callable[[Sequence[str]], Batch]:
    """Captions -> "condition" and, of the empty caption, "negative", for `latent_task`.

    Args:
      embed: sentences, the empty one among them, to (batch, width); best one that remembers (`text.queries.cached`).
    """

    def told(captions: Sequence[str]) -> Batch:
        nothing = embed([""]).repeat(len(captions), 0)
        return {"condition": {"film": np.asarray(embed(captions))}, "negative": {"film": nothing}}

    return told


def mixture_batches(clips: Any, mixtures: MixtureConfig, text: Callable[[Sequence[str]], Batch]) -> DataIterator:
    """Batches of a `MixturePipeline`, of which this process takes its share."""
    return iter(MixturePipeline(clips, mixtures, text=text, share=(jax.process_index(), jax.process_count())))


def held_out(clips: Sequence[Clip], count: int, samples: int, sample_rate: int, seed: int = 0) -> np.ndarray:
    """(count, samples) of clips spread evenly over a split, for evaluation."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in np.linspace(0, len(clips) - 1, count).astype(int):
        clip = clips[int(i)]
        rows.append(cut(resample(to_mono(clip.audio), clip.sample_rate, sample_rate), samples, rng, "random"))
    return np.stack(rows).astype(np.float32)


def autoencoder_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: np.ndarray,
    patch: PatchConfig,
    kl_weight: float,
    adversary_start: int,
) -> Task:
    """The autoencoder of log-mels: reconstruction, divergence and a patch discriminator.

    Args:
      experiment: its `model` is a `latent_audio.Config`.
      data: batches {"waveform": (batch, time)}.
      evaluation: (count, time) held-out waveforms.
      patch: shape of the discriminator.
      kl_weight: see `vae_losses`.
      adversary_start: number of steps before the discriminator counts.
    """
    config: latent_audio.Config = experiment.model

    def prepare(batch: Batch) -> Batch:
        return {**batch, "mel": latent_audio.mel(config, batch["waveform"])}

    @jax.jit
    def errors(variables: Any, waveform: jax.Array) -> dict[str, jax.Array]:
        mel = latent_audio.mel(config, waveform)
        mean, logvar = autoencoder.encode(variables, config.vae, mel)
        error = jnp.mean(jnp.abs(autoencoder.decode(variables, config.vae, mean) - mel))
        return {"mel_error": error, "kl": jnp.mean(autoencoder.kl(mean, logvar)), "latent_std": jnp.std(mean)}

    def evaluate(variables: Any) -> dict[str, float]:
        return {name: float(x) for name, x in errors(variables, evaluation).items()}

    def loss(axis_name: str | None):
        losses = vae_losses(
            config.vae, patch, kl_weight=kl_weight, adversary_start=adversary_start, lazy=True, axis_name=axis_name
        )
        return prepared(losses, prepare)

    return Task(
        loss=loss,
        init=functools.partial(init_vae, config=config.vae, patch=patch),
        data=data,
        evaluate=evaluate,
        release=lambda variables: {"params": variables["params"][GENERATOR]},
        config={"stage": "vae", "config": dataclasses.asdict(config)},
    )


def vocoder_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: np.ndarray,
    waves: WaveConfig,
    vae: Any = None,
    adversary_start: int = 0,
    resolutions: tuple[int, ...] = (),
) -> Task:
    """The vocoder, against HiFi-GAN's discriminators.

    Args:
      experiment: its `model` is a `latent_audio.Config`.
      data: batches {"waveform": (batch, time)}, a whole number of latent positions long.
      evaluation: (count, time) held-out waveforms.
      waves: shape of the discriminators.
      vae: variables of the autoencoder. With them every other row is given as the autoencoder has it, which is how the
        vocoder is used.
      adversary_start: see `vocoder_losses`.
      resolutions: see `vocoder_losses`.
    """
    config: latent_audio.Config = experiment.model
    vocoder = latent_audio.vocoder_of(config)
    loss_mel = dataclasses.replace(
        config.front_end, center=False, pad=(config.front_end.n_fft - config.front_end.hop) // 2, epsilon=1e-9
    )

    def heard(waveform: jax.Array, frozen: Any) -> jax.Array:
        mel = latent_audio.mel(config, waveform)
        if frozen is None:
            return mel[..., 0]
        made = autoencoder.decode(frozen, config.vae, autoencoder.encode(frozen, config.vae, mel[1::2])[0])
        return mel.at[1::2].set(made)[..., 0]

    def generate(variables: Any, mel: jax.Array, first: jax.Array | int = 0) -> jax.Array:
        return latent_audio.vocode({"vocoder": variables}, config, mel, first)

    losses = vocoder_losses(
        generate,
        config.front_end,
        loss_mel,
        waves,
        adversary_start=adversary_start,
        resolutions=resolutions,
    )

    def run(params: Any, extra: Any, batch: Batch, key: jax.Array, frozen: Any) -> tuple[Any, Any]:
        sound = batch["waveform"]
        mel = jax.lax.stop_gradient(heard(sound, frozen))
        return generate({"params": params}, mel, first_frames(key, batch["index"]))[:, : sound.shape[1]], extra

    @jax.jit
    def errors(variables: Any, vae: Any, waveform: jax.Array) -> dict[str, jax.Array]:
        mel = heard(waveform, vae)
        made = generate(variables, mel)[:, : waveform.shape[1]]
        parts = {"true": slice(0, None, 2), "decoded": slice(1, None, 2)} if vae is not None else {"true": slice(None)}
        return {
            f"mel_{name}": jnp.mean(log_mel_distance(waveform[rows], made[rows], loss_mel))
            for name, rows in parts.items()
        }

    def evaluate(variables: Any) -> dict[str, float]:
        return {name: float(x) for name, x in errors(variables, vae, evaluation).items()}

    return Task(
        loss=lambda axis_name: losses._replace(generate=run),
        init=functools.partial(init_vocoder, init=lambda key: vocoder.init(key, config.vocoder), config=waves),
        data=data,
        evaluate=evaluate,
        frozen=vae,
        release=lambda variables: {"params": variables["params"][GENERATOR]},
        config={"stage": "vocoder", "config": dataclasses.asdict(config)},
    )


def latent_task(
    experiment: Experiment,
    *,
    system: Any,
    data: DataIterator,
    stages: Any,
    evaluation: Batch,
    drop: float = 0.1,
    prepare: Callable[[Batch, Any], Batch] = lambda batch, frozen: batch,
    about: dict[str, Any] | None = None,
) -> Task:
    """The latent model: denoising (`systems.audioldm`) or rectified flow (`systems.flowsep`).

    Args:
      experiment: its `model` is the system's `Config`.
      system: the module.
      data: batches as the system's `loss` takes them, once `prepare` has seen to them.
      stages: {"vae", "vocoder", "scale"}, the stages around it, which stay as they are and are stored with it.
      evaluation: one batch, on which the loss is measured with the same draws each time.
      drop: probability of the negative condition.
      prepare: what is left to do on the device: `(batch, stages) -> batch`.
      about: further entries of the configuration that is stored with the weights.
    """
    config = experiment.model

    def loss(params: Any, extra: Any, batch: Batch, key: jax.Array, frozen: Any):
        return system.loss(params, extra, prepare(batch, frozen), key, config=config, drop=drop)

    @jax.jit
    def measure(params: Any, stages: Any, batch: Batch) -> jax.Array:
        index = jnp.arange(len(jax.tree.leaves(batch)[0]), dtype=jnp.int32)
        ready = prepare({**batch, "index": index}, stages)
        return system.loss(params, {}, ready, jax.random.key(0), config=config, drop=0.0)[0]

    name = system.__name__.rpartition(".")[2]
    return Task(
        loss=lambda axis_name: loss,
        init=lambda key: (system.init(key, config)["unet"], {}),
        data=data,
        evaluate=lambda tree: {"loss": float(measure(tree["unet"], stages, evaluation))},
        release=lambda variables: {"unet": variables["params"], **stages},
        frozen=stages,
        config={"system": name, "config": dataclasses.asdict(config), **(about or {})},
    )


def flow_batches(config: flowsep.Config) -> Callable[[Batch, Any], Batch]:
    """Latents of mixtures and of what is wanted of them, for `latent_task` of FlowSep.

    Both are turned up or down together, so that the mixture is levelled and their difference stays.
    """

    def prepare(batch: Batch, stages: Any) -> Batch:
        mixture, wanted = batch["mixture"], batch["segment"]
        gain = 0.5 / (jnp.max(jnp.abs(mixture), axis=1, keepdims=True) + 1e-8)
        both = jnp.concatenate([gain * mixture, gain * wanted])
        latents = jax.lax.stop_gradient(flowsep.encode(stages, config, both))
        rest = {name: value for name, value in batch.items() if name != "segment"}
        return {**rest, "mixture": latents[: len(mixture)], "latent": latents[len(mixture) :]}

    return prepare


def read_stages(config: latent_audio.Config, vae: str, vocoder: str, scale: float) -> Any:
    """The stages around a latent model, from the `final` folders of their runs.

    Args:
      config: theirs.
      vae: folder of the autoencoder.
      vocoder: folder of the vocoder; "" for random weights, with which no sound can be made.
      scale: one over the standard deviation of the latents.
    """
    shapes = jax.eval_shape(lambda: latent_audio.init(jax.random.key(0), config))
    if vocoder:
        made = load_params(vocoder, shapes["vocoder"])[0]
    else:
        made = jax.jit(lambda key: latent_audio.init(key, config)["vocoder"])(jax.random.key(0))
    return {"vae": load_params(vae, shapes["vae"])[0], "vocoder": made, "scale": jnp.float32(scale)}
