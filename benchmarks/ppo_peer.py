"""brax's PPO, and its policy as one of ours.

Its values are those with which brax's notebook trains (notebooks/training.ipynb); for hopper and
walker2d, where the notebook has SAC, those of ant with half of the environments and half the batch.
Networks are brax's own: observations normalized, a policy of four layers of 32 whose actions end in
tanh, a value network of five layers of 256. What is tested is the deterministic policy, by our
tests, as those of the table are.

brax 0.14.2 calls `jax.device_put_replicated`, which jax has no longer: it is put back here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from table_settings import (
    BACKEND,
    FINAL_EPISODES,
    STEPS_BETWEEN_TESTS,
    TEST_EPISODES,
    problem_of,
)

import jaxes
from jaxes.environments.quiet import quiet
from jaxes.policies import Policy
from jaxes.training.evaluate import start_of, tester

HIDDEN = (32, 32, 32, 32)  # of brax's policy network

COMMON = {
    "normalize_observations": True,
    "action_repeat": 1,
    "num_minibatches": 32,
    "learning_rate": 3e-4,
}
OFTEN = {
    "reward_scaling": 10,
    "unroll_length": 5,
    "num_updates_per_batch": 4,
    "discounting": 0.97,
    "entropy_cost": 1e-2,
    "num_envs": 2048,
    "batch_size": 1024,
}
VALUES: dict[str, dict[str, Any]] = {
    "inverted_pendulum": OFTEN,
    "inverted_double_pendulum": OFTEN,
    "reacher": {
        "action_repeat": 4,
        "reward_scaling": 5,
        "unroll_length": 50,
        "num_updates_per_batch": 8,
        "discounting": 0.95,
        "entropy_cost": 1e-3,
        "num_envs": 2048,
        "batch_size": 256,
    },
    "hopper": OFTEN,
    "walker2d": OFTEN,
    "halfcheetah": {
        "reward_scaling": 1,
        "unroll_length": 20,
        "num_updates_per_batch": 8,
        "discounting": 0.95,
        "entropy_cost": 1e-3,
        "num_envs": 2048,
        "batch_size": 512,
    },
    "ant": OFTEN | {"num_envs": 4096, "batch_size": 2048},
}
OF_ANT = "brax's notebook, of ant with half the environments and half the batch"
SOURCE = {"hopper": OF_ANT, "walker2d": OF_ANT}


def replicated(tree: Any, devices: list[jax.Device]) -> Any:
    """A copy on each device, with the axis that `jax.pmap` maps over."""
    mesh = jax.sharding.Mesh(np.array(devices), ("i",))
    copies = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(devices)), tree)
    return jax.device_put(copies, jax.NamedSharding(mesh, jax.P("i")))


def peer() -> tuple[Any, Any, Any]:
    """brax's environments, the trainer and its networks."""
    with quiet():
        from brax import envs
        from brax.training.agents.ppo import networks, train
    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = replicated
    return envs, train, networks


class Peer:
    """Its policy of a task as one of ours, which our tests test.

    A parameter vector holds the moments of observations and the policy network's parameters.
    """

    def __init__(self, task: str, backend: str = BACKEND):
        envs, self.trainer, self.networks = peer()
        self.task, self.values = task, COMMON | VALUES[task]
        with quiet():
            self.environment = envs.get_environment(task, backend=backend)
        make = partial(problem_of, task, self.policy, backend=backend, normalize_observations=False)
        self.problem = make()
        self.strategy = jaxes.snes(TEST_EPISODES)  # its members never play
        self.test = tester(self.problem, self.strategy)
        # In the same episodes as strategies are tested in at their ends.
        self.final_test = tester(make(test_episodes=FINAL_EPISODES), self.strategy)
        self.template = start_of(self.problem, self.strategy)

    def policy(self, observation_size: int, action_size: int) -> Policy:
        """Its deterministic policy. As in training, an action is held for `action_repeat` steps:
        the memory is how often it is still to be repeated, and the action."""
        from brax.training.acme import running_statistics

        repeat = self.values["action_repeat"]
        self.network = self.networks.make_ppo_networks(
            observation_size,
            action_size,
            preprocess_observations_fn=running_statistics.normalize,
        )
        infer = self.networks.make_inference_fn(self.network)

        def init(key: jax.Array) -> dict[str, Any]:
            ones = jnp.ones(observation_size)
            parameters = self.network.policy_network.init(key)
            return {"mean": 0 * ones, "std": ones, "network": parameters}

        def apply(params: Any, memory: Any, observation: jax.Array) -> tuple[jax.Array, Any]:
            moments = running_statistics.NestedMeanStd(params["mean"], params["std"])
            act = infer((moments, params["network"]), deterministic=True)
            action = act(observation, jax.random.key(0))[0]
            if repeat == 1:
                return action, memory
            left, held = memory
            action = jnp.where(left == 0, action, held)
            return action, ((left - 1) % repeat, action)

        held = (jnp.int32(0), jnp.zeros(action_size))
        return Policy(init, () if repeat == 1 else held, apply)

    def state_of(self, params: Any) -> jaxes.TrainState:
        """A state whose mean are the parameters that the trainer tells of."""
        statistics, network = jax.device_get(params[:2])
        parts = {"mean": statistics.mean, "std": statistics.std, "network": network}
        mean = jnp.asarray(ravel_pytree(parts)[0], jnp.float32)
        return self.template._replace(strategy=self.template.strategy._replace(mean=mean))

    def standing(self, state: jaxes.TrainState) -> jaxes.TrainState:
        """The zero policy's: the network's parameters are zero, not the moments."""
        policy = self.problem.policy(state.strategy.mean, state.problem)
        parts = policy.init(jax.random.key(0))
        parts["network"] = jax.tree.map(jnp.zeros_like, parts["network"])
        return state._replace(strategy=state.strategy._replace(mean=ravel_pytree(parts)[0]))

    def epochs(self, steps: int) -> int:
        """How often it is tested: about as often as the strategies are, after whole updates."""
        values = self.values
        update = values["batch_size"] * values["unroll_length"] * values["num_minibatches"]
        update *= values["action_repeat"]
        return max(2, -(-steps // (update * max(1, STEPS_BETWEEN_TESTS // update))))

    def train(self, seed: int, steps: int, progress: Callable[[int, Any], None]) -> None:
        """All of a seed; `progress` is given steps and parameters at the start and after each
        epoch."""
        self.trainer.train(
            self.environment,
            num_timesteps=steps,
            episode_length=self.problem.episodes.episode_length,
            num_evals=self.epochs(steps) + 1,
            run_evals=False,
            seed=seed,
            policy_params_fn=lambda done, _, params: progress(done, params),
            **self.values,
        )

    def config(self) -> dict[str, Any]:
        """What the directory of a seed says of it."""
        settings = self.values | {"source": SOURCE.get(self.task, "brax's notebook")}
        episodes = self.problem.episodes
        return {
            "environment": dict(self.problem.environment.spec),
            "problem": {
                "episode_length": episodes.episode_length,
                "num_test_episodes": episodes.num_test_episodes,
            },
            "policy": {"name": "mlp", "hidden": list(HIDDEN), "activation": "swish"},
            "strategy": {"name": "ppo", "ppo": settings},
        }
