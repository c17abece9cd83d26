"""What the table of returns is made with: protocol, tasks, and settings by task and strategy.

All algorithms of a task have this protocol; rows of another one are left out (`table_rows.py`). The
settings are those that `table.py search` found, or were given; a search has other seeds.
"""

from typing import Any, NamedTuple

import jaxes
from jaxes.policies import PolicyFactory, linear, mlp

BACKEND = "spring"
EPISODE_LENGTH = 1000
TEST_EPISODES = 32  # of a test on the way, all of them deterministic and in fresh episodes
FINAL_EPISODES = 128  # of the test at the end, which no decision has seen
FINAL_SEED = 1
STEPS_BETWEEN_TESTS = 330_000  # at most: tests are a tenth of the steps; PPO has two updates
MARKS = (1_000_000, 5_000_000, 10_000_000, 20_000_000)  # steps at which returns are told
STILL = 1.0  # meters; what ends an episode nearer to where it began has not moved on
SEARCH_SEED = 1000  # the first one of searches; the table's begin at 0
WHOLE = 950  # what PPO comes to on inverted_pendulum, with its notebook's physics, if it is whole


class Task(NamedTuple):
    """An environment of Brax.

    Attributes:
      steps: the budget of a seed, in environment steps of training.
      threshold: the return to which steps and seconds are told.
      alive_penalty: of the fitness of evolution strategies; see `jaxes.problems.policy_search`.
    """

    steps: int
    threshold: float
    alive_penalty: float = 0.0


TASKS = {
    "inverted_pendulum": Task(5_000_000, 950),
    "inverted_double_pendulum": Task(5_000_000, 9_000),
    "reacher": Task(6_553_600, -50),  # four updates of PPO, which has no smaller ones
    "hopper": Task(20_000_000, 1_500, alive_penalty=1.0),
    "walker2d": Task(20_000_000, 1_600, alive_penalty=1.0),
    "halfcheetah": Task(10_000_000, 3_000),
    "ant": Task(12_000_000, 2_500),  # ars with a penalty learned to fall at once
}


class Settings(NamedTuple):
    """Of a strategy on a task: its population, its numbers, and the hidden layers of the policy;
    None is a linear one without bias."""

    population_size: int
    hidden: tuple[int, ...] | None
    numbers: dict[str, Any]

    @property
    def policy(self) -> PolicyFactory:
        return linear() if self.hidden is None else mlp(self.hidden)


def of(population_size: int, hidden: tuple[int, ...] | None = None, **numbers: Any) -> Settings:
    return Settings(population_size, hidden, numbers)


ON_LEGS = {
    "cem": of(64, sigma=0.3, noise=0.001),
    "cma_es": of(32, sigma=0.1),
    "openai_es": of(64, (16, 16), sigma=0.1, learning_rate=0.05, weight_decay=0.0),
    "ars": of(32, sigma=0.05, learning_rate=0.05),
    "pgpe": of(64, (16, 16), sigma=0.1, learning_rate=0.075),
}

# Chosen among those tried on the double pendulum, those of pgpe by hand. On the single one a linear
# policy, which has less to learn, stays below half of the return in many seeds, with all settings
# that were tried.
PENDULUMS = {
    "cem": of(64, (4,), sigma=1.0, noise=0.02),
    "cma_es": of(64, (4,), sigma=0.03),
    "openai_es": of(64, (4,), sigma=0.1, learning_rate=0.05, weight_decay=0.0),
    "ars": of(64, (4,), sigma=0.3, learning_rate=0.3),
    "pgpe": of(64, (4,), sigma=0.5, learning_rate=0.15),
}

SETTINGS: dict[str, dict[str, Settings]] = {
    "inverted_pendulum": PENDULUMS,
    "inverted_double_pendulum": PENDULUMS,
    "reacher": {
        "cem": of(64, (16, 16), sigma=0.1, noise=0.0),
        "sep_cma_es": of(64, sigma=0.03),
        "openai_es": of(64, (16, 16), sigma=0.05, learning_rate=0.01, weight_decay=0.0),
        "ars": of(64, (16, 16), sigma=0.02, learning_rate=0.02),
        "pgpe": of(64, (16, 16), sigma=0.05, learning_rate=0.02),
    },
    "hopper": ON_LEGS
    | {"openai_es": of(128, (32, 32), sigma=0.05, learning_rate=0.02, weight_decay=0.0)},
    "walker2d": ON_LEGS,
    "halfcheetah": ON_LEGS | {"ars": of(32, sigma=0.05, learning_rate=0.05, sampling="orthogonal")},
    "ant": ON_LEGS
    | {"openai_es": of(64, (16, 16), sigma=0.05, learning_rate=0.02, weight_decay=0.0)},
}

# What a search tries of each strategy: all combinations, in one program a network. Some of the
# searches in the results had other numbers here or above; what each tried stands with it.
GRIDS: dict[str, dict[str, list[float]]] = {
    "cem": {"sigma": [0.1, 0.3, 1.0], "noise": [0.0, 0.001, 0.02]},
    "cma_es": {"sigma": [0.03, 0.1, 0.5, 1.0]},
    "sep_cma_es": {"sigma": [0.03, 0.1, 0.3, 1.0]},
    "openai_es": {"sigma": [0.05, 0.1, 0.2, 0.5], "learning_rate": [0.02, 0.05, 0.1, 0.3]},
    "ars": {"sigma": [0.05, 0.1, 0.3], "learning_rate": [0.02, 0.05, 0.1, 0.3]},
    "pgpe": {"sigma": [0.05, 0.1, 0.2, 0.5], "learning_rate": [0.04, 0.075, 0.15, 0.3]},
}
NETWORKS: dict[str, tuple[int, ...] | None] = {"linear": None, "mlp4": (4,), "mlp16": (16, 16)}


def strategy_of(name: str, settings: Settings) -> jaxes.Strategy:
    return jaxes.STRATEGIES[name](settings.population_size, **settings.numbers)


def problem_of(
    task: str,
    policy: PolicyFactory,
    *,
    backend: str = BACKEND,
    test_episodes: int = TEST_EPISODES,
    **more: Any,
) -> jaxes.Problem:
    """The policy search of the protocol."""
    return jaxes.problems.brax(
        task,
        backend,
        policy=policy,
        episode_length=EPISODE_LENGTH,
        num_test_episodes=test_episodes,
        **more,
    )
