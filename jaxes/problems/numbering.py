"""Which job is which episode of which member of which trial."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxes.core import Population
from jaxes.trials import of_trial


class Numbering(NamedTuple):
    """The numbers of the jobs of one generation of T trials.

    A trial's jobs come member by member, the population's episodes and then those that test the
    mean. Test episodes are numbered on from the population's, so that they are fresh. With two
    members, two episodes each, one test episode and two trials:

        job      0  1  2  3  4   5  6  7  8  9
        trial    0  0  0  0  0   1  1  1  1  1
        member   0  0  1  1  -   0  0  1  1  -      (of a test: any)
        episode  0  1  0  1  2   0  1  0  1  2
        key      0  1  0  1  2   3  4  3  4  5      (trial by trial, one an episode)
        is_test  .  .  .  .  x   .  .  .  .  x

    All take any shape of job numbers, int32, and answer in that shape.
    """

    population_size: int
    num_episodes: int
    num_test_episodes: int
    num_trials: int = 1

    @property
    def num_train_jobs(self) -> int:
        """Of a trial."""
        return self.population_size * self.num_episodes

    @property
    def num_jobs(self) -> int:
        """J, of a trial."""
        return self.num_train_jobs + self.num_test_episodes

    @property
    def num_keys(self) -> int:
        """Of a trial."""
        return self.num_episodes + self.num_test_episodes

    def trial(self, job: Array) -> Array:
        return _divide(job, self.num_jobs)

    def member(self, job: Array) -> Array:
        member = _divide(self._job_of_trial(job), self.num_episodes)
        return jnp.minimum(member, self.population_size - 1)

    def episode(self, job: Array) -> Array:
        job = self._job_of_trial(job)
        test_episode = job - self.num_train_jobs + self.num_episodes
        train_episode = job - _divide(job, self.num_episodes) * self.num_episodes
        return jnp.where(job >= self.num_train_jobs, test_episode, train_episode)

    def key(self, job: Array) -> Array:
        return self.trial(job) * self.num_keys + self.episode(job)

    def is_test(self, job: Array) -> Array:
        return self._job_of_trial(job) >= self.num_train_jobs

    def _job_of_trial(self, job: Array) -> Array:
        return job - self.trial(job) * self.num_jobs

    def existing(self, jobs: Array) -> Array:
        """Jobs [M], with the first of them in the place of numbers that stand for none."""
        total = self.num_trials * self.num_jobs
        return jnp.where(jobs < total, jobs, jnp.minimum(jnp.min(jobs), total - 1))


def solutions(numbering: Numbering, populations: Population, jobs: Array) -> Array:
    """The parameter vectors [M, D] that these jobs [M] act with, of populations [T]: a member's, or
    in a test the mean. Numbers beyond the last job stand for none, and get any."""
    jobs = numbering.existing(jobs)
    trial, member = numbering.trial(jobs), numbering.member(jobs)
    is_test = numbering.is_test(jobs)[:, None]

    def of_one(t: Array | int) -> Array:
        population = of_trial(populations, t)
        return jnp.where(is_test, population.mean, population(member))

    if numbering.num_trials == 1:
        return of_one(0)
    # Jobs that begin together are mostly of one trial, whose noise is drawn at once.
    means = populations.mean
    return jax.lax.fori_loop(
        jnp.min(trial),
        jnp.max(trial) + 1,
        lambda t, found: jnp.where((trial == t)[:, None], of_one(t), found),
        jnp.zeros((jobs.size, means.shape[-1]), means.dtype),
    )


def _divide(number: Array, divisor: int) -> Array:
    """One operation, where `//` is ten: there are no negative numbers to think of."""
    return jax.lax.div(number, jnp.asarray(divisor, number.dtype))
