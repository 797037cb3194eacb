"""The U-Nets' and T5's golden cases: all are kept; the large ones are run by hand, the others in test_cases.py."""

from pathlib import Path

from tests import parity
from tests.golden.cases.unet import BY_HAND, CASES

HERE = Path(__file__).parent


def test_every_case_is_kept_and_has_its_runner():
    for name in CASES:
        assert {"case.json", "keys.json", "io_dev.npz"} <= {path.name for path in (HERE / name).iterdir()}
        assert parity.runner(name) is CASES[name]


def test_only_what_is_too_large_is_left_out():
    assert CASES.keys() > BY_HAND
    assert CASES.keys() - BY_HAND == {
        "audioldm_s_unet_original",
        "audioldm_train_loss",
        "t5_small_random",
    }
