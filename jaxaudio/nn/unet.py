"""The diffusion U-Nets of AudioLDM, AudioLDM 2 and FlowSep (Liu et al., 2023, arXiv:2301.12503; Rombach et al., 2022).

One network: residual blocks that hear the time (and a vector, where there is one), and at the coarser levels lists of
spatial transformers, each of which looks at the map alone or at one context as well. What differs between the published
models is data, in `UNetConfig`.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, conv2d, linear, prefixed
from jaxaudio.errors import ConfigError
from jaxaudio.nn import spatial_transformer
from jaxaudio.nn.conv import Conv3x3, Pointwise
from jaxaudio.nn.direct import repeated
from jaxaudio.nn.resnet import Downsample, GroupNorm
from jaxaudio.nn.spatial_transformer import SpatialTransformer

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Shape of a U-Net.

    Attributes:
      inputs: channels of the input, those concatenated to the noisy latent included.
      outputs: channels of the output.
      channels: of the levels, from fine to coarse; each level after the first halves time and frequency.
      blocks: residual blocks of a level on the way down; one more on the way up.
      attention: for every level, whether its blocks are followed by transformers; the middle always is.
      transformers: the spatial transformers behind such a block: the width of the context that each looks at, or None
        for one that looks at the map alone. Contexts are given in this order.
      depth: transformer blocks in each spatial transformer.
      head_dim: channels of an attention head, as trained.
      film: width of the vector that conditions every residual block together with the time; None for none.
      film_scale: factor on that vector. One of unit length is next to nothing to a fresh linear layer, and the network
        ignores it for a long time; the root of its width makes it heard from the first step.
      diffusers_compat: eight heads everywhere, as the published diffusers configurations of these weights have it. They
        compute another network than the one that was trained.
      dtype: compute dtype, "float32" or "bfloat16"; norms and softmax stay float32.
    """

    inputs: int = 8
    outputs: int = 8
    channels: tuple[int, ...] = (128, 256, 384, 640)
    blocks: int = 2
    attention: tuple[bool, ...] = (False, True, True, True)
    transformers: tuple[int | None, ...] = (None,)
    depth: int = 1
    head_dim: int = 32
    film: int | None = None
    film_scale: float = 1.0
    diffusers_compat: bool = False
    dtype: str = "float32"

    @property
    def contexts(self) -> tuple[int, ...]:
        """Widths of the contexts, in the order in which they are given."""
        return tuple(width for width in self.transformers if width is not None)

    def heads(self, channels: int) -> int:
        """Attention heads at a level of so many channels."""
        return 8 if self.diffusers_compat else channels // self.head_dim


AUDIOLDM_S_UNET = UNetConfig(film=512)
"""audioldm-s-full, -s-full-v2 and -s-text-ft: conditioned on a CLAP embedding."""

AUDIOLDM_M_UNET = UNetConfig(film=512, channels=(192, 384, 576, 960))
"""audioldm-m-full and -m-text-ft."""

AUDIOLDM_L_UNET = UNetConfig(film=512, channels=(256, 512, 768, 1280), head_dim=64)
"""audioldm-l-full."""

AUDIOLDM_48K_UNET = UNetConfig(film=512, inputs=16, outputs=16, transformers=(None, None))
"""audioldm_48k: a CLAP embedding, and two transformers at every site."""

AUDIOLDM_CROSSATTN_T5_UNET = UNetConfig(transformers=(None, 1024))
"""audioldm_16k_crossattn_t5: the tokens of FLAN-T5-large."""

FLOWSEP_UNET = UNetConfig(inputs=16, outputs=16, transformers=(None, 1024))
"""FlowSep: the noisy latent and the mixture's, concatenated; only the first eight channels of the output are used."""

AUDIOLDM2_BASE_UNET = UNetConfig(transformers=(None, 768, 1024))
"""audioldm2-full and -music: generated AudioMAE tokens, then the tokens of FLAN-T5-large."""

AUDIOLDM2_LARGE_UNET = UNetConfig(transformers=(None, 768, 1024, None), depth=2)
"""audioldm2-full-large-1150k."""


class _TimeEmbedding(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.silu(nn.Dense(self.width, dtype=x.dtype, name="linear_1")(x))
        return nn.Dense(self.width, dtype=x.dtype, name="linear_2")(x)


class _Block(nn.Module):
    """Residual block of two 3x3 convolutions; `emb` (batch, size) is added, after a linear map, between them."""

    features: int

    @nn.compact
    def __call__(self, *parts: Array, emb: Array) -> Array:
        x = jnp.concatenate(parts, -1) if len(parts) > 1 else parts[0]
        skip = x if x.shape[-1] == self.features else Pointwise(self.features, name="conv_shortcut")(*parts)
        y = nn.silu(GroupNorm(epsilon=1e-5, name="norm1")(x))
        shift = nn.Dense(self.features, dtype=x.dtype, name="time_emb_proj")(emb)
        y = Conv3x3(self.features, name="conv1")(y) + shift[:, None, None]
        y = nn.silu(GroupNorm(epsilon=1e-5, name="norm2")(y))
        return skip + Conv3x3(self.features, name="conv2")(y)


class _Upsample(nn.Module):
    """Every position repeated to two by two, cut to the size of the next skip, then a 3x3 convolution named "conv"."""

    features: int

    @nn.compact
    def __call__(self, x: Array, size: tuple[int, ...]) -> Array:
        twice = 2 * x.shape[1], 2 * x.shape[2]
        if size != twice:  # the skip was odd: its last position has no pair
            x = repeated(x)[:, : size[0], : size[1]]
        return Conv3x3(self.features, repeat=size == twice, name="conv")(x)


class _Level(nn.Module):
    """The blocks of one level and the transformers behind them, on the way down, in the middle or on the way up."""

    config: UNetConfig
    channels: int
    attention: bool

    def _attend(self, x: Array, site: int, contexts: Sequence[tuple[Array, Array | None]]) -> Array:
        c, given = self.config, iter(contexts)
        for k, width in enumerate(c.transformers if self.attention else ()):
            context, mask = (None, None) if width is None else next(given)
            name = f"attentions_{site * len(c.transformers) + k}"
            x = SpatialTransformer(c.heads(self.channels), c.depth, name=name)(x, context, mask)
        return x


class _Down(_Level):
    last: bool = False

    @nn.compact
    def __call__(self, x: Array, emb: Array, contexts: Sequence) -> list[Array]:
        """Everything that the way up will need, the output of the level last."""
        made = []
        for j in range(self.config.blocks):
            x = _Block(self.channels, name=f"resnets_{j}")(x, emb=emb)
            x = self._attend(x, j, contexts)
            made.append(x)
        return made if self.last else [*made, Downsample(self.channels, name="downsamplers_0")(x)]


class _Middle(_Level):
    @nn.compact
    def __call__(self, x: Array, emb: Array, contexts: Sequence) -> Array:
        x = _Block(self.channels, name="resnets_0")(x, emb=emb)
        x = self._attend(x, 0, contexts)
        return _Block(self.channels, name="resnets_1")(x, emb=emb)


class _Up(_Level):
    last: bool = False

    @nn.compact
    def __call__(self, x: Array, skips: list[Array], emb: Array, contexts: Sequence) -> list[Array]:
        """Every block's output, that of the level last; consumes its part of `skips` from the end."""
        made = []
        for j in range(self.config.blocks + 1):
            x = _Block(self.channels, name=f"resnets_{j}")(x, skips.pop(), emb=emb)
            x = self._attend(x, j, contexts)
            made.append(x)
        if not self.last:
            made[-1] = _Upsample(self.channels, name="upsamplers_0")(x, skips[-1].shape[1:3])
        return made


class UNet(nn.Module):
    """The network under `predict`.

    Attributes:
      config: its shape.
    """

    config: UNetConfig

    @nn.compact
    def __call__(
        self,
        x: Array,
        t: Array,
        film: Array | None = None,
        contexts: Sequence[Array] = (),
        masks: Sequence[Array | None] = (),
        *,
        intermediates: bool = False,
    ) -> Any:
        """Predicts noise, clean latent or velocity, whichever it was trained for.

        Args:
          x: (batch, time, frequency, inputs); any time and frequency.
          t: (batch,) or a scalar: the step as the model was trained on it, 0 to 999, or the flow time in [0, 1].
          film: (batch, config.film).
          contexts: one (batch, keys, width) for each of `config.contexts`.
          masks: as many (batch, keys), nonzero where the context is real, or None; empty where everything is real.
          intermediates: return a dict of what every block makes, the result as "out".

        Returns:
          (batch, time, frequency, outputs), in the dtype of x.

        Raises:
          ConfigError: conditions that do not fit the configuration.
        """
        c = self.config
        _check(c, x, film, contexts, masks)
        kind = x.dtype
        wide = jnp.promote_types(kind, jnp.float32)
        dtype = c.dtype if c.dtype != "float32" else wide  # float64 stays what it is
        given = tuple(zip(contexts, masks or (None,) * len(contexts), strict=True))
        made: dict[str, Array] = {}

        waves = sinusoids(jnp.broadcast_to(jnp.asarray(t, wide), x.shape[:1]), c.channels[0])
        emb = _TimeEmbedding(4 * c.channels[0], name="time_embedding")(waves)
        made["time_embedding"] = emb
        if film is not None:
            y = nn.Dense(4 * c.channels[0], dtype=wide, name="class_embedding")(c.film_scale * film.astype(wide))
            emb = jnp.concatenate([emb, y], -1)
        emb = nn.silu(emb).astype(dtype)

        x = Conv3x3(c.channels[0], name="conv_in")(x.astype(dtype))
        skips = [x]
        for i, (channels, attention) in enumerate(zip(c.channels, c.attention, strict=True)):
            down = _Down(c, channels, attention, i == len(c.channels) - 1, name=f"down_blocks_{i}")
            level = down(x, emb, given)
            x = level[-1]
            skips += level
            made |= {f"down_blocks_{i}_{j}": y for j, y in enumerate(level)}
        x = _Middle(c, c.channels[-1], True, name="mid_block")(x, emb, given)
        made["mid_block"] = x
        for i, (channels, attention) in enumerate(zip(reversed(c.channels), reversed(c.attention), strict=True)):
            up = _Up(c, channels, attention, i == len(c.channels) - 1, name=f"up_blocks_{i}")
            level = up(x, skips, emb, given)
            x = level[-1]
            made |= {f"up_blocks_{i}_{j}": y for j, y in enumerate(level)}
        x = nn.silu(GroupNorm(epsilon=1e-5, name="conv_norm_out")(x))
        made["out"] = Conv3x3(c.outputs, name="conv_out")(x).astype(kind)
        return made if intermediates else made["out"]


def _check(c: UNetConfig, x: Array, film: Array | None, contexts: Sequence[Array], masks: Sequence) -> None:
    if len(c.attention) != len(c.channels):
        raise ConfigError(f"channels has {len(c.channels)} levels and attention {len(c.attention)}: give one each.")
    if x.shape[-1] != c.inputs:
        raise ConfigError(f"The U-Net takes {c.inputs} input channels, not {x.shape[-1]}: is it another variant's?")
    if (None if film is None else film.shape[-1]) != c.film:
        raise ConfigError(f"The U-Net takes film of width {c.film}: give the embedding it was trained with.")
    if tuple(context.shape[-1] for context in contexts) != c.contexts:
        raise ConfigError(f"The U-Net takes contexts of widths {c.contexts}: give one of each, in this order.")
    if masks and len(masks) != len(contexts):
        raise ConfigError(f"There are {len(masks)} masks for {len(contexts)} contexts: give one each, or none.")


def sinusoids(t: Array, width: int, period: float = 1e4) -> Array:
    """Cosines, then sines, of t (batch,) at geometrically falling frequencies from 1 to 1 / period: (batch, width)."""
    angles = t[:, None] * jnp.exp(jnp.arange(width // 2, dtype=t.dtype) * (-math.log(period) / (width // 2)))
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


def init(key: Array, config: UNetConfig) -> Params:
    """Random variables {"params": ...}; use `jax.eval_shape` for the shapes alone.

    The last convolution of every residual block, of every transformer and of the network starts at zero, as the
    original's do: at first a block adds nothing.
    """
    size = 2 ** (len(config.channels) - 1)
    x = jnp.zeros((1, size, size, config.inputs))
    film = None if config.film is None else jnp.zeros((1, config.film))
    params = UNet(config).init(key, x, jnp.zeros(()), film, [jnp.zeros((1, 1, width)) for width in config.contexts])

    def zero(path: tuple, leaf: Array) -> Array:
        last = {"conv2", "proj_out", "conv_out"} & {entry.key for entry in path}
        return jnp.zeros_like(leaf) if last else leaf

    return jax.tree_util.tree_map_with_path(zero, params)


def predict(
    params: Params,
    config: UNetConfig,
    x: Array,
    t: Array,
    film: Array | None = None,
    contexts: Sequence[Array] = (),
    masks: Sequence[Array | None] = (),
) -> Array:
    """What the U-Net was trained to predict; see `UNet.__call__`."""
    out: Any = UNet(config).apply(params, x, t, film, contexts, masks)
    return out


def intermediates(params: Params, config: UNetConfig, *args: Any, **kwargs: Any) -> dict[str, Array]:
    """Like `predict`, but returns what every block makes by name, as "mid_block" or "up_blocks_1_2", with "out"."""
    made: Any = UNet(config).apply(params, *args, **kwargs, intermediates=True)
    return made


def _affine(key: str, path: str, op=None) -> tuple[Rule, Rule]:
    """Weight and bias of a norm, or of a layer whose weight `op` turns into a kernel."""
    weight = Rule(rf"{key}\.weight", f"{path}/scale") if op is None else Rule(rf"{key}\.weight", f"{path}/kernel", op)
    return weight, Rule(rf"{key}\.bias", f"{path}/bias")


_RESNET = (
    *_affine(r"(?:in_layers\.0|norm1)", "norm1"),
    *_affine(r"(?:in_layers\.2|conv1)", "conv1", conv2d),
    *_affine(r"(?:emb_layers\.1|time_emb_proj)", "time_emb_proj", linear),
    *_affine(r"(?:out_layers\.0|norm2)", "norm2"),
    *_affine(r"(?:out_layers\.3|conv2)", "conv2", conv2d),
    *_affine(r"(?:skip_connection|conv_shortcut)", "conv_shortcut", conv2d),
)
_ENDS = (
    *_affine(r"(?:time_embed\.0|time_embedding\.linear_1)", "time_embedding/linear_1", linear),
    *_affine(r"(?:time_embed\.2|time_embedding\.linear_2)", "time_embedding/linear_2", linear),
    *_affine(r"(?:film_emb|class_embedding)", "class_embedding", linear),
    *_affine(r"(?:input_blocks\.0\.0|conv_in)", "conv_in", conv2d),
    *_affine(r"(?:out\.0|conv_norm_out)", "conv_norm_out"),
    *_affine(r"(?:out\.2|conv_out)", "conv_out", conv2d),
)


@functools.cache
def weights(config: UNetConfig) -> tuple[Rule, ...]:
    """Conversion rules from the original's keys (below "model.diffusion_model.") and from diffusers', to "params/...".

    The original counts its blocks through, diffusers by level; the tree is named as diffusers names it.
    """
    rules = list(_ENDS)

    def sites(key: str, path: str, site: int) -> None:
        for k in range(len(config.transformers)):
            name = f"{path}/attentions_{site * len(config.transformers) + k}"
            rules.extend(prefixed(rf"{key}\.{k + 1}\.", spatial_transformer.WEIGHTS, name))

    levels, period = len(config.channels), config.blocks + 1
    # The original: input_blocks, then middle_block, then output_blocks.
    for i in range(1, levels * period):
        key, path = rf"input_blocks\.{i}", f"down_blocks_{(i - 1) // period}"
        if i % period == 0:
            rules += _affine(rf"{key}\.0\.op", f"{path}/downsamplers_0/conv", conv2d)
            continue
        rules += prefixed(rf"{key}\.0\.", _RESNET, f"{path}/resnets_{(i - 1) % period}")
        sites(key, path, (i - 1) % period)
    rules += prefixed(r"middle_block\.0\.", _RESNET, "mid_block/resnets_0")
    rules += prefixed(rf"middle_block\.{len(config.transformers) + 1}\.", _RESNET, "mid_block/resnets_1")
    sites("middle_block", "mid_block", 0)
    for i in range(levels * period):
        key, path = rf"output_blocks\.{i}", f"up_blocks_{i // period}"
        rules += prefixed(rf"{key}\.0\.", _RESNET, f"{path}/resnets_{i % period}")
        rules += _affine(rf"{key}\.\d\.conv", f"{path}/upsamplers_0/conv", conv2d)
        sites(key, path, i % period)
    # diffusers
    for side in (*(f"{way}_blocks\\.{i}" for way in ("down", "up") for i in range(levels)), "mid_block"):
        path = side.replace("\\.", "_")
        rules += prefixed(rf"{side}\.resnets\.(?P<n>\d+)\.", _RESNET, rf"{path}/resnets_\g<n>")
        rules += prefixed(
            rf"{side}\.attentions\.(?P<n>\d+)\.", spatial_transformer.WEIGHTS, rf"{path}/attentions_\g<n>"
        )
        rules += _affine(rf"{side}\.(?P<n>down|up)samplers\.0\.conv", rf"{path}/\g<n>samplers_0/conv", conv2d)
    return prefixed("", rules, "params")


def ema_names(keys: Iterable[str]) -> dict[str, str]:
    """{key of an averaged weight: key of the weight itself} of a checkpoint's keys.

    The original code names the average of "model.a.b.weight" "model_ema.abweight", all dots removed.
    """
    present = set(keys)
    averaged = {f"model_ema.{key.removeprefix('model.').replace('.', '')}": key for key in present}
    return {name: key for name, key in averaged.items() if key.startswith("model.") and name in present}


def with_ema(state: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's state with every "model." weight replaced by its average where it has one, and no "model_ema."."""
    plain = {key: value for key, value in state.items() if not key.startswith("model_ema.")}
    return plain | {key: state[name] for name, key in ema_names(state).items()}
