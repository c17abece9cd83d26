"""Standard normal noise as a pure function of (key, member), and sums that never hold all of it.

A scheme is `(key, members [M], dim, dtype) -> ε [M, dim]`. Whatever the scheme, each member alone
is distributed as N(0, I); schemes differ in how members of one population depend on each other.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

from jaxes import parallel
from jaxes.checks import check

Scheme = Callable[[Array, Array, int, DTypeLike], Array]
SchemeName = Literal["independent", "antithetic", "orthogonal", "sobol"]

# Noise for this many members at a time stays in a core's cache: at N = 1024, D = 10,000, drawing in
# chunks of 64 was measured twice as fast as at once, in 10 MB instead of 205.
CHUNK_SIZE = 64

ORTHOGONAL_BLOCK = 64  # members; more cost more in their QR decomposition than they gain
SOBOL_MAX_DIM = 21_201  # that many direction numbers were computed (Joe & Kuo 2008)
SOBOL_BITS = 16  # of a member's number


def independent(key: Array, members: Array, dim: int, dtype: DTypeLike) -> Array:
    """Independent members: `ε_i ~ N(0, I)`."""

    def draw(member: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, member), (dim,), dtype)

    # Uses both words of a threefry block, and so half as many blocks for float32. The flag would
    # let one draw be sharded over devices, but here each member is drawn whole on its device.
    with jax.threefry_partitionable(False):
        return jax.vmap(draw)(members)


def mirrored(scheme: Scheme) -> Scheme:
    """Members 2j and 2j + 1 are a pair, ε_j and -ε_j, with ε_j from `scheme`."""

    def draw(key: Array, members: Array, dim: int, dtype: DTypeLike) -> Array:
        def each() -> Array:
            return scheme(key, members // 2, dim, dtype)

        def pairs() -> Array:  # draws once for both
            return jnp.repeat(scheme(key, members[0::2] // 2, dim, dtype), 2, axis=0)

        sign = (1 - 2 * (members % 2)).astype(dtype)
        if members.size % 2:
            return sign[:, None] * each()
        paired = (members[0::2] % 2 == 0) & (members[1::2] == members[0::2] + 1)
        return sign[:, None] * jax.lax.cond(jnp.all(paired), pairs, each)

    return draw


antithetic = mirrored(independent)


def orthogonal(key: Array, members: Array, dim: int, dtype: DTypeLike) -> Array:
    """Blocks of min(dim, 64) members are orthogonal to each other, with independent lengths.

    A block is Q diag(‖g_1‖, ‖g_2‖, ...) where g_j ~ N(0, I) are the columns of G = QR. A length is
    independent of the direction, so each member is still N(0, I). Any member costs a whole block.

    Reference: Choromanski et al., Structured evolution with compact architectures (ICML 2018).
    """
    size = min(dim, ORTHOGONAL_BLOCK)
    blocks, positions = members // size, members % size
    distinct, which = jnp.unique(blocks, size=members.size, return_inverse=True)

    def fill(i: Array, epsilon: Array) -> Array:
        G = independent(key, distinct[i] * size + jnp.arange(size), dim, dtype).T
        Q, R = parallel.one_by_one(jnp.linalg.qr)(G)
        directions = Q * jnp.sign(jnp.diagonal(R))[None]  # uniform: R's diagonal is positive
        block = (directions * jnp.linalg.norm(G, axis=0)[None]).T
        return jnp.where((which == i)[:, None], block[positions], epsilon)

    start = jnp.zeros((members.size, dim), dtype)
    return jax.lax.fori_loop(0, jnp.max(which, initial=-1) + 1, fill, start)


def sobol(key: Array, members: Array, dim: int, dtype: DTypeLike) -> Array:
    """Quasi-random members: inverse transform sampling, `ε_i = Φ⁻¹(u_i)`, of a Sobol sequence.

    The points are shifted (bitwise, by a random number a coordinate), so that each is uniform and
    2^k of them in a row from a multiple of 2^k on have one in each of the 2^k equal intervals of
    every coordinate. Best with a population that is a power of two, of at most 65,536.

    Raises:
      ValueError: more than 21,201 dimensions.

    Reference: Owen, Monte Carlo theory, methods and examples, chapter 17.
    """
    check("mean", dim, dim <= SOBOL_MAX_DIM, f"of at most {SOBOL_MAX_DIM} dimensions for sobol")
    directions = jnp.asarray(_sobol_directions(dim))  # [16, dim]
    shift = jax.random.bits(key, (dim,), jnp.uint32)
    bit = jnp.arange(directions.shape[0], dtype=jnp.uint32)

    def point(member: Array) -> Array:
        used = ((member.astype(jnp.uint32) >> bit) & 1)[:, None] * directions
        return jax.lax.reduce(used, np.uint32(0), jax.lax.bitwise_xor, (0,)) ^ shift

    # As many bits as the dtype can hold on both sides of 1/2; the middle of each interval.
    num_bits = min(32, jnp.finfo(dtype).nmant)
    bits = (jax.vmap(point)(members) >> (32 - num_bits)).astype(dtype)
    return jax.scipy.special.ndtri((bits + 0.5) / 2**num_bits)


@functools.cache
def _sobol_directions(dim: int) -> np.ndarray:
    """uint32 `[16, dim]`: the point of number Σ b_k 2^k is the exclusive or of the rows with b_k.

    SciPy's sequence is in Gray-code order, in which the points before and after number 2^k differ
    by row k.
    """
    from scipy.stats import qmc

    sequence = qmc.Sobol(dim, scramble=False, bits=32)
    rows = []
    for k in range(SOBOL_BITS):
        sequence.reset()
        if k > 0:  # skipping none is an error in SciPy
            sequence.fast_forward(2**k - 1)
        before = sequence.random(1)
        pair = np.concatenate([before, sequence.random(1)]) * 2.0**32
        rows.append(np.bitwise_xor.reduce(pair.astype(np.uint32)))
    return np.stack(rows)


SCHEMES: dict[str, Scheme] = {
    "independent": independent,
    "antithetic": antithetic,
    "orthogonal": orthogonal,
    "sobol": sobol,
}


class Held(NamedTuple):
    """A key with the noise that is drawn from it, `[N, D]`: see `Strategy.hold`."""

    key: Array
    noise: Array


class Sampler(NamedTuple):
    """The noise of one population: how it is drawn, and how many members' are held at once.

    Attributes:
      scheme: how it is drawn.
      population_size: N.
      chunk_size: the members whose noise `sum` holds at once.
    """

    scheme: Scheme
    population_size: int
    chunk_size: int = CHUNK_SIZE

    def __call__(self, key: Array, members: Array, mean: Array) -> Array:
        """The noise `[M, D]` of `members [M]`, in the shape and dtype of `mean [D]`."""
        noise = self.scheme(key, members, mean.size, mean.dtype)
        shape = (members.size, mean.size)
        check("sampling", noise.shape, noise.shape == shape, f"a scheme that draws {shape}")
        return noise

    def of(self, key: Any) -> "Sampler":
        """What draws from this key: itself, or what reads the noise that the key holds."""
        if not isinstance(key, Held):
            return self
        return self._replace(scheme=lambda _, members, *shape: key.noise[members])

    def sum(self, contribution: Callable[..., Any], key: Array, mean: Array, *of: Array) -> Any:
        """`Σ contribution(ε, ...)` over all members, a chunk at a time: memory is bounded.

        Args:
          contribution: `(ε [M, D], *of [M, ...]) -> pytree of sums over these M members`.
          key: the key of the population.
          mean: `[D]`, for its shape and dtype.
          *of: arrays `[N, ...]` with a row for each member, such as its weight.
        """

        def chunk(start: Array | int, size: int) -> Any:
            members = start + jnp.arange(size, dtype=jnp.int32)
            rows = (jax.lax.dynamic_slice_in_dim(array, start, size) for array in of)
            return contribution(self(key, members, mean), *rows)

        def add(left: Any, right: Any) -> Any:
            return jax.tree.map(jnp.add, left, right)

        size = min(self.chunk_size, self.population_size)
        num_chunks, remainder = divmod(self.population_size, size)
        total = chunk(0, size)
        if num_chunks > 1:
            starts = size * jnp.arange(1, num_chunks, dtype=jnp.int32)
            total, _ = jax.lax.scan(
                lambda total, start: (add(total, chunk(start, size)), None), total, starts
            )
        return add(total, chunk(num_chunks * size, remainder)) if remainder else total
