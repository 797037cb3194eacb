"""One device equals eight (pmap and mesh) equals two processes of two."""

import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def launch(out, jobs, devices, **environment):
    flags = (
        f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"  # the suite's own, see conftest
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **environment}
    command = [sys.executable, "-m", "tests.multi_device.worker", str(out), *jobs]
    return subprocess.Popen(
        command, env=variables, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def collect(out, children):
    for child in children:
        said, _ = child.communicate(timeout=900)
        assert child.returncode == 0, said[-3000:]
    found = dict(np.load(out))
    return int(found.pop("devices")), found


SINGLE = ["mesh", "mesh accumulate", "inference", "loop", "separator", "codec", "sampling", "generate", "benchmark"]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    out = tmp_path_factory.mktemp("single") / "found.npz"
    devices, found = collect(out, [launch(out, SINGLE, 1)])
    assert devices == 1
    return found


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    out = tmp_path_factory.mktemp("eight") / "found.npz"
    jobs = [*SINGLE, "pmap", "pmap accumulate", "separator pmap", "codec pmap", "sampling pmap"]
    devices, found = collect(out, [launch(out, jobs, 8)])
    assert devices == 8
    return found


def assert_same(found, name, single, reference):
    ours = {key.removeprefix(f"{name}/"): value for key, value in found.items() if key.startswith(f"{name}/")}
    theirs = {
        key.removeprefix(f"{reference}/"): value for key, value in single.items() if key.startswith(f"{reference}/")
    }
    assert ours.keys() == theirs.keys() and ours
    for key, value in theirs.items():
        # Sums in another order; Adam divides small numbers by small numbers, hence not 1e-7.
        np.testing.assert_allclose(ours[key], value, rtol=2e-4, atol=2e-5, err_msg=f"{name}{key}")


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mesh", "mesh"),
        ("pmap", "mesh"),
        ("mesh accumulate", "mesh accumulate"),
        ("pmap accumulate", "mesh accumulate"),
        ("inference", "inference"),
        ("loop", "loop"),
        ("separator", "separator"),
        ("separator pmap", "separator"),
        ("codec", "codec"),
        ("codec pmap", "codec"),
        ("benchmark", "benchmark"),
        ("sampling", "sampling"),
        ("sampling pmap", "sampling"),
        ("generate", "generate"),
    ],
)
def test_eight_devices_equal_one(single, eight, name, reference):
    assert_same(eight, name, single, reference)


@pytest.mark.parametrize("mode", ["mesh", "pmap"])
def test_two_processes_equal_one(single, tmp_path, mode):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    join = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    out = tmp_path / "found.npz"
    jobs = {"mesh": ["mesh", "loop", "separator"], "pmap": ["pmap", "loop pmap", "separator pmap"]}[mode]
    children = [launch(out, jobs, 2, JAX_PROCESS_ID=str(index), **join) for index in range(2)]
    devices, found = collect(out, children)
    assert devices == 4
    single = {key: value for key, value in single.items() if not key.endswith("separated")}
    for name, reference in zip(jobs, ("mesh", "loop", "separator")):
        assert_same(found, name, single, reference)
