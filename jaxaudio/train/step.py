"""One optimiser step, as a pure function of state and batch."""

import re
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from jaxaudio.errors import ConfigError
from jaxaudio.train.state import TrainState

Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, dict[str, jax.Array], Any], tuple[TrainState, Metrics]]


class Loss(Protocol):
    """What a system trains on: a mean over the batch, metrics (scalars), and the mutable collections as the forward
    pass left them.
    """

    def __call__(
        self, params: Any, extra: Any, batch: dict[str, jax.Array], key: jax.Array, frozen: Any
    ) -> tuple[jax.Array, tuple[Metrics, Any]]:
        """Computes the loss; `batch["index"]` (batch,) int32 is each item's place in the global batch."""
        ...


def item_keys(key: jax.Array, index: jax.Array) -> jax.Array:
    """One key per item of the batch, independent of batch splitting, device count and accumulation.

    Args:
      key: the step's key.
      index: (batch,) `batch["index"]`.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def ema_warm_up(decay: float) -> Callable[[jax.Array], jax.Array]:
    """The usual warmed-up decay, `min(decay, (1 + n) / (10 + n))` at the n-th update, n from 1."""
    return lambda n: jnp.minimum(decay, (1 + n) / (10 + n))


def path_mask(tree: Any, pattern: str) -> Any:
    """A tree of bools: whether a leaf's "/"-joined path contains a match of the regular expression `pattern`.

    Raises:
      ConfigError: no leaf matches, or `pattern` is not a regular expression.
    """
    try:
        found = re.compile(pattern).search
    except re.error as error:
        raise ConfigError(
            f"trainable={pattern!r} is not a regular expression ({error}); quote special characters"
        ) from None
    mask = jax.tree_util.tree_map_with_path(lambda path, _: found(path_name(path)) is not None, tree)
    if not any(jax.tree.leaves(mask)):
        raise ConfigError(f"trainable={pattern!r} matches no parameter; paths look like {_first_path(tree)!r}")
    return mask


def path_name(path: tuple[Any, ...]) -> str:
    """A tree path as "a/b/0"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _first_path(tree: Any) -> str:
    return path_name(jax.tree_util.tree_flatten_with_path(tree)[0][0][0])


def make_step(
    loss: Loss,
    tx: optax.GradientTransformation,
    *,
    ema_decay: float | Callable[[jax.Array], jax.Array] = 0.0,
    accumulate: int = 1,
    clip_norm: float | None = None,
    trainable: str | None = None,
    skip_nonfinite: bool = True,
    learning_rate: Callable[[Any], Any] | None = None,
    axis_name: str | None = None,
) -> Step:
    """Builds `step(state, batch, frozen=None) -> (state, metrics)`.

    Args:
      loss: see `Loss`; must be a mean over items for accumulation and data parallelism to be exact.
      tx: the optimiser that made `state.opt_state`.
      ema_decay: decay of the moving average, or a function of the number of updates (from 1), as `ema_warm_up(0.999)`
        makes;
        used when the state holds an average.
      accumulate: number of micro-batches, which must divide the (per-device, under pmap) batch. The result equals
        that of the whole batch except for
        BatchNorm, whose statistics are those of each micro-batch, updated one after the other, as in PyTorch.
      clip_norm: scale the gradient down to this global norm, with PyTorch's `clip / (norm + 1e-6)`.
      trainable: regular expression on "/"-joined paths; parameters that it does not find stay as they are, weight
        decay included.
      skip_nonfinite: where the loss or the gradient is not finite, change nothing but the step counter, and report
        `skipped` = 1.
      learning_rate: reported as the metric `lr`, given the number of steps taken.
      axis_name: the mapped axis under pmap: gradients and metrics are averaged over it.

    Returns:
      A pure function. Its metrics are the loss's own, averaged, and `loss`, `grad_norm` (before clipping), `skipped`
      and `lr`.
    """

    def gradients(state: TrainState, batch: dict[str, jax.Array], key: jax.Array, frozen: Any):
        value_and_grad = jax.value_and_grad(loss, has_aux=True)

        def one(extra: Any, part: dict[str, jax.Array]):
            (value, (metrics, extra)), grads = value_and_grad(state.params, extra, part, key, frozen)
            return extra, (grads, {**metrics, "loss": value})

        if accumulate == 1:
            extra, (grads, metrics) = one(state.extra, batch)
            return extra, grads, metrics
        # Strided micro-batches, so that under a sharded batch each device keeps working on its own rows.
        parts = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, accumulate, *x.shape[1:]), 0, 1), batch)
        shapes = jax.eval_shape(one, state.extra, jax.tree.map(lambda x: x[0], parts))[1]
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def body(carry, part):
            extra, total = carry
            extra, found = one(extra, part)
            return (extra, jax.tree.map(lambda a, b: a + b / accumulate, total, found)), None

        (extra, (grads, metrics)), _ = jax.lax.scan(body, (state.extra, zeros), parts)
        return extra, grads, metrics

    def step(state: TrainState, batch: dict[str, jax.Array], frozen: Any = None) -> tuple[TrainState, Metrics]:
        batch = {**batch, "index": batch_index(batch, axis_name, accumulate)}
        extra, grads, metrics = gradients(state, batch, jax.random.fold_in(state.key, state.step), frozen)
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        mask = None if trainable is None else path_mask(state.params, trainable)
        if mask is not None:
            grads = jax.tree.map(lambda keep, g: g if keep else jnp.zeros_like(g), mask, grads)
        grads, norm = clipped(grads, clip_norm)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        if mask is not None:
            updates = jax.tree.map(lambda keep, u: u if keep else jnp.zeros_like(u), mask, updates)
        params = optax.apply_updates(state.params, updates)
        metrics = {**metrics, "grad_norm": norm}
        return finish(
            state,
            (params, opt_state, extra),
            metrics,
            good=jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm),
            ema_decay=ema_decay,
            skip_nonfinite=skip_nonfinite,
            learning_rate=learning_rate,
        )

    return step


def clipped(grads: Any, limit: float | None) -> tuple[Any, jax.Array]:
    """Gradients scaled down to a global norm, as PyTorch does it, and the norm before."""
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grads)))
    if limit is None:
        return grads, norm
    scale = jnp.minimum(1.0, limit / (norm + 1e-6))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), grads), norm


def finish(
    state: TrainState,
    new: tuple[Any, Any, Any],
    metrics: Metrics,
    *,
    good: jax.Array,
    ema_decay: float | Callable[[jax.Array], jax.Array],
    skip_nonfinite: bool,
    learning_rate: Callable[[Any], Any] | None,
) -> tuple[TrainState, Metrics]:
    """The next state out of new (params, opt_state, extra): averages, and takes all of it back where it is no good.

    Where the average holds only a part of the parameters, such as a GAN's generator, that part is averaged.
    """
    params, opt_state, extra = new
    ema = state.ema
    if ema is not None:
        decay = ema_decay(state.step + 1) if callable(ema_decay) else ema_decay
        followed = {name: params[name] for name in ema} if isinstance(ema, dict) else params
        ema = jax.tree.map(lambda a, p: (p + decay * (a - p)).astype(a.dtype), ema, followed)
    new_parts = (params, opt_state, ema, extra)
    if skip_nonfinite:
        old = (state.params, state.opt_state, state.ema, state.extra)
        new_parts = jax.tree.map(lambda a, b: jnp.where(good, a, b), new_parts, old)
    metrics = {**metrics, "skipped": 1.0 - good}
    if learning_rate is not None:
        metrics["lr"] = jnp.asarray(learning_rate(state.step))
    params, opt_state, ema, extra = new_parts
    return TrainState(state.step + 1, params, opt_state, ema, extra, state.key), metrics


def batch_index(batch: dict[str, jax.Array], axis_name: str | None, accumulate: int = 1) -> jax.Array:
    """Each item's place in the global batch, as int32."""
    rows = jax.tree.leaves(batch)[0].shape[0]
    if rows % accumulate:
        raise ConfigError(
            f"a batch of {rows} (per device) does not split into {accumulate} micro-batches; change accumulate"
        )
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * rows
    return first + jnp.arange(rows, dtype=jnp.int32)
