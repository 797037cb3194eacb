"""What diffusion and flow models minimise: pure functions of a closure that predicts.

Latent diffusion (Rombach et al. 2022; Ho et al. 2020) on a table of discrete times, and rectified flow (Liu et al.
2023; FlowSep). `predict(x, t)` is the network with its conditions bound to it, t having one entry per item.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.errors import ConfigError
from jaxaudio.precision import wide
from jaxaudio.samplers.parameterization import parts
from jaxaudio.samplers.schedules import signal_power

Predict = Callable[[Array, Array], Array]
Prediction = Literal["epsilon", "x0", "v"]
Metrics = dict[str, Array]


class Posterior(NamedTuple):
    """The normal distribution of the sample one time earlier.

    Attributes:
      mean: like the samples.
      variance: (batch,); 0 at time 0.
      log_variance: (batch,) its logarithm, with the variance at least 1e-20.
    """

    mean: Array
    variance: Array
    log_variance: Array


def item_streams(key: Array, index: Array, count: int) -> Array:
    """(batch, count) keys that follow from each item's number alone, however a batch is split.

    Args:
      key: of the training step.
      index: (batch,) the items' numbers.
      count: independent draws that an item needs.
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    return jax.vmap(functools.partial(jax.random.split, num=count))(keys)


def item_normal(keys: Array, like: Array) -> Array:
    """Normal noise of the shape of `like` (batch, ...), each item's drawn by its own of the keys (batch,)."""
    return jax.vmap(lambda key: jax.random.normal(key, like.shape[1:], like.dtype))(keys)


def levels(betas: np.ndarray, t: Array, like: Array) -> tuple[Array, Array]:
    """Weights of data and noise at the times t (batch,), shaped to multiply `like` (batch, ...)."""
    power = signal_power(betas)
    return _rows(np.sqrt(power), t, like), _rows(np.sqrt(1 - power), t, like)


def diffuse(betas: np.ndarray, data: Array, noise: Array, t: Array) -> Array:
    """The noised sample x_t at integer times t (batch,)."""
    alpha, sigma = levels(betas, t, data)
    return alpha * data + sigma * noise


def target(prediction: Prediction, betas: np.ndarray, data: Array, noise: Array, t: Array) -> Array:
    """What the network should say at x_t: the noise, the data, or v = alpha * noise - sigma * data."""
    of_data, of_noise = parts(prediction, *levels(betas, t, data))
    return of_data * data + of_noise * noise


def posterior_variances(betas: np.ndarray) -> np.ndarray:
    """(times,) variances of the sample one time earlier, given x_t and the data (Ho et al. 2020, eq. 7)."""
    power = signal_power(betas)
    before = np.append(1.0, power[:-1])
    return betas * (1 - before) / (1 - power)


def posterior(betas: np.ndarray, data: Array, x: Array, t: Array) -> Posterior:
    """Where the sample one time earlier lies, given x = x_t (batch, ...) and the data (Ho et al. 2020, eqs. 6, 7)."""
    power = signal_power(betas)
    before = np.append(1.0, power[:-1])
    variance = posterior_variances(betas)
    of_data = np.sqrt(before) * betas / (1 - power)
    of_x = np.sqrt(1 - betas) * (1 - before) / (1 - power)
    logs = np.log(np.maximum(variance, 1e-20))
    mean = _rows(of_data, t, x) * data + _rows(of_x, t, x) * x
    return Posterior(mean, jnp.asarray(variance, x.dtype)[t], jnp.asarray(logs, x.dtype)[t])


def bound_weights(betas: np.ndarray, prediction: Prediction) -> np.ndarray:
    """(times,) factors that turn squared errors into terms of the variational bound, as latent diffusion has them.

    The first, which is not finite, repeats the second. For "x0" the published denominator is 2 - alpha^2, where the
    bound has 2 (1 - alpha^2); for "v" it is constant.
    """
    power = signal_power(betas)
    match prediction:
        case "epsilon":
            with np.errstate(divide="ignore"):
                weights = betas**2 / (2 * posterior_variances(betas) * (1 - betas) * (1 - power))
        case "x0":
            weights = 0.5 * np.sqrt(power) / (2 - power)
        case "v":
            weights = np.ones_like(power)
        case _:
            raise ConfigError(f"No training target {prediction!r}; there are epsilon, x0 and v.")
    weights[0] = weights[1]
    return weights


def diffusion_loss(
    predict: Predict,
    data: Array,
    noise: Array,
    t: Array,
    betas: np.ndarray,
    *,
    prediction: Prediction = "epsilon",
    norm: Literal["l2", "l1"] = "l2",
    log_variance: np.ndarray | Array | None = None,
    simple_weight: float = 1.0,
    bound_weight: float = 0.0,
) -> tuple[Array, Metrics]:
    """The denoising loss of latent diffusion, of which AudioLDM uses the defaults.

    Args:
      predict: the network.
      data: clean latents (batch, ...), scaled to about unit variance.
      noise: normal noise like data.
      t: (batch,) int32 times, 0 to len(betas) - 1.
      betas: (times,) as `schedules.scaled_linear_betas()`, AudioLDM's.
      prediction: what the network predicts.
      norm: "l2", the squared error, or "l1", the absolute one.
      log_variance: (times,) log variance that the error at each time is divided by, and that is added; 0 by default.
      simple_weight: of that.
      bound_weight: of the terms of the variational bound.

    Returns:
      (loss, metrics): the mean over the batch; "loss_simple", the plain mean error, and "loss_vlb", the bound's part.
    """
    error = predict(diffuse(betas, data, noise, t), t) - target(prediction, betas, data, noise, t)
    each = _item_means(jnp.square(error) if norm == "l2" else jnp.abs(error))
    bound = jnp.mean(jnp.asarray(bound_weights(betas, prediction), each.dtype)[t] * each)
    simple = each
    if log_variance is not None:
        spread = jnp.asarray(log_variance, each.dtype)[t]
        simple = each / jnp.exp(spread) + spread
    loss = simple_weight * jnp.mean(simple) + bound_weight * bound
    return loss, {"loss_simple": jnp.mean(each), "loss_vlb": bound}


def flow_point(data: Array, noise: Array, t: Array, smallest: float = 1e-4) -> tuple[Array, Array]:
    """The point of the straight path from noise at t = 0 to data at t = 1, and its velocity.

    Args:
      data: (batch, ...).
      noise: like data.
      t: (batch,) in [0, 1].
      smallest: how much noise remains at t = 1.
    """
    keep = 1 - smallest
    t = t.reshape(-1, *[1] * (data.ndim - 1)).astype(data.dtype)
    return (1 - keep * t) * noise + t * data, data - keep * noise


def flow_loss(
    predict: Predict, data: Array, noise: Array, t: Array, *, smallest: float = 1e-4
) -> tuple[Array, Metrics]:
    """The rectified-flow loss of FlowSep: the mean squared error of the velocity on `flow_point`.

    Args:
      predict: the network; its t is that of `flow_point`, unscaled, growing towards the data.
      data: clean latents (batch, ...).
      noise: normal noise like data.
      t: (batch,) in [0, 1], drawn uniformly as published.
      smallest: how much noise remains at t = 1.

    Returns:
      (loss, {"loss_simple": the same}).
    """
    x, velocity = flow_point(data, noise, t, smallest)
    loss = jnp.mean(_item_means(jnp.square(predict(x, t) - velocity)))
    return loss, {"loss_simple": loss}


def _rows(table: np.ndarray, t: Array, like: Array) -> Array:
    """The table's entries at t (batch,), shaped to multiply `like`."""
    return jnp.asarray(table, like.dtype)[t].reshape(-1, *[1] * (like.ndim - 1))


def _item_means(x: Any) -> Array:
    """(batch, ...) -> (batch,), in at least float32."""
    return jnp.mean(wide(x), axis=tuple(range(1, x.ndim)))
