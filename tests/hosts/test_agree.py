"""What a process alone agrees on with itself; many do in test_processes_as_one.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxes.hosts import agree


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": 1}, {"a": 1}),
        ({"a": {"b": {"c": None}}, "d": "e"}, {"a.b.c": None, "d": "e"}),
        ({"a": [1, {"b": 2}, [3]]}, {"a[0]": 1, "a[1].b": 2, "a[2][0]": 3}),
        ([{"a": 1}, 2], {"[0].a": 1, "[1]": 2}),
        ({"a": {}, "b": []}, {}),
        (7, {"": 7}),
    ],
)
def test_nested_data_is_flat_by_its_paths(data, expected):
    assert agree.flat(data) == expected


def test_a_process_alone_is_the_first():
    made = {"path": object(), (1, 2): jnp.ones(2)}  # nothing that JSON has
    assert agree.of_first(lambda: made) is made
    with pytest.raises(OSError, match="of its own"):
        agree.of_first(lambda: fail(OSError("of its own")))


def fail(error):
    raise error


def test_a_process_alone_says_what_all_say():
    said = agree.gathered([1, 2.5, 1e-300, np.nan])
    assert said.dtype == np.float64
    np.testing.assert_array_equal(said, [[1, 2.5, 1e-300, np.nan]])


def test_a_process_alone_is_like_all():
    agree.check_same("run", {"sigma": np.float32(1), "more": [object()]})
