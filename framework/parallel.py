"""Where independent pieces of work run: here, in processes, or on a cluster, by joblib, with the same code.

`loky` is processes of this machine, `dask` and `ray` a cluster whose scheduler has an address (none: one that is made here). The
optional libraries are imported here and nowhere else.
"""

from __future__ import annotations

import logging
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import joblib

from framework.errors import ConfigError
from framework.parent_death import die_with_parent


def run_all(
    calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], *, backend: str, address: str | None, workers: int
) -> Iterator[Any]:
    """Call each function with its arguments and yield the results in order, as they come; raises what a call raises.

    Arguments and results travel by pickle, so the workers need the same packages but no disk in common. Raises `ConfigError` for a
    library that is not there or an address that nobody answers at.
    """
    with _ENTRIES[backend](address, workers) as count:
        # Processes of this machine end with us; those of a cluster are not ours.
        bind = _dying_with_parent if backend == "loky" else _as_it_is
        tasks = (joblib.delayed(bind)(function, arguments) for function, arguments in calls)
        # Ray's backend cannot give results as they come.
        how = "list" if backend == "ray" else "generator"
        yield from joblib.Parallel(n_jobs=count, batch_size=1, pre_dispatch="all", return_as=how)(tasks)


def _as_it_is(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


def _dying_with_parent(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    die_with_parent()
    if multiprocessing.current_process().name != "MainProcess" and logging.lastResort is not None:
        logging.lastResort.setLevel(logging.ERROR)  # nobody set up a log there; what is a fault is in the result
    return function(*arguments)


@contextmanager
def _loky(address: str | None, workers: int) -> Iterator[int]:
    if address is not None:
        raise ConfigError("--address: found an address for loky; allowed with --backend dask or ray")
    with warnings.catch_warnings(), joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        # loky replaces a worker that has grown and says so; no work is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
        yield workers


@contextmanager
def _dask(address: str | None, workers: int) -> Iterator[int]:
    # The one entry of this optional extra.
    try:
        import distributed
    except ImportError as exc:
        raise ConfigError("--backend dask needs the dask extra: pip install 'tidebook[dask]'") from exc
    library: Any = distributed
    cluster = None if address else library.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    try:
        client = library.Client(address or cluster, timeout=5)
    except (OSError, ValueError) as exc:
        raise ConfigError(f"--address: found {address}; no Dask scheduler answers there ({exc})") from exc
    try:
        with joblib.parallel_config(backend="dask"):
            yield -1
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


@contextmanager
def _ray(address: str | None, workers: int) -> Iterator[int]:
    # The one entry of this optional library.
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as exc:
        raise ConfigError("--backend ray needs Ray: pip install ray") from exc
    try:
        ray.init(address=address, num_cpus=None if address else workers, include_dashboard=False, log_to_driver=False)
    except ConnectionError as exc:
        raise ConfigError(f"--address: found {address}; no Ray cluster answers there ({exc})") from exc
    register_ray()
    try:
        with joblib.parallel_config(backend="ray"):
            yield -1
    finally:
        ray.shutdown()


_ENTRIES = {"loky": _loky, "dask": _dask, "ray": _ray}
