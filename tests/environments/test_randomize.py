"""Randomized environments: what is drawn, of which leaves, by which key, and what is refused."""

import functools
import importlib.util
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxes
from jaxes import Ramp
from jaxes.environments import randomized as fitted
from jaxes.environments.randomize import from_config
from jaxes.environments.randomized import changed, leaves_read
from jaxes.hparams import paths
from jaxes.problems.tasks import Task, physics_of
from jaxes.randomize import gravity, randomized, scale, uniform

NUM_DRAWS = 4000
KEYS = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(7)))(jnp.arange(NUM_DRAWS))


class Limb(NamedTuple):
    mass: Any  # [3]
    width: Any  # [3], which nothing reads


class Body(NamedTuple):
    limbs: dict[str, Limb]
    gravity: Any  # [3]
    springs: tuple[Any, Any]  # of which the second is read
    count: Any  # an int


def body_of(system: Body) -> jaxes.Environment:
    """A state is what was earned: the numbers of the system, and the action."""

    def step(earned, action):
        masses, spring = system.limbs["arm"].mass, system.springs[1]
        reward = jnp.sum(masses) + system.gravity[2] + spring * action[0] + system.count
        return earned + reward, earned[None], reward, jnp.bool_(False)

    def reset(key):
        start = jax.random.normal(key)
        return start, start[None]

    return jaxes.Environment(reset, step, 1, "body", system=system, with_system=body_of)


ARM = Limb(jnp.array([1.0, 2.0, 4.0]), jnp.ones(3))
SYSTEM = Body({"arm": ARM}, jnp.array([0.0, 0.0, -9.8]), (0.5, 1.5), 3)
BODY = body_of(SYSTEM)
MASS, GRAVITY, SPRING = 0, 2, 4  # places of leaves; 1 is the width, 3 the other spring


def drawn(randomizer, keys=KEYS, environment=BODY):
    """The systems of these keys, as a search in the environment draws them."""
    made = randomized(environment, randomizer)
    return jax.jit(jax.vmap(lambda key: made.randomize(key, environment.system)))(keys)


def assert_uniform(numbers, low, high):
    """By the Kolmogorov-Smirnov statistic, which 1 in 1,000 samples exceeds."""
    shares = np.sort((np.asarray(numbers, np.float64) - low) / (high - low))
    steps = np.arange(len(shares) + 1) / len(shares)
    assert shares[0] >= 0
    assert shares[-1] <= 1 + 1e-6
    furthest = max(np.max(steps[1:] - shares), np.max(shares - steps[:-1]))
    assert furthest < 1.95 / np.sqrt(len(shares))


def test_each_number_of_a_leaf_is_multiplied_by_its_own_factor():
    systems = drawn(scale("limbs.arm.mass", 0.5, 2.0))
    factors = np.asarray(systems.limbs["arm"].mass / ARM.mass)
    for column in factors.T:
        assert_uniform(column, 0.5, 2.0)
    np.testing.assert_allclose(np.corrcoef(factors.T), np.eye(3), atol=0.06)


def test_a_shared_factor_is_that_of_all_numbers():
    systems = drawn(scale("limbs.arm.mass", 0.5, 2.0, shared=True))
    factors = np.asarray(systems.limbs["arm"].mass / ARM.mass)
    np.testing.assert_allclose(factors, factors[:, :1].repeat(3, axis=1), rtol=1e-6)
    assert_uniform(factors[:, 0], 0.5, 2.0)


def test_uniform_stands_in_the_place_of_the_numbers():
    systems = drawn(uniform("springs.1", -3.0, -1.0) | uniform("limbs.arm.mass", 7, 9, shared=True))
    assert_uniform(systems.springs[1], -3.0, -1.0)
    masses = np.asarray(systems.limbs["arm"].mass)
    np.testing.assert_array_equal(masses, masses[:, :1].repeat(3, axis=1))
    assert_uniform(masses[:, 0], 7, 9)


def test_gravity_keeps_its_direction():
    systems = drawn(gravity(0.7, 1.3))
    np.testing.assert_array_equal(systems.gravity[:, :2], 0)
    assert_uniform(systems.gravity[:, 2] / -9.8, 0.7, 1.3)


def test_each_part_has_a_key_of_its_own_and_the_same_key_the_same_system():
    both = uniform("springs.1", 0, 1) | uniform("limbs.arm.mass", 0, 1, shared=True)
    systems = drawn(both)
    pair = np.stack([systems.springs[1], systems.limbs["arm"].mass[:, 0]])
    np.testing.assert_allclose(np.corrcoef(pair), np.eye(2), atol=0.06)
    np.testing.assert_array_equal(systems.springs[1], drawn(uniform("springs.1", 0, 1)).springs[1])
    again = drawn(both, KEYS[5:6])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[5], b[0]), systems, again)
    assert len(np.unique(systems.springs[1])) > NUM_DRAWS * 0.99


def twice(key, system):
    return system._replace(springs=(0.5, 2.0 * system.springs[1]))


def test_functions_go_with_parts_on_either_side():
    half, seven = scale("springs.1", 0.5, 0.5), uniform("springs.1", 7, 7)
    for composed, expected in [
        (twice | half, 1.5),
        (half | twice, 1.5),
        (twice | seven, 7.0),
        (seven | twice, 14.0),
        (half | (lambda key, system: system) | (lambda key, system: system), 0.75),
    ]:
        assert float(drawn(composed, KEYS[:1]).springs[1][0]) == expected


def test_only_leaves_that_are_drawn_and_read_ride_along():
    made = randomized(BODY, scale("springs.1", 0.5, 2) | (wider))
    assert made.randomize.leaves == (SPRING,)  # the width is drawn as well, and nobody reads it
    assert changed(made.randomize, SYSTEM) == (1, SPRING)
    made = randomized(BODY, scale("limbs.arm.mass", 0.5, 2), gravity(1, 2))
    assert (made.randomize.leaves, made.test_randomize.leaves) == ((MASS,), (GRAVITY,))
    task = Task.of(made, 1)
    (physics,) = physics_of([task])
    for kind in task.kinds:
        found = physics.draw(kind, 0, task, made.randomize.ranges, jax.random.key(0))
        assert [leaf.shape for leaf in found.leaves] == [(3,), (3,)]
        pairs = zip(found.leaves, (ARM.mass, SYSTEM.gravity), strict=True)
        same = [np.array_equal(*pair) for pair in pairs]
        assert same == {"base": [1, 1], "randomized": [0, 1], "held_out": [1, 0]}[kind]


def wider(key, system):
    arm = system.limbs["arm"]._replace(width=jax.random.normal(key, (3,)))
    return system._replace(limbs={"arm": arm})


def test_what_draws_nothing_leaves_the_environment_as_it_is():
    made = randomized(BODY, lambda key, system: system)
    assert (made.randomize, made.test_randomize) == (None, None)
    assert randomized(BODY) is BODY


def test_tests_may_be_randomized_later():
    once = randomized(BODY, gravity(0.5, 2))
    both = randomized(once, test_randomize=gravity(3, 4))
    assert both.randomize is once.randomize
    assert both.test_randomize.ranges == {"gravity": (3, 4)}


def batched(system, keys):
    """Of Brax's form; a search makes it with one key."""

    @jax.vmap
    def draw(key):
        return system.gravity * jax.random.uniform(key, minval=0.5)

    in_axes = jax.tree.map(lambda _: None, system)
    return system._replace(gravity=draw(keys)), in_axes._replace(gravity=0)


def test_a_function_of_braxs_form_is_called_with_one_key():
    made = randomized(BODY, batched)
    assert made.randomize.leaves == (GRAVITY,)
    key = jax.random.key(3)
    by_hand, _ = batched(SYSTEM, jax.random.fold_in(key, 0)[None])
    found = made.randomize(key, SYSTEM)
    np.testing.assert_array_equal(found.gravity, by_hand.gravity[0])
    np.testing.assert_array_equal(found.limbs["arm"].mass, ARM.mass)


GO1 = "".join(
    f'<body><joint axis="0 1 0" frictionloss="0.1"/><geom size="0.1" mass="{1 + i}"/></body>'
    for i in range(12)
)
GO1 = f"""<mujoco><worldbody><geom type="plane" size="5 5 1"/>
<body><freejoint/><geom size="0.2" mass="5"/>{GO1}</body></worldbody></mujoco>"""


def sums(system):
    """Reads what Playground's randomizers draw, without physics."""

    def step(state, action):
        reward = sum(map(jnp.sum, (system.body_mass, system.dof_frictionloss, system.qpos0)))
        return state, action, reward + action[0], jnp.bool_(False)

    return jaxes.Environment(
        lambda key: (jnp.zeros(1), jnp.zeros(1)), step, 1, system=system, with_system=sums
    )


@pytest.mark.slow
def test_a_randomizer_of_playgrounds_registry_runs_as_it_is():
    if importlib.util.find_spec("mujoco_playground") is None:
        pytest.skip("needs mujoco_playground")
    jaxes.environments.playground("CartpoleBalance", "jax")  # quietly imported
    import mujoco
    from mujoco import mjx
    from mujoco_playground import registry

    theirs = registry.get_domain_randomizer("Go1JoystickFlatTerrain")
    model = mjx.put_model(mujoco.MjModel.from_xml_string(GO1))
    made = randomized(sums(model), theirs)
    names = ("body_mass", "dof_frictionloss", "qpos0")

    @jax.jit
    def both(key):
        ours = made.randomize(key, model)
        by_hand, _ = theirs(model, jax.random.fold_in(key, 0)[None])
        return [(getattr(ours, name), getattr(by_hand, name)[0]) for name in names]

    for name, (found, expected) in zip(names, both(jax.random.key(3)), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert not np.array_equal(found, getattr(model, name))
    assert len(made.randomize.leaves) == 3
    assert len(changed(made.randomize, model)) > 3


@pytest.fixture(scope="module")
def known():
    """Hopper, and the leaves that its physics reads; a look at it takes seconds."""
    environment = jaxes.environments.brax("hopper")
    return environment, leaves_read(environment)


@pytest.fixture
def hopper(known, monkeypatch):
    environment, read = known
    monkeypatch.setattr(fitted, "leaves_read", lambda environment: read)
    return environment


def an_episode_of(environment):
    """What is computed: compiled, two of these would take a minute."""

    def episode(key):
        state, observation = environment.reset(key)
        return observation, environment.step(state, jnp.full(3, 0.5))

    return jax.make_jaxpr(episode)(jax.random.key(1))


def test_hoppers_masses_change_its_physics(hopper):
    made = randomized(hopper, scale("link.inertia.mass", 0.5, 2.0))
    system = hopper.system
    leaves = jax.tree.leaves(system)
    assert [leaves[i] is system.link.inertia.mass for i in made.randomize.leaves] == [True]
    found = made.randomize(jax.random.key(2), system)
    mass = found.link.inertia.mass
    factors = np.asarray(mass / system.link.inertia.mass)
    assert ((factors >= 0.5) & (factors <= 2)).all()
    assert len(set(factors.tolist())) == mass.size

    from brax import envs

    env = envs.get_environment("hopper", backend="spring")
    env.sys = env.sys.tree_replace({"link.inertia.mass": mass})
    by_hand = jaxes.environments.brax(env)
    ours, theirs, base = map(an_episode_of, (made.with_system(found), by_hand, hopper))
    assert str(ours.jaxpr) == str(theirs.jaxpr)
    pairs = zip(ours.consts, base.consts, strict=False)
    assert not all(np.array_equal(*pair) for pair in pairs)
    for pair in zip(ours.consts, theirs.consts, strict=True):
        np.testing.assert_array_equal(*pair)


def test_a_function_of_braxs_own_documentation_runs_on_hopper(hopper):
    def domain_randomize(sys, rng):
        @jax.vmap
        def rand(rng):
            _, key = jax.random.split(rng, 2)
            return sys.link.inertia.mass * jax.random.uniform(key, (1,), minval=0.6, maxval=1.4)

        in_axes = jax.tree_util.tree_map(lambda x: None, sys)
        in_axes = in_axes.tree_replace({"link.inertia.mass": 0})
        return sys.tree_replace({"link.inertia.mass": rand(rng)}), in_axes

    made = randomized(hopper, domain_randomize)
    key = jax.random.key(4)
    by_hand, _ = domain_randomize(hopper.system, jax.random.fold_in(key, 0)[None])
    mass = made.randomize(key, hopper.system).link.inertia.mass
    np.testing.assert_array_equal(mass, by_hand.link.inertia.mass[0])
    assert len(made.randomize.leaves) == 1


def test_gravity_is_the_one_that_springs_read(hopper):
    made = randomized(hopper, gravity(0.5, 2))
    assert made.randomize.parts[0][1].path == "gravity"
    with pytest.raises(ValueError, match=r"'spring' does not read 'body_mass'; .* link.inertia.ma"):
        randomized(hopper, scale("body_mass", 0.5, 2))
    with pytest.raises(ValueError, match=r"no 'link.inertia.mas' .* mean 'link.inertia.mass'"):
        randomized(hopper, scale("link.inertia.mas", 0.5, 2))


def test_two_environments_of_one_name_are_one_physics(hopper):
    other = jaxes.environments.brax("hopper")
    tasks = [Task(name, env, 11, 1) for name, env in {"a": hopper, "b": other}.items()]
    assert [physics.differs for physics in physics_of(tasks)] == [()]


@pytest.mark.slow
def test_on_mjx_other_leaves_are_read():
    mjx = jaxes.environments.brax("hopper", "mjx")
    made = randomized(mjx, gravity(0.5, 2) | scale("body_mass", 0.5, 2))
    names = list(paths(mjx.system))
    assert [names[leaf] for leaf in made.randomize.leaves] == ["opt.gravity", "body_mass"]
    found = made.randomize(jax.random.key(0), mjx.system)
    assert 0.5 < found.opt.gravity[2] / mjx.system.opt.gravity[2] < 2
    np.testing.assert_array_equal(found.gravity, found.opt.gravity)  # Brax's own, which rests
    with pytest.raises(ValueError, match=r"'mjx' does not read 'link.inertia.mass'; .* body_mass"):
        randomized(mjx, scale("link.inertia.mass", 0.5, 2))


@pytest.mark.parametrize("name", ["pendulum", "continuous_cartpole", "trap"])
def test_all_that_the_systems_of_jaxes_have_can_be_drawn(name):
    environment = getattr(jaxes.environments, name)()
    names = environment.system._fields
    every = functools.reduce(lambda a, b: a | b, [scale(name, 0.5, 2) for name in names])
    assert randomized(environment, every).randomize.leaves == tuple(range(len(names)))


def fails(key, system):
    raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (scale("limbs.arm.mas", 1, 2), "mas: body has no .* did you mean 'limbs.arm.mass'"),
        (scale("tail", 1, 2), "randomize.tail: body has no 'tail' in its system; there are limbs"),
        (scale("limbs.arm.width", 1, 2), "does not read 'limbs.arm.width'; it reads limbs.arm.mas"),
        (scale("count", 1, 2), r"randomize.count: count must be floats, got 'int32\[\]"),
        (gravity(1, 2) | gravity(1, 3), "randomize.gravity must be the name of one part alone"),
        (wider, "must be of leaves that the physics of body reads, got .'limbs.arm.width'"),
        (fails, "randomize.fails must be a function .*, and fails: RuntimeError: no idea"),
        (lambda key, system: None, "to a system of the same structure, got 'None'"),
        (lambda key, system: system.limbs, "to a system of the same structure"),
        (
            lambda key, system: system._replace(gravity=jnp.zeros(4)),
            r"its gravity must be like the system's, float32\[3\], got .*float32\[4\]",
        ),
        (
            lambda key, system: system._replace(gravity=jnp.zeros(3, jnp.int32)),
            r"its gravity must be like .*, got .*int32\[3\]",
        ),
        (3, "randomize must be made by jaxes.randomize, or a function .key, system., got 3"),
        ({}, "randomize must be a mapping by name, got {}"),
        (
            {"m": {"kind": "scale", "path": "masss", "low": 1, "high": 2}},
            "randomize.m: body has no 'masss'",
        ),
    ],
)
def test_bad_randomizers_are_refused_before_anything_runs(given, message):
    with pytest.raises(ValueError, match=message) as refusal:
        randomized(BODY, given)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match="test_randomize"):
        randomized(BODY, test_randomize=given)


def test_what_tests_alone_draw_follows_no_ramp():
    with pytest.raises(ValueError, match="test_randomize must be of ranges that follow no Ramp"):
        randomized(BODY, test_randomize=gravity(1, Ramp(1, 2, 3)))


def test_an_environment_without_a_system_is_refused():
    with pytest.raises(ValueError, match="randomize must be of an environment that has a system"):
        randomized(BODY._replace(system=None, with_system=None), gravity(1, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mass", 2, 1), "mass.low must be at most high, 1.0, got 2.0"),
        (("mass", np.nan, 1), "mass.low must be a finite number, got nan"),
        (("mass", 0.5, True), "mass.high must be a finite number, got True"),
        (("mass", 0.5, 10**400), "mass.high must be a finite number, got 1000"),
        (("mass", 0.5, np.ones(3)), "mass.high must be a finite number, got array"),
        (("a.mass", -0.5, 1), "mass.low must be at least 0, got -0.5"),
        (("", 1, 2), "path must be a path, such as gravity, got ''"),
        (("mass", 1, Ramp(2, 3, 0)), "mass.high.num_generations must be a whole number of at"),
        (("mass", Ramp(1, 3, 4), Ramp(2, 2, 9)), "mass.low must be at most high, 2.0, got 3.0"),
        (("mass", Ramp(0, 5, 1), Ramp(1, 6, 100)), "mass.low must be at most high, 1.05, got 5"),
    ],
)
def test_bad_ranges_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        scale(*arguments)
    if "least 0" not in message:
        with pytest.raises(ValueError, match=message):
            uniform(*arguments)


def test_ramps_may_cross_where_they_end():
    scale("mass", Ramp(0.1, 0.3, 7), 0.3)
    scale("mass", Ramp(0, 1, 10), Ramp(0, 1, 10))


FORM = {"kind": "scale", "path": "gravity", "low": 0.5, "high": 2}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "randomize must be a mapping by name"),
        ({"x": 3}, "randomize.x must be {kind, path, low, high}, got 3"),
        ({"x": FORM | {"kind": "scal"}}, "x.kind must be one of .* did you mean 'scale'"),
        ({"x": {"low": 1}}, "randomize.x.kind must be one of scale, uniform, gravity, got None"),
        ({"x": FORM | {"hihg": 1}}, "randomize.x must be one of .* mean 'high'"),
        ({"x": {"kind": "scale", "low": 1, "high": 2}}, "randomize.x must be with the field path"),
        ({"x": FORM | {"kind": "gravity"}}, "x must be one of kind, low, high, got 'path'"),
        ({"x": FORM | {"low": "a"}}, "randomize.x.low must be a finite number, got 'a'"),
        ({"x": FORM | {"low": 3}}, "randomize.x.low must be at most high, 2.0, got 3.0"),
        ({"x": FORM | {"shared": 1}}, "randomize.x.shared must be a bool, got 1"),
        ({"x": FORM | {"path": 1}}, "randomize.x.path must be a path"),
        ({"x.y": FORM}, "randomize.x.y.name must be a name without dots"),
        ({"x": FORM | {"low": {"strat": 1}}}, "x.low must be one of start, end.* mean 'start'"),
        ({"x": FORM | {"low": {"start": 1}}}, "x.low must be with the fields start, end, num_gen"),
    ],
)
def test_bad_configs_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        from_config(content)


def test_a_config_says_all_that_is_drawn():
    ramp = Ramp(0.5, 2.0, 10)
    made = scale("gravity", 0.5, ramp, name="g") | uniform("springs.1", 1, 2, shared=True)
    made |= gravity(0.5, 2)
    assert from_config(made.plain()) == made
    with pytest.raises(TypeError):
        (made | twice).plain()


def test_nothing_that_is_traced_stays_in_a_function():
    with jax.checking_leaks():
        systems = drawn(scale("limbs.arm.mass", 0.5, 2) | twice | batched, KEYS[:2])
    assert float(systems.springs[1][1]) == 3


def test_nothing_that_is_traced_stays_in_the_environment(hopper):
    made = randomized(hopper, scale("link.inertia.mass", 0.5, 2))
    with jax.checking_leaks():
        jax.eval_shape(
            lambda key: made.with_system(made.randomize(key, made.system)).reset(key),
            jax.random.key(0),
        )
    for system in (made.system, hopper.with_system.make.args[0].unwrapped.sys, SYSTEM):
        assert not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(system))
