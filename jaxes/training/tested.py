"""What tests say: those of the base systems count; of each other name it is told beside them.

A problem tests the mean once, or by names (see `jaxes.core.is_base`): `base`, `randomized` and
`held_out` of one environment, `flat`, `trap`, `flat/randomized`, ... of several tasks. All that is
decided (scores, targets, halving, the best) is by the base systems' tests, all tasks pooled.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxes.core import DRAWN, AnyTests, Tests, is_base
from jaxes.statistics import pooled_half_interval
from jaxes.training.metrics import Row, is_finite


def summarize(tests: AnyTests) -> dict[str, Any]:
    """The numbers of a `RunResult` that tests of a policy give: of returns, lengths and measures of
    the base systems' episodes that did not diverge, NaN if all did; and how many these are."""
    return _pooled([tests] if isinstance(tests, Tests) else [tests[name] for name in _base(tests)])


def by_name(tests: AnyTests) -> dict[str, dict[str, Any]]:
    """The same of each name that is not all of the base systems; where there are several of these,
    tasks, also of all names of a kind, as `held_out`. Empty where tests are of one kind alone."""
    if isinstance(tests, Tests):
        return {}
    base, parts = _base(tests), {name: [each] for name, each in tests.items()}
    if len(base) == 1:
        del parts[base[0]]
    else:
        kinds = {kind: [tests[name] for name in tests if _kind(name) == kind] for kind in DRAWN}
        parts |= {kind: some for kind, some in kinds.items() if some}
    return {name: _pooled(some) for name, some in parts.items()}


def across_tasks(named: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Of the base systems' mean returns by task the least, and the greatest minus the least; NaN
    where one is. Empty where there are no several tasks.

    Args:
      named: what `by_name` says, or a file that has it.
    """
    means = np.array([said["return_mean"] for name, said in named.items() if is_base(name)], float)
    if not means.size:
        return {}
    return {"worst_task": float(means.min()), "task_spread": float(np.ptp(means))}


def row_of(tests: AnyTests) -> Row:
    """What a row of metrics says of tests."""
    said, named = summarize(tests), by_name(tests)
    row = {"return_mean": said["return_mean"], "return_std": said["return_std"]}
    row["diverged"] = said["num_test_diverged"]
    if said["episode_length"] != 0:  # of a plain function's
        row["return_ci95"] = said["return_ci95"]
        row["truncated"] = said["num_test_truncated"]
        row["episode_length"] = said["episode_length"]
    row |= said["measures"] | across_tasks(named)
    told = {group_of(): row} | {group_of(name): told_of(each) for name, each in named.items()}
    return {f"{group}{field}": value for group, row in told.items() for field, value in row.items()}


def told_of(said: Mapping[str, Any]) -> Row:
    """Of what `summarize` says, or a file that has it, what is told of each name."""
    row = {"return_mean": said["return_mean"], "return_ci95": said["return_ci95"]}
    return row | {"diverged": said["num_test_diverged"]} | said["measures"]


def told_in(row: Row) -> dict[str, Row]:
    """What a row of metrics says of tests, by name; under the empty name of those that count."""
    told: dict[str, Row] = {name: {} for name in map(name_in, row) if name is not None}
    for field, value in row.items():
        if owners := [name for name in told if field.startswith(group_of(name))]:
            name = max(owners, key=len)
            told[name][field.removeprefix(group_of(name))] = value
    return told


def name_in(metric: str) -> str | None:
    """Whose mean return a metric is, empty of those that count; None of any other metric."""
    found = re.fullmatch("test/(?:(.+)/)?return_mean", metric)
    return None if found is None else found[1] or ""


def group_of(name: str = "") -> str:
    """What the metrics of these tests begin with; by default of those that count."""
    return f"test/{name}/" if name else "test/"


def score_of(row: Row, name: str = "") -> float:
    """The score of a row that tells of a test: see `RunResult`. Or what it would be by name."""
    group = group_of(name)
    return scored(row[f"{group}return_mean"], row[f"{group}diverged"])


def scored(return_mean: float | None, num_test_diverged: int, **_: Any) -> float:
    """That of a test, -inf where an episode diverged."""
    sound = not num_test_diverged and is_finite(return_mean)
    return float(return_mean) if sound else -math.inf  # type: ignore[arg-type]


def _base(tests: Mapping[str, Tests]) -> list[str]:
    return list(filter(is_base, tests))


def _kind(name: str) -> str:
    return name.rpartition("/")[2]


def _pooled(tests: Sequence[Tests]) -> dict[str, Any]:
    """What the episodes of all of these come to."""
    returns = _sound((each, each.returns) for each in tests)
    lengths = _sound((each, each.length) for each in tests)
    count = sum(np.size(each.returns) for each in tests)
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        # By the spread within each, since what differs between tasks is no error of sampling
        "return_ci95": pooled_half_interval([_sound([(each, each.returns)]) for each in tests]),
        "return_min": float(returns.min()),
        "return_median": float(np.median(returns)),
        "return_max": float(returns.max()),
        "episode_length": float(lengths.mean()),
        "measures": _measures_of(tests),
        "num_test_episodes": count,
        "num_test_diverged": count - sum(int(_is_sound(each).sum()) for each in tests),
        "num_test_truncated": sum(int(np.sum(each.truncated)) for each in tests),
    }


def _measures_of(tests: Sequence[Tests]) -> dict[str, float]:
    """Means by name, each over the tests that have it."""
    having: dict[str, list[tuple[Tests, Any]]] = {}
    for each in tests:
        for name, values in (each.measures or {}).items():
            having.setdefault(name, []).append((each, values))
    means = {name: float(_sound(pairs).mean()) for name, pairs in having.items()}
    if "alive_reward" in having:
        mean = float(_sound((each, each.returns) for each, _ in having["alive_reward"]).mean())
        means["alive_share"] = means["alive_reward"] / mean if mean > 0 else math.nan
    return means


def _sound(pairs: Iterable[tuple[Tests, Any]]) -> np.ndarray:
    """Of tests, each with a value an episode, the values of those that did not diverge; NaN if
    all did."""
    chosen = np.concatenate([np.asarray(x, np.float64)[_is_sound(each)] for each, x in pairs])
    return chosen if chosen.size else np.array([math.nan])


def _is_sound(tests: Tests) -> np.ndarray:
    return np.isfinite(np.asarray(tests.returns, np.float64)) & ~np.asarray(tests.diverged)
