"""Sums and maxima on CPU are right as soon as jaxes is imported, in processes of their own."""

import os
import subprocess
import sys

import pytest

MAX = "assert np.isnan(jax.jit(jnp.max)(jnp.ones(9000).at[5].set(jnp.nan)))"
SUM = """
rows = jnp.asarray(np.random.default_rng(0).normal(size=(32769, 16)), jnp.float32)
vector = jnp.asarray(np.random.default_rng(1).normal(size=16), jnp.float32)
ours = jax.jit(lambda A, v: jax.vmap(lambda a: jnp.dot(a, v))(A).sum())(rows, vector)
theirs = (np.asarray(rows, float) @ np.asarray(vector, float)).sum()
scale = np.abs(np.asarray(rows) @ np.asarray(vector)).sum()
assert abs(ours - theirs) < 1e-4 * scale, (ours, theirs)
"""


def run(code, flags=None):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {} if flags is None else {"XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("check", [MAX, SUM], ids=["max", "sum"])
def test_an_import_is_enough(check):
    done = run(f"import jaxes, jax, jax.numpy as jnp, numpy as np\n{check}")
    assert "jaxlib" not in done.stderr


def test_flags_of_the_user_stay():
    code = "import jaxes, os, jax; jax.devices(); print(os.environ['XLA_FLAGS'])"
    given = "--xla_cpu_enable_fast_math=false"
    assert run(code, given).stdout.split() == [
        given,
        "--xla_cpu_experimental_ynn_fusion_type=",
    ]
    mine = "--xla_cpu_experimental_ynn_fusion_type=dot"
    assert run(code, mine).stdout.split() == [mine]


def test_a_started_jax_is_warned_of():
    done = run("import jax; jax.devices(); import jaxes")
    assert "computes some sums and maxima wrongly on CPU" in done.stderr
    assert "import jaxes before it does" in done.stderr
