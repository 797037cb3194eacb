"""Samplers: schedules, solvers and one loop, without parameters.

    schedule = usual_schedule("dpmpp-2m", 25)
    x = item_noise(key, shape)
    x = sample(predict, x, schedule, solver="dpmpp-2m")

`predict(x, t)` is a network with its conditions and its guidance bound to it.
"""

from jaxaudio.samplers.adams import deis, lms, plms, pndm
from jaxaudio.samplers.editing import start
from jaxaudio.samplers.exponential import dpmpp, dpmpp_single
from jaxaudio.samplers.first_order import ddim, ddpm, lcm
from jaxaudio.samplers.guidance import classifier_free, dropped
from jaxaudio.samplers.parameterization import QUANTITIES, convert
from jaxaudio.samplers.plan import Plan
from jaxaudio.samplers.predictor_corrector import unipc
from jaxaudio.samplers.runge_kutta import dpm2, edm_heun, euler, heun, midpoint, rk4, shortcut
from jaxaudio.samplers.sampling import Masked, item_noise, sample
from jaxaudio.samplers.schedules import (
    LEVELS,
    SPACINGS,
    Schedule,
    cosine_betas,
    edm,
    flow,
    linear_betas,
    scaled_linear_betas,
    signal_power,
    vp,
    zero_terminal_snr,
)
from jaxaudio.samplers.solvers import SOLVERS, Solver, evaluations, plan_of, steps_within, usual_schedule

__all__ = [
    "LEVELS",
    "QUANTITIES",
    "SOLVERS",
    "SPACINGS",
    "Masked",
    "Plan",
    "Schedule",
    "Solver",
    "classifier_free",
    "convert",
    "cosine_betas",
    "ddim",
    "ddpm",
    "deis",
    "dpm2",
    "dpmpp",
    "dpmpp_single",
    "dropped",
    "edm",
    "edm_heun",
    "euler",
    "evaluations",
    "flow",
    "heun",
    "item_noise",
    "lcm",
    "linear_betas",
    "lms",
    "midpoint",
    "plan_of",
    "plms",
    "pndm",
    "rk4",
    "sample",
    "scaled_linear_betas",
    "shortcut",
    "signal_power",
    "start",
    "steps_within",
    "unipc",
    "usual_schedule",
    "vp",
    "zero_terminal_snr",
]
