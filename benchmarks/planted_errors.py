"""Do the tests notice a broken algorithm? Plants one error at a time and runs the tests.

Each error is a replacement in a copy of the package; the tests of its part must then fail. Errors
of this kind ship in published libraries, pass convergence tests, and hide in evaluation counts.

    python benchmarks/planted_errors.py [WORD ...]      # those whose names have one of the words
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Error(NamedTuple):
    name: str
    file: str  # in jaxes/
    correct: str
    broken: str
    tests: str  # in tests/


CMA, XNES = "strategies/test_cma_es.py", "strategies/test_xnes.py"
LANES, TRAIN = "rollouts/test_lanes.py", "training/test_train.py"
MANY = "problems/test_many.py"
ERRORS = [
    Error(
        "no whitening in p_σ",
        "strategies/cma_es.py",
        "whitened = z_w  # C^{-1/2} ⟨y⟩_w",
        "whitened = y_w",
        CMA,
    ),
    Error(
        "h_σ always 1",
        "strategies/cma_es.py",
        "(norm_p_sigma / correction < (1.4 + 2 / (n + 1)) * c.chi_n)",
        "(norm_p_sigma >= 0)",
        CMA,
    ),
    Error(
        "no rank-one term",
        "strategies/cma_es.py",
        "c.c_1 * jnp.outer(p_c, p_c)",
        "0 * jnp.outer(p_c, p_c)",
        CMA,
    ),
    Error(
        "no negative weights",
        "strategies/cma_es.py",
        "alpha_minus * raw / -raw[negative].sum()",
        "0 * raw",
        CMA,
    ),
    Error(
        "unsorted noise with sorted weights",
        "strategies/cma_es.py",
        "w = by_rank(fitness, jnp.asarray(c.weights, dtype))",
        "w = jnp.asarray(c.weights, dtype)",
        CMA,
    ),
    Error(
        "flipped sign in CMA-ES",
        "strategies/cma_es.py",
        "mean = state.mean + state.sigma * y_w",
        "mean = state.mean - state.sigma * y_w",
        CMA,
    ),
    Error(
        "elementwise exp in xNES",
        "strategies/xnes.py",
        "parallel.one_by_one(jax.scipy.linalg.expm)(step)",
        "jnp.exp(step)",
        XNES,
    ),
    Error(
        "flipped sign in xNES",
        "strategies/xnes.py",
        "jnp.exp(eta / 2 * G_sigma)",
        "jnp.exp(-eta / 2 * G_sigma)",
        XNES,
    ),
    Error(
        "flipped sign in OpenAI-ES",
        "optimizers.py",
        "optimizer.update(-gradient",
        "optimizer.update(gradient",
        "strategies/test_openai_es.py",
    ),
    Error(
        "standard deviation noise instead of variance noise in CEM",
        "strategies/cem.py",
        "jnp.sqrt(state.std**2 * variance + added)",
        "jnp.sqrt(state.std**2 * variance) + added",
        "strategies/test_cem.py",
    ),
    Error(
        "no rank-one term in separable CMA-ES",
        "strategies/sep_cma_es.py",
        "c.c_1 * p_c**2",
        "0 * p_c**2",
        "strategies/test_sep_cma_es.py",
    ),
    Error(
        "covariance about the old mean in the plain form",
        "strategies/plain_cma.py",
        "(z_square - jnp.outer(z_mean, z_mean))",
        "z_square",
        "strategies/test_plain_cma.py",
    ),
    Error(
        "spread of all rewards instead of those used in ARS",
        "strategies/ars.py",
        "sigma_R = jnp.sqrt(jnp.sum(selected * spread) / 2)",
        "sigma_R = jnp.sqrt(jnp.mean(spread) / 2)",
        "strategies/test_ars.py",
    ),
    Error(
        "the mean's gradient not in units of the deviations in PGPE",
        "strategies/pgpe.py",
        "std * mean_gradient, state.optimizer",
        "mean_gradient, state.optimizer",
        "strategies/test_pgpe.py",
    ),
    Error(
        "the worst stay in the genetic algorithm",
        "strategies/genetic.py",
        "jax.lax.top_k(pool, num_parents)",
        "jax.lax.top_k(-pool, num_parents)",
        "strategies/test_genetic.py",
    ),
    Error(
        "directions of LM-MA-ES in reverse order",
        "strategies/lm_ma_es.py",
        "jax.lax.scan(apply, z, (jnp",
        "jax.lax.scan(apply, z, reverse=True, xs=(jnp",
        "strategies/test_lm_ma_es.py",
    ),
    Error(
        "no momentum in ClipUp",
        "optimizers.py",
        "momentum * v - rate * g",
        "0 * v - rate * g",
        "test_optimizers.py",
    ),
    Error(
        "lengths that belong to the directions in orthogonal sampling",
        "gaussian.py",
        "jnp.linalg.norm(G, axis=0)",
        "jnp.abs(jnp.diagonal(R))",
        "test_gaussian.py",
    ),
    Error(
        "a decomposition in every generation under vmap",
        "strategies/cma_es.py",
        "return _decompose_where(*batch), (True, True, True)",
        "return jax.vmap(_decompose_where.fun)(*batch), (True, True, True)",
        CMA,
    ),
    Error(
        "a bound that is never reached",
        "optimize/bounds.py",
        "from_low, from_high = (y - left) ** 2 / (4 * a_low), (right - y) ** 2 / (4 * a_high)",
        "from_low, from_high = a_low * jnp.exp(y - self.low - a_low), a_high * jnp.exp("
        "self.high - a_high - y)",
        "optimize/test_bounds.py",
    ),
    Error(
        "NaN ranks best",
        "weights.py",
        "cost = -jnp.where(jnp.isnan(fitness), -jnp.inf, fitness)",
        "cost = -jnp.where(jnp.isnan(fitness), jnp.inf, fitness)",
        "test_weights.py",
    ),
    Error(
        "a job of the queue is passed over",
        "rollouts/lanes.py",
        "jobs = jax.lax.dynamic_slice_in_dim(progress.queue, progress.taken, size)",
        "jobs = jax.lax.dynamic_slice_in_dim(progress.queue, progress.taken + 1, size)",
        LANES,
    ),
    Error(
        "a refill does not write down what ended",
        "rollouts/lanes.py",
        "written=self.write(progress.written, self._lanes_at(lanes, which))",
        "written=progress.written",
        LANES,
    ),
    Error(
        "the tail forgets what ended before it",
        "rollouts/lanes.py",
        "written = self.write(progress.written, lanes)",
        "written = progress.written",
        LANES,
    ),
    Error(
        "every device runs every job",
        "parallel.py",
        "return pending & (order // 2 % num_devices() == device_index())",
        "return pending & (order >= 0)",
        "test_parallel.py",
    ),
    Error(
        "each device scales its own terms",
        "parallel.py",
        "greatest = all_max(jnp.max(jnp.abs(x), axis=0))",
        "greatest = jnp.max(jnp.abs(x), axis=0)",
        "test_parallel.py",
    ),
    Error(
        "one word where two are needed",
        "parallel.py",
        "range(-(-(24 + spare) // size))",
        "range(1)",
        "test_parallel.py",
    ),
    Error(
        "test episodes that training has had",
        "problems/numbering.py",
        "test_episode = job - self.num_train_jobs + self.num_episodes",
        "test_episode = job - self.num_train_jobs",
        "problems/test_numbering.py",
    ),
    Error(
        "an episode that ends at the limit counts as cut",
        "rollouts/episodes.py",
        "jnp.where(cut & ~done, TRUNCATED, 0)",
        "jnp.where(cut, TRUNCATED, 0)",
        "rollouts/test_episodes.py",
    ),
    Error(
        "rewards that are not discounted",
        "rollouts/episodes.py",
        "state.weight * reward",
        "reward",
        "rollouts/test_episodes.py",
    ),
    Error(
        "memory from the key of the environment",
        "rollouts/episodes.py",
        "jax.random.fold_in(origin.key, 1)",
        "origin.key",
        "rollouts/test_episodes.py",
    ),
    Error(
        "a stop by the callback is forgotten",
        "training/run.py",
        'if status == "stopped" and',
        'if status == "halted" and',
        "training/test_run.py",
    ),
    Error(
        "a config of the factory's numbers, not of the run's",
        "training/identity.py",
        "traced.get(field, value)",
        "value",
        "config/test_run_config.py",
    ),
    Error(
        "diverged test episodes count",
        "training/tested.py",
        "sound = not num_test_diverged and",
        "sound =",
        "training/test_diverged.py",
    ),
    Error(
        "tests of drawn systems count",
        "core.py",
        'name.rpartition("/")[2] not in DRAWN',
        "name not in DRAWN",
        "training/test_tested.py",
    ),
    Error(
        "a task without a measure counts as its zero",
        "training/tested.py",
        "_sound(pairs).mean()",
        "_sound(pairs).sum() / sum(_is_sound(each).sum() for each in tests)",
        "training/test_tested.py",
    ),
    Error(
        "each member meets systems of its own",
        "problems/judge.py",
        "episode=numbering.key(job),",
        "episode=(numbering.key(job) + numbering.member(job)) % numbering.num_keys,",
        MANY,
    ),
    Error(
        "ranges and weights of the first generation for ever",
        "problems/state.py",
        "numbers.now(state.hparams, state.generation)",
        "numbers.now(state.hparams, 0)",
        MANY,
    ),
    Error(
        "weights of tasks that do not sum to one",
        "problems/verdict.py",
        "self.aggregate(values, weights / weights.sum())",
        "self.aggregate(values, weights)",
        MANY,
    ),
    Error(
        "a task weighs more the more episodes it has",
        "problems/verdict.py",
        "weights = 1 / counts",
        "weights = jnp.ones_like(counts)",
        MANY,
    ),
    Error(
        "tests of the base system in drawn ones",
        "problems/tasks.py",
        "drawn = environment.system\n",
        "drawn = (environment.randomize or (lambda k, s, r: s))(key, environment.system, ranges)\n",
        MANY,
    ),
    Error(
        "the condition of the next task",
        "problems/tasks.py",
        "jax.nn.one_hot(place, self.num_tasks",
        "jax.nn.one_hot(place + 1, self.num_tasks",
        MANY,
    ),
    Error(
        "parts of a randomizer that draw the same",
        "environments/randomize.py",
        "part_key = jax.random.fold_in(key, i)",
        "part_key = key",
        "environments/test_randomize.py",
    ),
    Error(
        "rows of the generation before",
        "training/run.py",
        "enumerate(zip(*columns.values(), strict=True), start=1)",
        "enumerate(zip(*columns.values(), strict=True), start=0)",
        TRAIN,
    ),
    Error(
        "a checkpoint of another size is restored",
        "training/checkpoint.py",
        "if (saved.shape, saved.dtype) != (leaf.shape, leaf.dtype):",
        "if saved.dtype != leaf.dtype:",
        TRAIN,
    ),
    Error(
        "a resumed run counts from zero",
        "training/batch.py",
        "done, leaves = newest",
        "_, leaves = newest",
        TRAIN,
    ),
    Error(
        "halving keeps the worst",
        "sweeps/halving.py",
        "reverse=True",
        "reverse=False",
        "sweeps/test_halving.py",
    ),
    Error(
        "a target counts as reached from below",
        "training/schedule.py",
        "score_of(row) >= self.target_return",
        "score_of(row) <= self.target_return",
        TRAIN,
    ),
    Error(
        "observations' variance about the old mean",
        "problems/observations.py",
        "old.sum_squares + second - total * shift**2",
        "old.sum_squares + second",
        "problems/test_observations.py",
    ),
    Error(
        "a loaded policy forgets to clip",
        "policy_directory.py",
        "observation = normalizer(observation)",
        "observation = (observation - normalizer.mean) / normalizer.std",
        "test_policy_directory.py",
    ),
    Error(
        "a damaged file of a policy is loaded",
        "policy_directory.py",
        "digest_of(content) != digest",
        "not content",
        "test_policy_directory.py",
    ),
    Error(
        "each host plays all episodes",
        "parallel.py",
        "return pending & (_seats(pending).host == host_index()) if num_hosts() > 1 else pending",
        "return pending",
        "test_parallel.py",
    ),
    Error(
        "rows of hosts in the order of their coming",
        "parallel.py",
        "rows = gathered.at[seats.host, seats.place]",
        "rows = gathered.at[seats.host * 0, seats.place]",
        "test_parallel.py",
    ),
    Error(
        "ties are losses in the probability of improvement",
        "statistics.py",
        "0.5 * (samples[:, None] == others)",
        "0 * (samples[:, None] == others)",
        "test_statistics.py",
    ),
    Error(
        "an interval of one run drawn for both sides",
        "statistics.py",
        "theirs[:, None, :]",
        "0 * theirs[:, None, :]",
        "test_statistics.py",
    ),
]


def tests_pass(copy: Path, tests: str) -> bool:
    """Whether the tests pass against the package in `copy`."""
    command = [sys.executable, "-m", "pytest", "-qx", "-n0", "-p", "no:cacheprovider", tests]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(copy / "cache")}
    environment = os.environ | cache | {"PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy / "tests", env=environment, capture_output=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout.decode())
    return done.returncode == 0


def main() -> int:
    unnoticed, words = 0, sys.argv[1:]
    for word in words:
        if not any(word in error.name for error in ERRORS):
            sys.exit(f"no planted error has {word!r} in its name")
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for name in ("jaxes", "tests"):
            shutil.copytree(ROOT / name, copy / name)
        shutil.copy(ROOT / "pyproject.toml", copy)
        chosen = [error for error in ERRORS if not words or any(w in error.name for w in words)]
        for tests in sorted({error.tests for error in chosen}):
            if not tests_pass(copy, tests):
                print(f"{tests} fails without a planted error")
                return 1
        for error in chosen:
            file = copy / "jaxes" / error.file
            source = file.read_text()
            if source.count(error.correct) != 1:
                raise ValueError(f"{error.name}: {error.correct!r} is not once in {error.file}")
            file.write_text(source.replace(error.correct, error.broken))
            noticed = not tests_pass(copy, error.tests)
            file.write_text(source)
            unnoticed += not noticed
            print(f"{'noticed  ' if noticed else 'UNNOTICED'}  {error.name}", flush=True)
    return min(unnoticed, 1)


if __name__ == "__main__":
    sys.exit(main())
