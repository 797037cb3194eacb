"""The stages of a latent model on sounds of any length and number, in bounded memory, on every local device.

Sounds longer than the model's window are encoded and decoded in overlapping windows of that one size; so memory does
not grow with the length, and few shapes are compiled.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.errors import UsageError
from jaxaudio.nn import latent_audio, latent_model
from jaxaudio.samplers import windows

Stage = Callable[[Any, dict[str, Any], dict[str, Any]], jax.Array]
"""(parameters, what all rows share, {name: rows}) -> rows."""

STRIDE = 1 << 16
"""Candidate k of item i draws by the number i + k * STRIDE, so that neither depends on how many there are."""

_MOST_ROWS = 8  # in one call, on an accelerator; a CPU gains nothing from more than one
_LARGEST = 100.0  # beyond it a latent is none: the original cuts it to a tenth then


@dataclasses.dataclass(frozen=True, eq=False)
class Stages:
    """Encoder, sampler and decoder of one model.

    Attributes:
      config: of an `nn.latent_model`.
      params: {"unet", "vae", "vocoder", "scale"}.
    """

    config: Any
    params: Any

    @functools.cached_property
    def devices(self) -> tuple[jax.Device, ...]:
        """Rows are spread over these."""
        return tuple(jax.local_devices())

    @functools.cached_property
    def placed(self) -> Any:
        """The parameters, on every device."""
        if len(self.devices) == 1:
            return jax.device_put(self.params, self.devices[0])
        from jaxaudio.train.parallel import data_mesh, replicate

        return replicate(self.params, data_mesh(self.devices))

    def positions(self, samples: int) -> int:
        """Positions of the latent that are computed for so many samples: whole quarters of a window, for few shapes."""
        size, _ = latent_model.windows(self.config)
        halvings = 1 << (len(self.config.unet.channels) - 1)
        step = max(size // 4 // halvings, 1) * halvings
        return -(-self.config.audio.positions(samples) // step) * step

    def windows(self, positions: int) -> int:
        """How many windows there are."""
        size, overlap = latent_model.windows(self.config)
        return 1 if positions <= size else len(windows.starts(positions, size, overlap))

    def calls(self, rows: int, batch: int | None) -> int:
        """How many calls so many rows take."""
        return -(-rows // self._rows(rows, batch))

    def _rows(self, rows: int, batch: int | None) -> int:
        """Rows of one call."""
        each = -(-rows // len(self.devices))
        if batch is None:
            batch = 1 if self.devices[0].platform == "cpu" else min(_MOST_ROWS, 1 << (each - 1).bit_length())
        return batch * len(self.devices)

    def call(
        self, stage: Stage, shared: dict[str, Any], rows: dict[str, Any], *, batch: int | None, tick: Callable[[], None]
    ) -> np.ndarray:
        """Runs a stage over rows, some at a time.

        Args:
          stage: the same object whenever it is the same function, so that it is compiled once.
          shared: arrays that all rows share.
          rows: trees of arrays with the rows leading.
          batch: rows of one call on each device; None for a number that suits the device.
          tick: called after each call.
        """
        run = _compiled(stage, self.devices)
        total = jax.tree.leaves(rows)[0].shape[0]
        size, made = self._rows(total, batch), []
        for first in range(0, total, size):
            part = jax.tree.map(lambda x: _filled_up(np.asarray(x[first : first + size]), size), rows)  # noqa: B023
            made.append(np.asarray(run(self.placed, shared, part))[: total - first])
            tick()
        return np.concatenate(made)

    def encode(
        self, waves: np.ndarray, *, batch: int | None, tick: Callable[[], None], seed: int | None = None
    ) -> np.ndarray:
        """Latents (rows, positions, frequencies, channels) of levelled waveforms (rows, time); see `positions`.

        Args:
          waves: at the model's rate; they are filled up with silence.
          batch: as of `call`.
          tick: as of `call`.
          seed: draws from the posterior; None takes its mean.
        """
        audio, positions = self.config.audio, self.positions(waves.shape[1])
        size = self._size(positions)
        waves = np.pad(waves, ((0, 0), (0, positions * audio.hop - waves.shape[1])))

        def run(begin: int) -> np.ndarray:
            part = waves[:, begin * audio.hop : (begin + size) * audio.hop]
            shared = {"seed": np.uint32(seed or 0), "begin": np.int32(begin)}
            rows = {"wave": part, "items": np.zeros(len(part), np.int32)}
            return self.call(_encoder(audio, seed is not None), shared, rows, batch=batch, tick=tick)

        return self._blended(run, positions)

    def decode(self, z: np.ndarray, *, batch: int | None, tick: Callable[[], None]) -> np.ndarray:
        """Waveforms (rows, time) of latents; `batch` and `tick` as of `call`."""
        audio, positions = self.config.audio, z.shape[1]
        size = self._size(positions)

        def run(begin: int) -> np.ndarray:
            return self.call(_decoder(audio), {}, {"z": z[:, begin : begin + size]}, batch=batch, tick=tick)

        mel = self._blended(run, positions, audio.vae.factor)
        frames, hop = size * audio.vae.factor, audio.vocoder.hop
        _, overlap = latent_model.windows(self.config)
        begins = [0] if positions <= size else windows.starts(positions, size, overlap) * audio.vae.factor
        out = np.empty((len(z), mel.shape[1] * hop), np.float32)
        kept = 0
        # A vocoder hears a fraction of the overlap: cut in its middle, the windows are what one pass would be.
        for begin, after in zip(begins, [*begins[1:], None]):
            part, shared = {"mel": mel[:, begin : begin + frames]}, {"first": np.int32(begin)}
            wave = self.call(_vocoder(audio), shared, part, batch=batch, tick=tick)
            until = mel.shape[1] if after is None else (begin + frames + after) // 2
            out[:, kept * hop : until * hop] = wave[:, (kept - begin) * hop : (until - begin) * hop]
            kept = until
        return out

    def _size(self, positions: int) -> int:
        return min(positions, latent_model.windows(self.config)[0])

    def _blended(self, run: Callable[[int], np.ndarray], positions: int, ratio: int = 1) -> np.ndarray:
        """Windows `run(begin)` of `ratio` outputs for each position, which fade into each other where they overlap."""
        size, overlap = latent_model.windows(self.config)
        if positions <= size:
            return run(0)
        full = size * ratio
        ramp = np.minimum(np.arange(1, full + 1), np.arange(full, 0, -1)) / (overlap * ratio + 1)
        fade = np.clip(ramp, 0, 1).astype(np.float32)
        summed, total = None, np.zeros(positions * ratio, np.float32)
        for begin in windows.starts(positions, size, overlap):
            part = run(int(begin))
            shape = (-1, *[1] * (part.ndim - 2))
            if summed is None:
                summed = np.zeros((len(part), positions * ratio, *part.shape[2:]), np.float32)
            here = slice(begin * ratio, begin * ratio + full)
            summed[:, here] += part * fade.reshape(shape)
            total[here] += fade
        assert summed is not None
        return summed / total.reshape(shape)


def bounded(z: jax.Array) -> jax.Array:
    """Latents (rows, ...) as they are, except that rows which left all bounds are cut, as the original does it."""
    largest = jnp.max(jnp.abs(z), axis=(1, 2, 3), keepdims=True)
    return jnp.where(largest > _LARGEST, jnp.clip(z, -_LARGEST / 10, _LARGEST / 10), z)


def finite(z: np.ndarray) -> np.ndarray:
    """The latents; UsageError where sampling left all numbers behind."""
    if not np.isfinite(z).all():
        raise UsageError("the sampler left all bounds; lower the guidance, take more steps or another solver.")
    return z


@functools.cache
def _compiled(stage: Stage, devices: tuple[jax.Device, ...]) -> Any:
    if len(devices) == 1:
        return jax.jit(stage)
    from jax.sharding import PartitionSpec

    from jaxaudio.train.parallel import AXIS, data_mesh

    # Each device runs the program of a single one on its rows, so that there is nothing to differ in.
    rows, same = PartitionSpec(AXIS), PartitionSpec()
    mesh = data_mesh(devices)
    return jax.jit(jax.shard_map(stage, mesh=mesh, in_specs=(same, same, rows), out_specs=rows, check_vma=False))


@functools.cache
def _encoder(config: latent_audio.Config, drawn: bool) -> Stage:
    def run(params: Any, shared: dict[str, Any], rows: dict[str, Any]) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(shared["seed"]), shared["begin"]) if drawn else None
        return latent_audio.encode(params, config, rows["wave"], key, items=rows["items"])

    return run


@functools.cache
def _decoder(config: latent_audio.Config) -> Stage:
    return lambda params, shared, rows: latent_audio.decode_mel(params, config, rows["z"])


@functools.cache
def _vocoder(config: latent_audio.Config) -> Stage:
    return lambda params, shared, rows: latent_audio.vocode(params, config, rows["mel"], shared["first"])


def _filled_up(x: np.ndarray, rows: int) -> np.ndarray:
    return x if len(x) == rows else np.concatenate([x, np.repeat(x[-1:], rows - len(x), axis=0)])
