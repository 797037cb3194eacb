"""What a captioner minimises."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.dsp.augment import another_microphone
from jaxaudio.nn.dropout import split
from jaxaudio.systems.captioning import losses
from jaxaudio.systems.captioning.model import Config, caption_logits, encode, hear, noise, varied

Params = Any


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Any = None,
    *,
    config: Config,
    smoothing: float = 0.1,
    padding: bool = False,
    tag_weight: float = 1.0,
    teacher: Config | None = None,
    teacher_weight: float = 1.0,
    temperature: float = 1.0,
    microphone: bool = False,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """Cross entropy of each next word of the captions, with label smoothing; with a teacher, distillation besides.

    Args:
      params: the parameters.
      extra: {"batch_stats"}.
      batch: "audio" (batch, time) at the front-end's rate, or "mel" of `hear`; "video", "video_mask" and "keywords"
        where the model takes them; "ids" and "mask" (batch, length) of the captions, with start and end; "index"
        (batch,).
      key: draws dropout and SpecAugment's stripes, for each item by its index.
      frozen: {"params", "batch_stats"} of the teacher, where there is one.
      config: of the captioner.
      smoothing: see `losses.smoothed`.
      tag_weight: factor on the cross entropy of the tags, a sum over them, where batches have "tags".
      teacher: configuration of a captioner with the same words, whose next words are to be learnt as well, from the
        same sound at its own front-end.
      teacher_weight: factor on `losses.distilled`.
      temperature: see `losses.distilled`.
      microphone: put `augment.another_microphone` over what is heard, in training.
      padding: count what stands after the end, as the original code does; its captions are padded with ends.

    Returns:
      (loss, ({"accuracy": share of the words that are the likeliest}, {"batch_stats"})).
    """
    variables = {"params": params, **extra}
    keys, index = None, batch.get("index", jnp.arange(batch["ids"].shape[0]))
    if key is not None:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    first, second, third = split(keys, 3)
    mel = batch["mel"] if "mel" in batch else hear(config, batch["audio"]) if "audio" in batch else None
    heard = mel if third is None or mel is None or not microphone else another_microphone(third, mel)
    seen = {name: batch[name] for name in ("video", "video_mask", "keywords") if name in batch}
    made, statistics = encode(variables, config, heard, **seen, train=key is not None, key=first)
    ids, mask = batch["ids"], batch["mask"]
    memory = made["memory"]
    if config.noise and key is not None:
        memory = varied(variables, config, memory, noise(key, config, index))
    logits = caption_logits(variables, config, memory, ids[:, :-1], mask[:, :-1], key=second)
    targets, counted = ids[:, 1:], None if padding else mask[:, 1:]
    value = losses.smoothed(logits, targets, counted, smoothing=smoothing)
    right = losses.masked_mean((jnp.argmax(logits, -1) == targets).astype(value.dtype), mask[:, 1:])
    metrics = {"accuracy": right}
    if teacher is not None:
        own = mel if "audio" not in batch else hear(teacher, batch["audio"])
        known = encode(frozen, teacher, own, video=batch.get("video"), keywords=batch.get("keywords"))[0]["memory"]
        wanted = caption_logits(frozen, teacher, known, ids[:, :-1], mask[:, :-1])
        far = losses.distilled(logits, wanted, counted, temperature=temperature)
        metrics |= {"caption_loss": value, "teacher_loss": far}
        value = value + teacher_weight * far
    if "tags" in batch:
        x = made["tag_logits"]
        missed = jnp.maximum(x, 0) - x * batch["tags"] + jnp.log1p(jnp.exp(-jnp.abs(x)))
        metrics = {"caption_loss": value} | metrics | {"tag_loss": missed.sum(-1).mean()}
        value = value + tag_weight * metrics["tag_loss"]
    return value, (metrics, {"batch_stats": statistics})
