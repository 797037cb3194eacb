"""The one loop that runs every solver."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.samplers.parameterization import coefficients
from jaxaudio.samplers.plan import Plan
from jaxaudio.samplers.schedules import Schedule
from jaxaudio.samplers.solvers import plan_of

Array = jax.Array
Predict = Callable[..., Array]

_START, _EDIT = 0, 1 << 20  # streams of an item's key: its first noise, then one per evaluation, then those of masks


class Masked(NamedTuple):
    """What of the result is known (inpainting, super-resolution, continuation).

    Before each evaluation the known part is set to `known`, noised to that level; after the last it is pasted in.

    Attributes:
      known: data, broadcastable to x.
      mask: 1 where it is known, 0 where it is to be made, broadcastable to x; values between blend.
      noise: (N, *x.shape), noise for each of the N evaluations, in place of the key's.
      fresh: new noise at each evaluation, as in the original AudioLDM; else one noise throughout, so that deterministic
        solvers still follow an ODE.
      paste: whether the known part is exact in the result. The original AudioLDM leaves what the last step makes of it.
    """

    known: Array
    mask: Array
    noise: Array | None = None
    fresh: bool = False
    paste: bool = True


def item_noise(
    key: Array, shape: tuple[int, ...], *, items: Array | None = None, stream: int | Array = _START, dtype: Any = None
) -> Array:
    """Unit normal noise of which each item has its own: item i's does not depend on how many others there are.

    Args:
      key: of the whole run.
      shape: (items, ...).
      items: (items,) numbers that tell items apart, 0, 1, 2 ... by default; give them where the batch is part of a
        larger one.
      stream: which of the item's noises; 0 starts a trajectory.
      dtype: float32 by default.
    """

    def draw(item: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, item), stream), shape[1:], dtype)

    return jax.vmap(draw)(jnp.arange(shape[0]) if items is None else items)


def sample(
    predict: Predict,
    x: Array,
    schedule: Schedule,
    key: Array | None = None,
    *,
    solver: str | Callable[[Schedule], Plan] = "dpmpp-2m",
    prediction: str = "epsilon",
    noise: Array | None = None,
    items: Array | None = None,
    masked: Masked | None = None,
    trajectory: Literal["steps", "evaluations"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Takes x from the start of a schedule to its end.

    A pure function to be jitted with the schedule and everything after `key` closed over, except for arrays.

    Args:
      predict: (x, t) -> the network's output, of x's shape; guidance and conditions are bound to it. t is a scalar, an
        int32 or of the state's dtype as the schedule says. A shortcut model's takes (x, t, step).
      x: (batch, ...) alpha * data + sigma * noise at the schedule's first level; pure noise where alpha is next to 0.
      schedule: from `schedules`, made of concrete numbers.
      key: for solvers and masks that draw noise; each item's is derived by its number.
      solver: a name of `SOLVERS`, or a function from schedule to plan, as `functools.partial(ddim, eta=0.5)`.
      prediction: what the network predicts, a name of `parameterization.QUANTITIES`.
      noise: (N, batch, ...) noise for each of N evaluations, in place of the key's.
      items: (batch,) numbers of the items, where the batch is part of a larger one.
      masked: the part of the result that is known.
      trajectory: "steps" to return the S + 1 states at the grid's points as well, "evaluations" for the N + 1 points at
        which the network was or would be evaluated.
      progress: called on the host with evaluations done and in all, during the run; calls may come late.

    Returns:
      The result, (batch, ...) in float32 (float64 if x is); or (result, states) with a leading axis if asked for.

    Raises:
      ConfigError: an unknown name; a solver that is not defined on the schedule, or not with this prediction.
      UsageError: noise is needed and there is neither key nor tape.
    """
    plan = plan_of(solver, schedule)
    total = plan.evaluations
    dtype = jnp.promote_types(jnp.result_type(x), jnp.float32)  # states stay float32 around bfloat16 networks
    x = jnp.asarray(x, dtype)
    from_x, from_output = (np.broadcast_to(c, total) for c in _finite(plan, prediction))
    tapes = {"noise": noise if plan.stochastic else None, "held": masked.noise if masked else None}
    if key is None and ((plan.stochastic and noise is None) or (masked and masked.noise is None)):
        raise UsageError("This sampler draws noise: give it a key, jax.random.key(seed).")
    source = jax.random.key(0) if key is None else key  # never drawn from without a key
    weights = {"update": plan.update, "from_x": from_x, "from_output": from_output, "step": plan.step}
    rows = {"alpha": plan.alpha, "sigma": plan.sigma, **weights, **tapes}
    rows = {name: jnp.asarray(row, dtype) for name, row in rows.items() if row is not None}
    rows |= {"k": jnp.arange(total), "t": jnp.asarray(plan.t, None if plan.t.dtype.kind == "i" else dtype)}

    def draw(stream: Any) -> Array:
        return item_noise(source, x.shape, items=items, stream=stream, dtype=dtype)

    def evaluate(slots: tuple[Array, ...], row: dict[str, Array]) -> tuple[tuple[Array, ...], Array | None]:
        x, *others = slots
        if masked:
            held = row["held"] if "held" in row else draw(_EDIT + row["k"] if masked.fresh else _EDIT)
            x = _keep(masked, row["alpha"] * masked.known + row["sigma"] * held, x)
        output = predict(x, row["t"], *((row["step"],) if "step" in row else ())).astype(dtype)
        output = _weigh([row["from_x"], row["from_output"]], [np.any(from_x), True], [x, output])
        values = [x, *others, output]
        if plan.stochastic:
            values.append(row["noise"] if "noise" in row else draw(1 + row["k"]))
        slots = tuple(_weigh(row["update"][i], used, values) for i, used in enumerate(_used(plan)))
        if progress is not None:
            jax.debug.callback(lambda done: progress(int(done), total), row["k"] + 1)
        return slots, slots[0] if trajectory else None

    slots = (x, *(jnp.zeros_like(x) for _ in range(plan.update.shape[1] - 1)))
    states = None
    if total:
        slots, states = jax.lax.scan(evaluate, slots, rows)
    result = slots[0]
    if masked and masked.paste:
        result = _keep(masked, masked.known, result)
    if not trajectory:
        return result
    states = x[None] if states is None else jnp.concatenate([x[None], states])
    return result, states[np.append(True, plan.ends)] if trajectory == "steps" else states


def _finite(plan: Plan, prediction: str) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        made = coefficients(prediction, plan.quantity, plan.alpha, plan.sigma)
    if not all(np.all(np.isfinite(c)) for c in made):
        raise ConfigError(
            f"From {prediction!r} no {plan.quantity!r} follows at a level of pure noise or pure data: take a schedule "
            "without one, or a network that predicts v or velocity."
        )
    return made


def _keep(masked: Masked, known: Array, x: Array) -> Array:
    mask = jnp.asarray(masked.mask, x.dtype)
    return (mask * known + (1 - mask) * x).astype(x.dtype)


def _used(plan: Plan) -> np.ndarray:
    """(K, K + 2) which weights are ever needed: the compiled loop has no others."""
    return np.any(plan.update != 0, axis=0)


def _weigh(weights: Any, used: Any, values: list[Array]) -> Array:
    """Weighted sum without a matrix product, which would round on accelerators."""
    terms = [weights[j] * value for j, value in enumerate(values) if used[j]]
    return sum(terms[1:], terms[0]) if terms else jnp.zeros_like(values[0])
