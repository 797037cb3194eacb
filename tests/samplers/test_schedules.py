import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import ConfigError
from jaxaudio.samplers import schedules
from jaxaudio.samplers.schedules import SPACINGS, edm, flow, vp
from tests.samplers.exact import TABLE

OURS = [name for name in SPACINGS if name != "audioldm-original"]


@pytest.mark.parametrize("spacing", OURS)
def test_every_number_of_steps_gives_that_many_distinct_times(spacing):
    for steps in range(1, 1001):
        t = vp(TABLE, steps, spacing=spacing, offset=1).t
        assert len(t) == steps
        assert np.all(np.diff(t) < 0)
        assert t[0] <= 999
        assert t[-1] >= 0


@given(
    steps=st.integers(1, 1000), name=st.sampled_from(sorted(schedules.LEVELS)), final=st.sampled_from(["zero", "min"])
)
@settings(max_examples=10, deadline=None)
def test_levels_fall_and_keep_their_family(steps, name, final):
    made = vp(TABLE, steps, spacing=name, final=final)
    np.testing.assert_allclose(made.alpha**2 + made.sigma**2, 1, atol=1e-12)
    assert (made.steps, made.family) == (steps, "vp")
    assert np.all(np.diff(made.sigma) < 0)
    lowest = np.sqrt(1 - TABLE[0])
    np.testing.assert_allclose(made.sigma[-1], 0 if final == "zero" else lowest, atol=1e-12)


def test_published_grids():
    assert list(vp(TABLE, 5, spacing="leading", offset=1).t) == [801, 601, 401, 201, 1]
    assert list(vp(TABLE, 5, spacing="trailing").t) == [999, 799, 599, 399, 199]
    assert list(vp(TABLE, 5).t) == [999, 799, 599, 400, 200]
    assert list(vp(TABLE, 5, spacing="leading-open", offset=1).t) == [831, 665, 499, 333, 167]
    assert list(vp(TABLE, 5, spacing="linspace").t) == [999, 749.25, 499.5, 249.75, 0]
    np.testing.assert_allclose(flow(4, shift=3.0).sigma, [1, 0.9, 0.75, 0.5, 0])
    np.testing.assert_allclose(flow(2, reverse=True).t, [0, 0.5])
    np.testing.assert_allclose(flow(2, levels=[0.8, 0.1], scale=1000).t, [800, 100])


def test_the_original_grid_has_the_originals_defects():
    lengths = {s: len(vp(TABLE, s, spacing="audioldm-original", offset=1).t) for s in (5, 7, 30, 60, 200)}
    assert lengths == {5: 5, 7: 8, 30: 31, 60: 63, 200: 200}
    for steps in (3, 9, 300, 999, 1000):
        with pytest.raises(ConfigError, match="leaves its table"):
            vp(TABLE, steps, spacing="audioldm-original", offset=1)


@pytest.mark.parametrize("steps", [0, -3, 1001, 10_000, 2.5])
def test_impossible_steps(steps):
    with pytest.raises(ConfigError, match="from 1 to 1000"):
        vp(TABLE, steps)


def test_other_errors():
    for make in (lambda: edm(0), lambda: flow(0)):
        with pytest.raises(ConfigError, match="at least 1"):
            make()
    with pytest.raises(ConfigError, match="leading"):
        vp(TABLE, 5, spacing="uniform")
    with pytest.raises(ConfigError, match="sigma_min"):
        edm(5, sigma_min=3.0, sigma_max=2.0)
    for levels in ([0.5, 0.7], [1.2, 0.3], [0.5, 0.0], [0.5]):
        with pytest.raises(ConfigError, match="fall"):
            flow(2, levels=levels)
    with pytest.raises(ConfigError, match="trailing"):
        vp(schedules.zero_terminal_snr(TABLE), 5, spacing="karras")
    with pytest.raises(ConfigError, match="family"):
        flow(2)._replace(alpha=np.array([0.3, 0.4, 0.5]))._replace(sigma=np.array([0.3, 0.4, 0.5])).family  # noqa: B018


def test_tables():
    betas = schedules.linear_betas()
    np.testing.assert_allclose(schedules.signal_power(betas)[[0, 1]], [1 - betas[0], (1 - betas[0]) * (1 - betas[1])])
    cosine = schedules.signal_power(schedules.cosine_betas())
    wanted = np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine[499], wanted, rtol=1e-9)
    zero = schedules.zero_terminal_snr(TABLE)
    assert zero[-1] == 0
    np.testing.assert_allclose(zero[0], TABLE[0])


@pytest.mark.parametrize(
    "made", [vp(TABLE, 10, spacing="linspace"), edm(10), flow(10, scale=1000), flow(10, reverse=True)]
)
def test_times_between_points_agree_with_the_points(made):
    for k in range(made.steps):
        level = made.between(made.coordinate[k])
        # A table's fractional times interpolate sigma / alpha, as published; back, its logarithm is interpolated.
        np.testing.assert_allclose(level.t, made.t[k], rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(level[1:], (made.alpha[k], made.sigma[k]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(made.level(made.steps)[1:], (1, 0))


@pytest.mark.parametrize("made", [vp(TABLE, 10), edm(10), flow(10)], ids=["vp", "edm", "flow"])
def test_parts_are_of_the_same_family(made):
    assert {made.last(steps).family for steps in range(1, 11)} == {made.family}


def test_the_last_part():
    made = flow(10)
    assert made.last(3).steps == 3
    np.testing.assert_array_equal(made.last(3).sigma, made.sigma[-4:])
    assert made.last(0).steps == 0
    assert len(made.last(0).sigma) == 1
