"""Where work runs: the same calls give the same results, in order; what is missing is said."""

from __future__ import annotations

import operator
import os
import subprocess
import sys

import pytest

from framework.errors import ConfigError
from framework.parallel import run_all

IN_PROCESSES = """
import operator
from framework.parallel import run_all
print(list(run_all([(operator.mul, (number, number)) for number in range(6)], backend="loky", address=None, workers=2)))
"""


def test_processes_return_results_in_order() -> None:
    done = subprocess.run([sys.executable, "-c", IN_PROCESSES], capture_output=True, text=True, env=os.environ, timeout=60)

    assert (done.stdout, done.stderr) == ("[0, 1, 4, 9, 16, 25]\n", "")


def test_processes_of_this_machine_have_no_address() -> None:
    with pytest.raises(ConfigError, match="--address: found an address for loky; allowed with --backend dask or ray"):
        list(run_all([(operator.neg, (1,))], backend="loky", address="tcp://elsewhere:1", workers=2))


@pytest.mark.parametrize(
    ("backend", "library", "way_out"), [("dask", "distributed", "tidebook\\[dask\\]"), ("ray", "ray", "pip install ray")]
)
def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, backend: str, library: str, way_out: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(ConfigError, match=way_out):
        list(run_all([(operator.neg, (1,))], backend=backend, address=None, workers=1))
