"""One search from its job to its result.

Every try is scored like a member of the ensemble: rows are cut into blocks of time, each is predicted by fits on the others, and
the log-loss of those predictions, mean over the horizons, is what Optuna is told. The first try is what ships. The best of many tries
looks better than it is, so its gain over what ships is deflated by their number (`framework.multiplicity`); below `SURE` nothing is chosen.

Tries are proposed `TOGETHER` at a time, however many workers there are: a search gives the same on one process and on a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from framework.errors import ConfigError
from framework.multiplicity import deflated
from framework.parallel import run_all
from framework.search_job import SearchJob, SearchResult
from framework.window import Float64Array
from ml_actor.evaluate.fitters import Report
from ml_actor.evaluate.run import read_part
from ml_actor.fitting import FitRefused
from ml_actor.horizons import EARLIER_ROWS, shown_for
from ml_actor.known_models import find_members
from ml_actor.members import Member, Shown
from ml_actor.preparation import UNKNOWN
from ml_actor.search.space import Range, Space, Values, space_of, with_settings
from ml_actor.stacking import out_of_fold

TOGETHER: Final = 4
MAX_ROWS: Final = 30_000
"""Above it the rows are thinned evenly: labels overlap, so neighbours say nearly the same, and a try is to take seconds."""
MIN_BLOCK_ROWS: Final = 200
SURE: Final = 0.9


def search(job: SearchJob, report: Report) -> SearchResult:
    """Do the job; a refusal for a member that has no settings and for data that cannot be learned. Raises `ConfigError` without Optuna."""
    found = find_members("ensemble")
    members = {} if isinstance(found, str) else {member.name: member for member in found}
    member = members.get(job.member)
    space = space_of(member) if member else None
    if member is None or space is None:
        return SearchResult(ok=False, reason=f"--member: found {job.member[:60]!r}; allowed {', '.join(members)}")
    report("features", 0.02)
    shown = shown_for([read_part(file).recording for file in job.files], job.horizons, job.label)
    if isinstance(shown, str):
        return SearchResult(ok=False, reason=shown)
    try:
        return _search(job, member, space, _thinned(shown), report)
    except FitRefused as exc:
        return SearchResult(ok=False, reason=str(exc))


def _search(job: SearchJob, member: Member, space: Space, shown: Shown, report: Report) -> SearchResult:
    study = _study(job.seed)
    study.enqueue_trial(space.shipped(member))
    tries: list[tuple[dict[str, float], dict[int, Float64Array]]] = []
    while len(tries) < job.tries:
        asked = [study.ask() for _ in range(min(TOGETHER, job.tries - len(tries)))]
        proposed = [{name: _suggest(trial, name, one) for name, one in space.ranges.items()} for trial in asked]
        calls = [(score, (member, values, shown, tuple(job.horizons), job.seed)) for values in proposed]
        for trial, values, losses in zip(asked, proposed, _spread(calls, job), strict=True):
            tries.append((values, losses))
            study.tell(trial, _mean(losses))
            report(f"{len(tries)} of {job.tries} tries", 0.05 + 0.95 * len(tries) / job.tries)
    return _result(job, tries)


def _spread(calls: Sequence[Any], job: SearchJob) -> Any:
    if job.backend == "loky" and job.workers == 1 and job.address is None:
        return (function(*arguments) for function, arguments in calls)
    return run_all(calls, backend=job.backend, address=job.address, workers=job.workers)


def score(member: Member, values: Values, shown: Shown, horizons: tuple[int, ...], seed: int) -> dict[int, Float64Array]:
    """Return per horizon the mean log-loss of each block of rows that the member with these settings was not fitted on."""
    (made,) = with_settings((member,), {member.name: values})
    _, logs = out_of_fold(made, shown, horizons, seed, max(shown.horizons) + EARLIER_ROWS)
    return {horizon: _by_block(logs[horizon], shown.classes[:, shown.horizons.index(horizon)], horizon) for horizon in horizons}


def _by_block(logs: Float64Array, classes: Any, horizon: int) -> Float64Array:
    known = np.flatnonzero(classes != UNKNOWN)
    losses = -logs[known, classes[known]]
    count = max(1, len(losses) // max(MIN_BLOCK_ROWS, 2 * horizon))
    return np.array([part.mean() for part in np.array_split(losses, count)])


def _mean(losses: Mapping[int, Float64Array]) -> float:
    return float(np.mean([one.mean() for one in losses.values()]))


def _result(job: SearchJob, tries: Sequence[tuple[dict[str, float], dict[int, Float64Array]]]) -> SearchResult:
    shipped = tries[0][1]
    best = min(range(len(tries)), key=lambda number: _mean(tries[number][1]))
    # Without the ratios of the other tries: far from what ships some are so bad that they would say nothing about luck.
    evidence = deflated(_gain(shipped, tries[best][1]), len(tries), []) if best else {"probability": 0.0, "trials": len(tries)}
    is_chosen = bool(best) and evidence["probability"] >= SURE
    values = tries[best][0]
    return SearchResult(
        ok=True,
        settings={job.member: values} if is_chosen else {},
        report={
            "member": job.member,
            "horizons": job.horizons,
            "label": job.label,
            "shipped": {"values": tries[0][0], **_losses(shipped)},
            "best": {"values": values, **_losses(tries[best][1])},
            "deflated": evidence,
            "is_chosen": is_chosen,
            "tries": [{"values": one, **_losses(losses)} for one, losses in tries],
        },
    )


def _gain(shipped: Mapping[int, Float64Array], losses: Mapping[int, Float64Array]) -> Float64Array:
    """Return the log-loss saved against what ships, one number a block; blocks of the longest horizon for all."""
    count = min(len(one) for one in shipped.values())
    each = [[part.mean() for part in np.array_split(shipped[horizon] - losses[horizon], count)] for horizon in shipped]
    return np.asarray(np.mean(each, axis=0))


def _losses(losses: Mapping[int, Float64Array]) -> dict[str, Any]:
    return {"log_loss": _mean(losses), "by_horizon": {str(horizon): float(one.mean()) for horizon, one in losses.items()}}


def _thinned(shown: Shown) -> Shown:
    return shown.select(np.arange(0, len(shown.positions), max(1, -(-len(shown.positions) // MAX_ROWS))))


def _study(seed: int) -> Any:
    # The one entry of this optional extra.
    try:
        import optuna
    except ImportError as exc:
        raise ConfigError("search needs the search extra: pip install 'tidebook[search]'") from exc
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=2 * TOGETHER))


def _suggest(trial: Any, name: str, one: Range) -> float:
    if one.is_whole:
        return float(trial.suggest_int(name, int(one.low), int(one.high), log=one.is_logarithmic))
    return float(trial.suggest_float(name, one.low, one.high, log=one.is_logarithmic))
