import inspect

import jax.numpy as jnp
import numpy as np

from jaxes.problems.numbering import Numbering


def test_the_table_of_the_docstring():
    numbering, job = Numbering(2, 2, num_test_episodes=1, num_trials=2), jnp.arange(10)
    table = {
        line.split()[0]: line.split()[1:11]
        for line in inspect.cleandoc(Numbering.__doc__).splitlines()
        if line.startswith("    ") and line.split()
    }
    for row in ("trial", "episode", "key"):
        assert getattr(numbering, row)(job).tolist() == [int(entry) for entry in table[row]]
    tests = np.array([entry == "x" for entry in table["is_test"]])
    np.testing.assert_array_equal(numbering.is_test(job), tests)
    members = [entry for entry in table["member"] if entry != "-"]
    assert numbering.member(job)[~tests].tolist() == [int(entry) for entry in members]
    assert (numbering.member(job) < 2).all()


def test_numbers_of_no_job_are_replaced():
    numbering = Numbering(2, 2, num_test_episodes=1, num_trials=2)
    assert numbering.existing(jnp.array([7, 10, 8])).tolist() == [7, 7, 8]
    assert numbering.existing(jnp.array([10, 12])).tolist() == [9, 9]
