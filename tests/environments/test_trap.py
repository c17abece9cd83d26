"""The trap: moves by hand, and against exact geometry that no line slips through its walls."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxes
from jaxes.config.run import Config
from jaxes.environments import observation_size
from jaxes.environments.base import tidied
from jaxes.environments.sketch import ACCENT
from jaxes.environments.trap import State, System, _environment_of

MOVE = np.float32(0.3)
TRAPS = np.array(  # half width, opening, end
    [(2, 2, 5.5), (1.5, 2.5, 5.5), (0.05, 2, 5.5), (0.1, 0.7, 0.8), (0.01, 0.3, 0.31)], np.float32
)


@jax.jit
@jax.vmap
def moved(trap, place, action):
    """Where a point `[2]` comes in a trap `[3]`."""
    state = State(*place, System(None, None, None), jnp.int32(0))
    after, *_ = _environment_of(100, System(*trap)).step(state, action)
    return jnp.stack([after.x, after.y])


def headed(places, actions):
    """Where they would come without walls, float32 `[N, 2]`."""
    with np.errstate(over="ignore"):
        return places + np.clip(MOVE * actions, -MOVE, MOVE)


def exact(point):
    """Its float32 coordinates as whole numbers of the least of them."""
    return tuple(int(math.ldexp(float(x), 149)) for x in point)


def side(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def meet(p, q, a, b):
    """Whether two closed segments have a point in common."""
    for i in (0, 1):
        if max(p[i], q[i]) < min(a[i], b[i]) or min(p[i], q[i]) > max(a[i], b[i]):
            return False
    across, along = side(p, q, a) * side(p, q, b), side(a, b, p) * side(a, b, q)
    return across <= 0 and along <= 0


def faults(traps, places, targets, after):
    """Numbers of the moves that cross a wall, and of those that are not made though they could be,
    each to within what float32 can tell."""
    crossed, withheld = [], []
    for number, (trap, *points) in enumerate(zip(traps, places, targets, after, strict=True)):
        width, opening, end = exact(trap)
        p, q, came = map(exact, points)
        corners = [(opening, width), (end, width), (end, -width), (opening, -width)]
        walls = list(itertools.pairwise(corners))
        inside, stays = (opening <= x <= end and abs(y) <= width for x, y in (p, came))
        # Who is inside may start at a wall, stay at one, or leave between the ends of the sides.
        between = side(p, came, corners[0]) * side(p, came, corners[-1]) <= 0
        allowed = inside and (stays or (came[0] < opening and between))
        if not allowed and any(meet(p, came, *wall) for wall in walls):
            crossed.append(number)
        if came != q and not any(meet(p, q, *wall) for wall in walls):
            length = abs(q[0] - p[0]) + abs(q[1] - p[1])
            near = min(abs(side(p, q, corner)) for corner in corners)
            if near * 10**5 > length * max(map(abs, (*p, width, end))):
                withheld.append(number)
    return crossed, withheld


def cases(number, seed=0):
    """Traps, places and actions `[number, ...]`: anywhere near the walls, at most a few last bits
    from corners and walls, heading anywhere, along an axis, and for corners."""
    rng = np.random.default_rng(seed)
    traps = TRAPS[rng.integers(len(TRAPS), size=number)]
    width, opening, end = traps.T
    corners = np.stack([np.stack([x, s * width]) for x in (opening, end) for s in (1, -1)])
    one, other = (corners[rng.integers(4, size=number), :, np.arange(number)] for _ in range(2))
    ulps = rng.integers(-2, 3, (number, 2)) * np.spacing(np.abs(one))
    share = rng.random((number, 1), np.float32)
    places = [
        rng.uniform([-0.5, -2.6], [6.2, 2.6], (number, 2)),
        one + rng.uniform(-0.4, 0.4, (number, 2)),
        one + ulps,
        np.stack([one[:, 0] + ulps[:, 0], rng.uniform(-2.5, 2.5, number)], axis=1),
        np.stack([rng.uniform(1.5, 6, number), one[:, 1] + ulps[:, 1]], axis=1),
        share * one + (1 - share) * other + ulps,
    ]
    kinds = np.arange(number)
    places = np.stack(places)[rng.integers(len(places), size=number), kinds].astype(np.float32)
    free = rng.uniform(-1.5, 1.5, (number, 2))
    angle = np.pi / 4 * rng.integers(8, size=(number, 1))
    actions = [
        free,
        free * rng.integers(0, 2, (number, 2)),
        np.concatenate([np.cos(angle), np.sin(angle)], axis=1),
        (other - places) / MOVE,
        (other - places) / MOVE * (1 + rng.random((number, 1))),
        free * 10.0 ** rng.integers(-9, 38, (number, 2)),
    ]
    actions = np.stack(actions)[rng.integers(len(actions), size=number), kinds].astype(np.float32)
    return traps, places, actions


def test_no_line_crosses_a_wall_and_free_moves_are_made_exactly():
    traps, places, actions = cases(100_000)
    after = np.asarray(moved(traps, places, actions))
    targets = headed(places, actions)
    assert faults(traps, places, targets, after) == ([], [])
    made = (after == targets).all(axis=1)
    assert 0.3 < made.mean() < 0.9  # both are tried, free moves and others


def test_walls_that_are_tested_axis_by_axis_would_be_noticed():
    """A point that moves along x, if that is free, and then along y, may still pass a corner."""
    traps, places, actions = cases(5000)
    width, opening, end = traps.T
    targets = headed(places, actions)

    def holds(x, y):
        return (opening <= x) & (x <= end) & (np.abs(y) <= width)

    (x, y), (to_x, to_y) = places.T, targets.T
    after_x = np.where(holds(to_x, y) == holds(x, y), to_x, x)
    after_y = np.where(holds(x, to_y) == holds(x, y), to_y, y)
    crossed, withheld = faults(traps, places, targets, np.stack([after_x, after_y], axis=1))
    assert len(crossed) > 100
    assert len(withheld) > 100


@pytest.mark.parametrize("start", [(0, 0), (3.5, 0.7), (5.5, -2)])
def test_who_dashes_anywhere_leaves_through_the_opening(start):
    angles = np.arange(720) * np.pi / 360
    # The faster axis at full speed, as the clip makes it too for longer actions.
    actions = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    traps, places = np.tile(TRAPS[0], (720, 1)), np.tile(np.float32(start), (720, 1))
    for _ in range(30):
        after = np.asarray(moved(traps, places, actions))
        assert faults(traps, places, headed(places, actions), after) == ([], [])
        places = after
    held = (places[:, 0] >= 2) & (places[:, 0] <= 5.5) & (np.abs(places[:, 1]) <= 2)
    assert 100 < held.sum() < 700


HAND = [  # half width, place, action, place after
    (2, (0, 0), (1, -0.5), (0.3, -0.15)),
    (2, (0, 0), (9, -np.inf), (0.3, -0.3)),
    (2, (1.9, -0.5), (1, 0.2), (2.2, -0.44)),  # in
    (2, (2.1, 0), (-1, 1), (1.8, 0.3)),  # and out
    (2, (2.1, 1.5), (-1, 1), (1.8, 1.8)),
    (2, (2.1, 1.9), (-0.5, 1), (1.95, 2)),  # out along the side
    (2, (5.4, 0), (1, 0), (5.5, 0)),  # into the front, the corner, and on from there
    (2, (5.4, 1.9), (1, 1), (5.5, 2)),
    (2, (5.5, 2), (1, 1), (5.5, 2)),
    (2, (5.5, 2), (-1, -1), (5.2, 1.7)),
    (2, (3, 2), (-1, 0.5), (2.7, 2)),  # slides
    (2, (1.9, 1.95), (1, 1), (2.2, 2.25)),  # past the end of a side
    (2, (1.9, 1.85), (1, 1), (1.9, 2.15)),  # into the side from within: along y alone
    (2, (1.9, 2), (1, 0), (1.9, 2)),  # at the end of a side
    (2, (3, 2.2), (0.5, -1), (3.15, 2.2)),  # at the sides from outside
    (2, (3, -2.2), (0.5, 1), (3.15, -2.2)),
    (2, (5.6, 0), (-1, 1), (5.6, 0.3)),  # at the front from outside: along y alone
    (2, (5.6, 1.9), (-1, 0), (5.6, 1.9)),
    (2, (5.6, 2.1), (-1, -1), (5.6, 1.8)),  # around the corner
    (2, (5.4, 2.1), (1, -1), (5.7, 2.1)),
    (2, (5.45, 2.15), (1, -0.5), (5.75, 2.0)),  # and close past it
    (0.05, (3, 0.1), (0, -1), (3, 0.1)),  # over a trap thinner than a step
    (0.05, (3, 0.1), (0.2, -1), (3.06, 0.1)),
    (0.05, (1.9, 0), (1, 0), (2.2, 0)),
]


@pytest.mark.parametrize(("width", "place", "action", "expected"), HAND)
def test_moves_by_hand(width, place, action, expected):
    environment = jaxes.environments.trap(width=width)
    state, _ = environment.reset(jax.random.key(0))
    x, y = map(jnp.float32, place)
    state = state._replace(x=x, y=y)
    after, observation, reward, done = environment.step(state, jnp.array(action, jnp.float32))
    np.testing.assert_allclose([after.x, after.y], expected, atol=1e-6)
    np.testing.assert_allclose(observation, [after.x / 10, after.y / 3], rtol=1e-6)
    assert reward == after.x - x
    assert not done


@pytest.mark.parametrize("action", [(np.nan, 0), (1, np.nan)])
@pytest.mark.parametrize("place", [(0, 0), (1.9, 1), (3, 1), (5.6, 1)])
def test_an_action_that_is_no_number_is_seen(place, action):
    trap, place, action = TRAPS[:1], np.float32([place]), np.float32([action])
    assert np.isnan(moved(trap, place, action)).any()
    assert np.isnan(moved(trap, moved(trap, place, action), 0 * TRAPS[:1, :2])).any()


def walked(environment, actions, key=None):
    """The last state, observations, rewards and ends of an episode with actions `[T, 2]`."""
    state, observation = environment.reset(jax.random.key(0) if key is None else key)

    def step(state, action):
        state, *told = environment.step(state, action)
        return state, told

    last, (observations, *told) = jax.lax.scan(step, state, jnp.asarray(actions, jnp.float32))
    return last, jnp.concatenate([observation[None], observations]), *told


def test_running_straight_is_trapped_and_walking_around_escapes():
    environment = jaxes.environments.trap()
    straight = np.tile([1.0, 0.0], (100, 1))
    last, observations, rewards, ends = walked(environment, straight)
    assert (last.x, last.y) == (5.5, 0)
    assert environment.measure(last) == {"x": 5.5, "escaped": 0}
    np.testing.assert_allclose(rewards.sum(), 5.5, rtol=1e-6)
    seen = jax.vmap(environment.reward_fn)(observations[:-1], jnp.array(straight), observations[1:])
    np.testing.assert_allclose(seen, rewards, atol=3e-6)
    np.testing.assert_array_equal(ends, np.arange(1, 101) >= 100)
    assert not environment.done_fn(observations[-1])

    around = straight.copy()
    around[:8] = [0, 1]
    last, _, rewards, _ = walked(environment, around)
    np.testing.assert_allclose([last.x, last.y, rewards.sum()], [27.6, 2.4, 27.6], rtol=1e-5)
    assert environment.measure(last)["escaped"] == 1
    last, *_ = walked(environment, around[: 8 + 19])  # 5.7: past the wall, not yet away
    assert environment.measure(last)["escaped"] == 0
    last, *_ = walked(environment, around[: 8 + 21])
    assert environment.measure(last)["escaped"] == 1
    *_, ends = walked(jaxes.environments.trap(num_steps=7), straight[:9])
    np.testing.assert_array_equal(ends, np.arange(1, 10) >= 7)


def test_ranges_are_drawn_uniformly_at_each_reset():
    ranges = {"width": (0.05, 2.0), "opening": (1.0, 3.0), "end": (4.0, 4.5)}
    environment = jaxes.environments.trap(**ranges)
    keys = jax.random.split(jax.random.key(1), 2000)
    drawn = jax.vmap(lambda key: environment.reset(key)[0].drawn)(keys)
    for (low, high), values in zip(ranges.values(), drawn, strict=True):
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.01
    assert np.abs(np.corrcoef(np.stack(drawn)) - np.eye(3)).max() < 0.06
    again, _ = environment.reset(keys[5])
    assert again.drawn == tuple(values[5] for values in drawn)

    straight = np.tile([1.0, 0.0], (100, 1))
    last, *_ = walked(environment, straight, keys[5])
    assert last.x == again.drawn.end  # its own wall
    assert last.drawn == again.drawn
    wide = jaxes.environments.trap(width=(1.0, 3.0))
    assert wide.reset(keys[0])[0].drawn[1:] == (None, None)


def test_what_is_out_of_range_is_refused():
    trap = jaxes.environments.trap
    for field in ("width", "opening", "end"):
        for value in (0, -1.0, math.nan, True, "2", (0.0, 1.0), (1.0, math.inf)):
            with pytest.raises(ValueError, match=rf"^{field} must be positive.*, got "):
                trap(**{field: value})
        with pytest.raises(
            ValueError, match=rf"^{field} must be a range \(low, high\) with low <="
        ):
            trap(**{field: (9.0, 8.0)})
        with pytest.raises(
            ValueError, match=rf"^{field} must be a number or a range \(low, high\)"
        ):
            trap(**{field: (1.0, 2.0, 3.0)})
    with pytest.raises(ValueError, match=r"^end must be greater than opening, 2.0, got 2.0$"):
        trap(end=2.0)
    with pytest.raises(ValueError, match=r"^end must be greater than opening, \(1, 6\), got 5.5$"):
        trap(opening=(1, 6))
    with pytest.raises(ValueError, match=r"^num_steps must be a whole number of at least 1, got 0"):
        trap(num_steps=0)


def test_configs_name_it():
    environment = jaxes.environments.trap(width=(0.05, 2.0))
    numbers = {"opening": 2.0, "end": 5.5, "num_steps": 100}
    assert environment.spec == {"name": "trap", "width": [0.05, 2.0], **numbers}
    assert observation_size(environment) == 2
    assert tidied(environment) is environment
    config = {
        "environment": {"name": "trap", "width": [0.05, 2.0]},
        "policy": {"name": "linear"},
        "strategy": {"name": "cem", "population_size": 16},
        "training": {"num_generations": 1},
    }
    assert Config(config).build().problem.environment.spec == environment.spec


def test_it_is_drawn_where_it_is():
    """From x = -1 to 7 and y = -3 to 3, 40 pixels a meter."""
    environment = jaxes.environments.trap(width=(2.0, 2.0), end=6.0)
    state, _ = environment.reset(jax.random.key(0))
    states = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), state)
    states = states._replace(x=np.float32([0, 3]), y=np.float32([0, 1]))
    frames = environment.render(states, 320, 240)
    assert (frames.shape, frames.dtype) == ((2, 240, 320, 3), np.uint8)
    for frame, column, row in zip(frames, [40, 160], [120, 80], strict=True):
        rows, columns = np.nonzero(np.abs(frame.astype(int) - ACCENT).sum(axis=-1) < 40)
        np.testing.assert_allclose([columns.mean(), rows.mean()], [column, row], atol=1)
        assert (frame[120, 280] < 60).all()  # the front wall
        assert (frame[[40, 200], 200] < 60).all()  # the sides
        assert (frame[120, 120] > 200).all()  # the opening
