"""Small books and jobs, so that a check takes a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from framework.leak_job import Finding, LeakJob, Verdict
from ml_actor.leaks.checks import run


@pytest.fixture(scope="session")
def findings() -> Callable[..., dict[tuple[str, str], Finding]]:
    """Run the checks of a job, each job once; findings by (subject, check)."""
    done: dict[str, dict[tuple[str, str], Finding]] = {}

    def of(**fields: Any) -> dict[tuple[str, str], Finding]:
        job = LeakJob(**({"seeds": 1, "rows": 6_000} | fields))
        if repr(job) not in done:
            done[repr(job)] = {(one.subject, one.check): one for one in run(job, lambda _stage, _share: None)}
        return done[repr(job)]

    return of


@pytest.fixture(scope="session")
def leaks(findings: Callable[..., dict[tuple[str, str], Finding]]) -> Callable[..., dict[str, tuple[str, ...]]]:
    """Run the checks of a job; the names that leak, by check."""

    def of(**fields: Any) -> dict[str, tuple[str, ...]]:
        return {check: one.names for (_, check), one in findings(**fields).items() if one.verdict is Verdict.LEAK}

    return of
