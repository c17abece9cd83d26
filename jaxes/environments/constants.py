"""The numbers of a physics as NumPy's, so that what is computed of them alone is computed once.

XLA folds terms of constants, but in an order that depends on the program around them: the quotient
of two, such as a stiffness and a time step, is `a / b` in one program and `a * (1 / b)` in another,
in which the division was rewritten before both were known in the loop where it stands. The last bit
of a run must not depend on that. NumPy divides while a program is traced, and what JAX traces of
its numbers stands in the loop itself.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")


def with_plain_numbers(system: T) -> T:
    """The pytree with every float that is known now, `[]`, as a NumPy scalar; arrays and what is
    traced stay as they are."""
    return jax.tree.map(_plain, system)


def _plain(leaf: Any) -> Any:
    known = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
    if known and leaf.ndim == 0 and jnp.issubdtype(leaf.dtype, jnp.floating):
        return np.asarray(leaf)[()]
    return leaf
