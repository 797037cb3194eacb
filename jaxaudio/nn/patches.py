"""The Audio Captioning Transformer's encoder (Mei et al., 2021, arXiv:2107.09817): patches, and no convolution.

A spectrogram is cut in time only; each patch is a few frames with all their mels. The layers are DeiT's.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, batch_norm, linear, prefixed, split_qkv
from jaxaudio.dsp.augment import spec_augment
from jaxaudio.dsp.mel import MelConfig
from jaxaudio.errors import UsageError
from jaxaudio.nn import stack
from jaxaudio.nn.dropout import drop, split
from jaxaudio.nn.norm import BatchNorm

Params = Any

MEL = MelConfig(sample_rate=32000, n_fft=1024, hop=640, n_mels=64, pad_mode="constant", top_db=80)
"""50 frames per second; the published code drops the last frame, which is centred on the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of an encoder.

    Attributes:
      mel: the front-end.
      frames: of a patch.
      patches: most of a clip, one row of the position table each; and one more for the clip's own token.
      width: channels.
      layers: how many.
      heads: attention heads.
      hidden: channels inside the perceptrons.
      token: put a learnt token before the patches.
      classes: channels of a norm and a layer after the last; 0 for neither.
      dropout: of every kind, in training.
      augment: blank stripes of the spectrogram in training.
      axis_name: mapped axis over which batches are normalised, see `norm.BatchNorm`.
    """

    mel: MelConfig = MEL
    frames: int = 4
    patches: int = 125
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    token: bool = True
    classes: int = 527
    dropout: float = 0.2
    augment: bool = True
    axis_name: str | None = None

    @property
    def embedding(self) -> int:
        """Channels of what comes out."""
        return self.classes or self.width

    @property
    def stack(self) -> stack.Config:
        """Of the layers."""
        return stack.Config(
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            hidden=self.hidden,
            causal=False,
            norm="pre",
            dropout=self.dropout,
            attention_dropout=self.dropout,
            hidden_dropout=self.dropout,
        )


def _batch_norm(config: Config) -> BatchNorm:
    return BatchNorm(axis_name=config.axis_name)


def init(key: Array, config: Config) -> Params:
    """Random {"params", "batch_stats"}."""
    first, layers, places, token, head = jax.random.split(key, 5)
    norm = _batch_norm(config).init(key, jnp.zeros((1, 1, config.mel.n_mels)))

    params = {
        "bn0": norm["params"],
        "patch_embed": stack.dense_init(first, config.frames * config.mel.n_mels, config.width),
        "cls_token": 0.02 * jax.random.normal(token, (config.width,)),
        "pos_embedding": 0.02 * jax.random.normal(places, (config.patches + 1, config.width)),
        "blocks": stack.init(layers, config.stack),
    }
    if config.classes:
        head = stack.dense_init(head, config.width, config.classes)
        params |= {"norm": stack.norm_init(config.width), "mlp_head": head}
    return {"params": params, "batch_stats": {"bn0": norm["batch_stats"]}}


def apply(
    params: Params, config: Config, mel: Array, *, train: bool = False, key: Array | None = None
) -> tuple[dict[str, Array], Params]:
    """What the encoder makes of log-mel spectrograms.

    Args:
      params: {"params", "batch_stats"} of `init` or of a converted checkpoint.
      config: that they belong to.
      mel: (batch, time, mels); what does not fill a patch at the end is left out.
      train: normalise by the batch, and update the running statistics.
      key: draws dropout and SpecAugment's stripes; without it there are none.

    Returns:
      ({"patches": (batch, patches, width) before the layers, "blocks": after them, with the token first, "embedding":
      (batch, tokens, channels)}, the statistics, new in training).

    Raises:
      UsageError: longer than the position table, or shorter than one patch.
    """
    p, c = params["params"], config
    count = mel.shape[1] // c.frames
    if not 0 < count <= c.patches:
        raise UsageError(f"{mel.shape[1]} frames; this encoder takes {c.frames} to {c.patches * c.frames}: cut or pad.")
    norm = {"params": p["bn0"], "batch_stats": params["batch_stats"]["bn0"]}
    # Where it is not in training, the running statistics come back as they were.
    x, changed = _batch_norm(c).apply(norm, mel, train, mutable=["batch_stats"])
    statistics = {"bn0": changed["batch_stats"]}
    keys = split(key, 3)
    if keys[0] is not None and c.augment:
        x = spec_augment(keys[0], x)
    x = x[:, : count * c.frames].reshape(x.shape[0], count, -1)
    made = {"patches": stack.dense(p["patch_embed"], x)}
    x = made["patches"]
    if c.token:
        x = jnp.concatenate([jnp.broadcast_to(p["cls_token"], (x.shape[0], 1, c.width)), x], 1)
    x = drop(x + p["pos_embedding"][: x.shape[1]], c.dropout, keys[1])
    x = made["blocks"] = stack.apply(p["blocks"], c.stack, x, key=keys[2])
    if c.classes:
        x = stack.dense(p["mlp_head"], stack.layer_norm(p["norm"], x))
    return made | {"embedding": x}, statistics


def weights(config: Config, prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names; a head that `config` has not is dropped.

    Args:
      config: of the encoder.
      prefix: regular expression before the keys, e.g. r"encoder\\.".
      path: where the encoder is, below "params" and "batch_stats".
    """
    at = f"{path}/" if path else ""
    layer, to = r"blocks\.layers\.(\d+)\.", rf"params/{at}blocks/layers"
    parts = {r"0\.fn\.proj\.0": "self_attn/out_proj", r"1\.fn\.mlp\.fc1": "fc1", r"1\.fn\.mlp\.fc2": "fc2"}
    rules = [
        *batch_norm("bn0", f"{at}bn0"),
        Rule(r"pos_embedding", f"params/{at}pos_embedding", lambda x: x[0]),
        Rule(r"cls_token", f"params/{at}cls_token", lambda x: x[0, 0]),
        Rule(r"patch_embed\.proj\.weight", f"params/{at}patch_embed/kernel", linear),
        Rule(r"patch_embed\.proj\.bias", f"params/{at}patch_embed/bias"),
    ]
    for kind, leaf in (("weight", "kernel"), ("bias", "bias")):
        paths = tuple(rf"{to}/self_attn/{n}_proj/{leaf}[\1]" for n in "qkv")
        op = linear if kind == "weight" else lambda x: x
        rules.append(Rule(rf"{layer}0\.fn\.qkv\.{kind}", paths, split_qkv))
        rules += [Rule(rf"{layer}{key}\.{kind}", rf"{to}/{name}/{leaf}[\1]", op) for key, name in parts.items()]
        if config.classes:
            rules.append(Rule(rf"mlp_head\.1\.{kind}", f"params/{at}mlp_head/{leaf}", op))
    for kind, leaf in (("weight", "scale"), ("bias", "bias")):
        rules.append(Rule(rf"{layer}0\.norm\.{kind}", rf"{to}/self_attn_layer_norm/{leaf}[\1]"))
        rules.append(Rule(rf"{layer}1\.norm\.{kind}", rf"{to}/final_layer_norm/{leaf}[\1]"))
        if config.classes:
            rules.append(Rule(rf"mlp_head\.0\.{kind}", f"params/{at}norm/{leaf}"))
    if not config.classes:
        rules.append(Rule(r"mlp_head\..*", None))
    return prefixed(prefix, rules)
