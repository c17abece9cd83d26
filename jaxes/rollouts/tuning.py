"""How many lanes suit a machine: measured once, and remembered beside the compiled programs."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxes import parallel
from jaxes.environments.base import Environment
from jaxes.hosts import agree, watch
from jaxes.policies import Policy, initial_state

CANDIDATES = {"cpu": (32, 64, 128, 256)}
ACCELERATOR_CANDIDATES = (1024, 4096, 16384)
STEPS = 50
REPEATS = 5


def tuned_lanes(environment: Environment, network: Policy) -> int:
    """The lanes a device at which environment and policy make the most steps a second.

    Each candidate is compiled and timed, which takes seconds each on first use. The answer is kept
    in `lanes.json` in JAX's folder of compiled programs, if it has one, for this machine's devices,
    environment and size of policy. Of many processes the first one measures.
    """
    with watch.compiling():
        return agree.of_first(lambda: _tuned_lanes(environment, network))


def _tuned_lanes(environment: Environment, network: Policy) -> int:
    devices = jax.local_devices()
    params = jax.eval_shape(network.init, jax.random.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    key = f"{environment.name}, {size} parameters, {len(devices)} {devices[0].device_kind}, jax "
    key += jax.__version__
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    path = Path(folder) / "lanes.json" if folder else None
    known = json.loads(path.read_text()) if path and path.exists() else {}
    if key not in known:
        candidates = CANDIDATES.get(jax.default_backend(), ACCELERATOR_CANDIDATES)
        rates = {lanes: steps_per_second(environment, network, lanes) for lanes in candidates}
        known[key] = max(rates, key=rates.__getitem__)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            written = path.with_suffix(".new")
            written.write_text(json.dumps(known, indent=1) + "\n")
            written.replace(path)
    return known[key]


def steps_per_second(environment: Environment, network: Policy, lanes: int) -> float:
    """Steps a second of all devices, each with so many lanes that never end."""

    mesh = parallel.make_mesh(jax.local_device_count())  # processes measure alone

    @partial(parallel.replicated, mesh=mesh)
    def simulate(key: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, parallel.device_index()), lanes)
        env_state, observation = jax.vmap(environment.reset)(keys)
        params = jax.vmap(network.init)(keys)
        memory = jax.vmap(partial(initial_state, network))(keys)

        def step(_: Array, carry: Any) -> Any:
            env_state, observation, memory, total = carry
            outputs, memory = jax.vmap(network.apply)(params, memory, observation)
            action = jax.vmap(environment.action)(outputs)
            env_state, observation, reward, _ = jax.vmap(environment.step)(env_state, action)
            return env_state, observation, memory, total + reward

        start = (env_state, observation, memory, jnp.zeros(lanes))
        return parallel.all_sum(jnp.sum(jax.lax.fori_loop(0, STEPS, step, start)[-1]))

    key = parallel.place(jax.random.key(0), mesh)
    program = jax.jit(simulate).lower(key).compile()
    seconds = []
    for _ in range(REPEATS):
        started = time.monotonic()
        jax.block_until_ready(program(key))
        seconds.append(time.monotonic() - started)
    return STEPS * lanes * jax.local_device_count() / min(seconds)
