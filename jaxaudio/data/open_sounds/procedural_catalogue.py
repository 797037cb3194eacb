"""Every procedural generator under the name that the concept map uses."""

from collections.abc import Callable, Mapping

import numpy as np

from jaxaudio.data.open_sounds import (
    procedural as nature,
    procedural_machines as machines,
    procedural_signals as signals,
)

Generator = Callable[[np.random.Generator, float], np.ndarray]

GENERATORS: Mapping[str, Generator] = {
    make.__name__: make
    for make in (
        nature.rain,
        nature.wind,
        nature.thunder,
        nature.surf,
        nature.stream,
        nature.bubbles,
        nature.dripping,
        nature.waterfall,
        nature.fire,
        nature.crickets,
        nature.cicadas,
        nature.buzzing_insect,
        nature.mosquito,
        nature.frogs,
        nature.owl,
        nature.white_noise,
        nature.pink_noise,
        nature.brown_noise,
        nature.static,
        signals.sine_tone,
        signals.buzz_tone,
        signals.sweep,
        signals.mains_hum,
        signals.dtmf,
        signals.dial_tone,
        signals.telephone,
        signals.beeping,
        signals.siren,
        signals.reversing_beeper,
        signals.morse,
        signals.sonar,
        signals.laser,
        signals.game_blips,
        signals.geiger,
        signals.horn,
        signals.foghorn,
        signals.church_bell,
        signals.hand_bell,
        signals.wind_chimes,
        signals.gong,
        machines.clock,
        machines.heartbeat,
        machines.engine,
        machines.propeller,
        machines.helicopter,
        machines.vacuum_cleaner,
        machines.drill,
        machines.sawing,
        machines.typing,
        machines.footsteps,
        machines.knocking,
        machines.hammering,
        machines.steam,
        machines.chuffing,
        machines.kettle,
        machines.whistling,
        machines.bouncing_ball,
        machines.clapping,
        machines.gunfire,
        machines.explosion,
        machines.snoring,
        machines.ratchet,
        machines.camera_wind,
    )
}
"""Name -> generator `(rng, seconds) -> (time,) float32 at procedural.RATE`."""
