"""What a published checkpoint of a codec is, told by the names and shapes in it."""

import re
from typing import Any

from jaxaudio.convert.rules import State, numbered
from jaxaudio.errors import CheckpointError


def find_config(system: str, state: State) -> Any:
    """The configuration of a state dict of dac, sdcodec or taae.

    Raises:
      CheckpointError: of DAC and SD-Codec, none of the published ones; of TAAE, sizes that cannot be its.
    """
    return {"dac": _dac, "sdcodec": _sdcodec, "taae": _taae}[system](state)


def _dac(state: State) -> Any:
    from jaxaudio.systems import dac

    published = (dac.DAC_44KHZ_8KBPS, dac.DAC_44KHZ_16KBPS, dac.DAC_24KHZ_8KBPS, dac.DAC_16KHZ_8KBPS)
    found = _strides(state), numbered(state, r"quantizer\.quantizers\.(\d+)\.")
    known = {(c.waves.rates, c.levels): c for c in published}
    if found not in known:
        raise CheckpointError(f"this DAC has strides {found[0]} and {found[1]} levels, unlike those published.")
    return known[found]


def _sdcodec(state: State) -> Any:
    from jaxaudio.systems import sdcodec

    own = {match[1] for key in state if (match := re.match(r"quantizer\.rvq_dict\.(\w+)\.", key))}
    shared = numbered(state, r"quantizer\.shared_rvq\.quantizers\.(\d+)\.")
    levels = shared + numbered(state, r"quantizer\.rvq_dict\.\w+\.quantizers\.(\d+)\.")
    base = sdcodec.SDCODEC_16KHZ
    waves: Any = base.waves  # of waveforms, as published
    if (_strides(state), own, levels) != (waves.rates, {*base.tracks}, base.levels):
        raise CheckpointError(
            f"this SD-Codec has strides {_strides(state)}, {levels} levels and the tracks {', '.join(sorted(own))}, "
            "unlike those published."
        )
    return sdcodec.Config(shared=shared)


def _taae(state: State) -> Any:
    import dataclasses

    from jaxaudio.systems import taae

    blocks = numbered(state, r"encoder\.layers\.(\d+)\.layers\.2\.") - 1  # the first layer is a convolution
    depths = tuple(numbered(state, rf"encoder\.layers\.{i + 1}\.layers\.2\.(\d+)\.") - 1 for i in range(blocks))
    if depths != taae.STABLE_CODEC.depths:
        raise CheckpointError(f"this TAAE has depths {depths}, not {taae.STABLE_CODEC.depths} as Stable Codec has.")
    heads = [x.shape[0] for key, x in state.items() if re.search(r"proj_head\.5\.bias$", key)]
    return dataclasses.replace(
        taae.STABLE_CODEC, snake=any(key.endswith(".alpha") for key in state), phonemes=heads[0] if heads else 0
    )


def _strides(state: State) -> tuple[int, ...]:
    """Of an encoder whose strided kernels are twice as long as their stride."""
    found = {}
    for key, x in state.items():
        if match := re.match(r"encoder\.block\.(\d+)\.block\.4\.(?:weight_v|parametrizations\.weight\.original1)", key):
            found[int(match[1])] = x.shape[-1] // 2
    return tuple(found[i] for i in sorted(found))
