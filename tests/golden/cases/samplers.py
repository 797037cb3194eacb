"""Golden cases of samplers: trajectories on problems whose best network is known, every evaluation compared.

The original schedulers are called by names and options of their own; what they mean is said here, and nowhere else.
"""

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.samplers import analytic, guidance, sampling as loop, schedules
from jaxaudio.samplers.adams import deis, lms, plms, pndm
from jaxaudio.samplers.editing import start
from jaxaudio.samplers.exponential import dpmpp, dpmpp_single
from jaxaudio.samplers.first_order import ddim, ddpm, lcm
from jaxaudio.samplers.parameterization import preconditioned
from jaxaudio.samplers.plan import Plan
from jaxaudio.samplers.predictor_corrector import unipc
from jaxaudio.samplers.runge_kutta import euler, heun

Arrays = Mapping[str, np.ndarray]
bind = functools.partial

HERE = Path(__file__).parents[1] / "schedulers"
_NAMES = {"epsilon": "epsilon", "v_prediction": "v", "flow": "velocity"}


def _table(config: Mapping) -> np.ndarray:
    betas = {"scaled_linear": schedules.scaled_linear_betas, "linear": schedules.linear_betas}[config["beta_schedule"]]
    table = schedules.signal_power(betas(config["num_train_timesteps"], config["beta_start"], config["beta_end"]))
    return schedules.zero_terminal_snr(table) if config.get("rescale_betas_zero_snr") else table


def _solver(module: str, config: Mapping, options: Mapping) -> tuple[Callable, str, dict[str, Any]]:
    """Our solver; the kind of state that the original keeps; and the arguments of its schedule."""
    spacing, offset = config.get("timestep_spacing", "linspace"), config.get("steps_offset", 0)
    zero = config.get("set_alpha_to_one", True)
    closed = {"spacing": spacing, "offset": offset, "final": "zero" if zero else "min"}
    opened = {"leading": "leading-open", "linspace": "linspace-open"}.get(spacing, spacing)
    ended = "min" if config.get("final_sigmas_type") == "sigma_min" else "zero"
    open_ = {"spacing": opened, "offset": offset, "final": ended}
    scaled = {"spacing": spacing, "offset": offset}
    if config.get("use_karras_sigmas"):
        open_ |= {"spacing": "karras", "whole_times": True}
        scaled |= {"spacing": "karras"}
    order = config.get("solver_order", 2)
    multistep = bind(
        dpmpp,
        order=order,
        about="epsilon" if config.get("algorithm_type") == "dpmsolver" else "x0",
        form=config.get("solver_type"),
        stochastic=str(config.get("algorithm_type")).startswith("sde"),
    )
    return {
        "DDIMScheduler": (bind(ddim, **options), "vp", closed),
        "DDPMScheduler": (bind(ddpm, variance=(config.get("variance_type") or "fixed_small")[6:]), "vp", closed),
        "PNDMScheduler": (plms if config.get("skip_prk_steps") else pndm, "vp", closed),
        "LCMScheduler": (lcm, "vp", closed | {"spacing": "trailing"}),
        "DPMSolverMultistepScheduler": (multistep, "vp", open_),
        "DPMSolverSinglestepScheduler": (dpmpp_single, "vp", open_ | {"spacing": "linspace-open"}),
        "UniPCMultistepScheduler": (bind(unipc, order=order, form=config.get("solver_type")), "vp", open_),
        "DEISMultistepScheduler": (bind(deis, order=order), "vp", open_ | {"final": "min"}),
        "EulerDiscreteScheduler": (euler, "scaled", scaled),
        "EulerAncestralDiscreteScheduler": (bind(ddim, eta=1.0), "scaled", scaled),
        "HeunDiscreteScheduler": (heun, "scaled", scaled),
        "LMSDiscreteScheduler": (lms, "scaled", scaled),
        "EDMEulerScheduler": (euler, "edm", {}),
        "EDMDPMSolverMultistepScheduler": (multistep, "edm", {}),
        "FlowMatchEulerDiscreteScheduler": (bind(euler, straight=True), "flow", {}),
        "FlowMatchHeunDiscreteScheduler": (bind(heun, straight=True), "flow", {}),
        "FlowMatchLCMScheduler": (lcm, "flow", {}),
    }[module]


def _schedule(kind: str, config: Mapping, grid: Mapping, steps: int) -> schedules.Schedule:
    if kind == "edm":
        return schedules.edm(steps, **{name: config[name] for name in ("sigma_min", "sigma_max", "rho")})
    if kind == "flow":
        shift = config["shift"]
        last = 1 / config.get("num_train_timesteps", 1000)
        # The original shifts the lowest level before it spaces the others, and again after.
        return schedules.flow(steps, shift=shift, last=float(schedules.shifted(np.array(last), shift)), scale=1000.0)
    return schedules.vp(_table(config), steps, **grid)


def _problems() -> dict[str, analytic.Problem]:
    with np.load(HERE / "analytic_model.npz") as model:
        return {
            "gauss": analytic.Gaussian(model["MU"], model["SD"]),
            "gmm": analytic.Mixture(model["MU"], model["SD"], model["MU2"], model["W"]),
        }


def _edm_network(problem: analytic.Problem, sigma_data: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The best network behind EDM's preconditioning."""
    best = analytic.predictor(problem, "edm", "epsilon")

    def network(scaled: jax.Array, t: jax.Array) -> jax.Array:
        sigma = jnp.exp(4 * t)
        total = jnp.hypot(sigma, sigma_data)
        return (sigma * scaled - total * best(scaled * total, 4 * t)) / sigma_data

    return network


def scheduler(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """The state at every evaluation, and all that the network is asked and answers; both problems as one batch."""
    config, problems = case["config"], _problems()
    solver, kind, grid = _solver(case["module"], config, case["step_kwargs"] or {})
    prediction, twice = _NAMES[case["prediction"]], "Heun" in case["module"]
    out: dict[str, np.ndarray] = {}
    for steps in sorted({int(match[1]) for name in inputs if (match := re.fullmatch(r"\w+_(\d+)_x", name))}):
        runs = {f"{name}_{steps}": problem for name, problem in problems.items() if f"{name}_{steps}_x" in inputs}
        schedule = _schedule(kind, config, grid, steps)
        plan = solver(schedule)
        if kind == "edm":
            network = _together([_edm_network(problem, config["sigma_data"]) for problem in runs.values()])
            predict, told = preconditioned(network, config["sigma_data"]), plan.t
            shrink = 1 / np.hypot(plan.sigma, config["sigma_data"])
        else:  # rounded times say little: these networks are told the level itself
            made = [analytic.predictor(problem, schedule.family, prediction) for problem in runs.values()]
            network = predict = _together(made)
            told = analytic.told_level(solver)(schedule).t
            shrink = np.ones(plan.evaluations)
        scale = np.append(plan.alpha, 1.0) if kind == "scaled" else np.ones(plan.evaluations + 1)
        first = np.float32(np.concatenate([inputs[f"{run}_x"][0] * scale[0] for run in runs]))
        tape = np.concatenate([_tape(inputs, run, plan) for run in runs], 1) if plan.stochastic else None

        run_all = bind(
            loop.sample,
            predict,
            schedule=schedule,
            solver=bind(_same, plan._replace(t=told)),
            prediction="x0" if kind == "edm" else prediction,
            trajectory="evaluations",
        )
        states = jax.jit(lambda x, tape, run_all=run_all: run_all(x, noise=tape)[1])(first, tape)
        answers = jax.jit(jax.vmap(network))(states[:-1] * np.float32(_column(shrink)), np.float32(told))
        states = np.split(np.asarray(states) / _column(scale), len(runs), 1)
        with np.errstate(divide="ignore"):
            ratio = schedule.sigma if kind == "flow" else schedule.sigma / schedule.alpha
        for run, x, answer in zip(runs, states, np.split(np.asarray(answers), len(runs), 1)):
            out[f"{run}_x"], out[f"{run}_model_out"] = x, answer
            out[f"{run}_timesteps"] = plan.t
            out[f"{run}_level_ab"] = np.stack([plan.alpha, plan.sigma], -1)
            out[f"{run}_sigmas"] = np.append(ratio[:1], np.repeat(ratio[1:], 2)[:-1]) if twice else ratio
    return out


def _same(plan: Plan, schedule: schedules.Schedule) -> Plan:
    return plan


def _together(networks: list[Callable]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Networks side by side, each on its share of the batch."""
    return lambda x, t: jnp.concatenate([net(part, t) for net, part in zip(networks, jnp.split(x, len(networks)))])


def _tape(inputs: Arrays, run: str, plan: Plan) -> np.ndarray:
    """A run's noise, or the longest one's that is stored, as all began alike; none is drawn after some last steps."""
    longest = max((name for name in inputs if name.endswith("_noise")), key=lambda name: len(inputs[name]))
    tape = inputs.get(f"{run}_noise", inputs[longest])[: plan.evaluations]
    return np.concatenate([tape, np.zeros((plan.evaluations - len(tape), *tape.shape[1:]), tape.dtype)])


def _column(x: np.ndarray) -> np.ndarray:
    return x[:, None, None, None, None]


def audioldm_ddim(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """AudioLDM's own DDIM sampler: its grid, guidance, inpainting and style transfer, with its tapes of noise."""
    gauss = _problems()["gauss"]
    table = schedules.signal_power(schedules.scaled_linear_betas())
    x0, mask, shift = inputs["x0"], inputs["mask"], inputs["cond"].reshape(-1, 1, 1, 1)
    start_x = inputs["S10_eta0_gs1.0_x"][0]

    def network(x: jax.Array, t: jax.Array, shift: jax.Array) -> jax.Array:
        return analytic.predictor(gauss._replace(mean=gauss.mean + shift), "vp")(x, t)

    def grid(steps: int) -> schedules.Schedule:
        return schedules.vp(table, steps, spacing="audioldm-original", offset=1, final="min")

    def run(x: Any, schedule: schedules.Schedule, eta: float, scale: float, **more: Any) -> Any:
        predict = guidance.classifier_free(network, shift, np.zeros_like(shift), scale)
        run = bind(loop.sample, predict, solver=analytic.told_level(bind(ddim, eta=eta)), **more)
        return jax.jit(lambda x: run(x, schedule))(x)

    out: dict[str, np.ndarray] = {}
    for name in inputs:
        if match := re.fullmatch(r"(S(\d+)_eta(\d)_gs([\d.]+))_x", name):
            steps, eta, scale = int(match[2]), float(match[3]), float(match[4])
            schedule = grid(steps)
            tape = inputs.get(f"{match[1]}_noise")
            if tape is None and eta:
                continue
            _, states = run(inputs[name][0], schedule, eta, scale, noise=tape, trajectory="steps")
            out[name] = np.asarray(states)[:: steps // (len(inputs[name]) - 1)]
            out[f"{match[1]}_t"] = schedule.t
            power = schedule.alpha**2
            out[f"S{steps}_alphas"], out[f"S{steps}_alphas_prev"] = power[-2::-1], power[:0:-1]
            out[f"S{steps}_sigmas_eta1"] = ddim(schedule, eta=1.0).update[::-1, 0, -1]
        elif match := re.fullmatch(r"inpaint_S(\d+)_out", name):
            tape = inputs[f"inpaint_S{match[1]}_noise"]
            known = loop.Masked(x0, mask, noise=tape[::2], fresh=True, paste=False)
            out[name] = run(start_x, grid(int(match[1])), 1.0, 2.5, noise=tape[1::2], masked=known)
        elif match := re.fullmatch(r"(transfer_S(\d+)_([\d.]+))_out", name):
            x, rest = start(x0, grid(int(match[2])), float(match[3]), noise=inputs["enc_noise"], original=True)
            out[f"{match[1]}_zenc"] = x
            out[name] = run(x, rest, 1.0, 2.5, noise=inputs[f"{match[1]}_noise"])
    return out


CASES = {"sampler": scheduler, "audioldm_original_ddim": audioldm_ddim}  # the first serves a whole system
