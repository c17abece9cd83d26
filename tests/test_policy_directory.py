"""What leaves a run acts as the run's policy did, and what is damaged is named."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from departures import BUILT_IN, KEY, OWN, A, O, acts, ended, observations, search, start, world
from jax import export

import jaxes
from jaxes.policies import initial_state
from jaxes.policy_directory import digest_of

DOCS = Path(__file__).parents[1] / "docs" / "policies.md"
KINDS = BUILT_IN | OWN


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """`(name, **settings) -> (path, problem, result)`, each made once."""
    folder, made = tmp_path_factory.mktemp("policies"), {}

    def leave(name, environment=None, **settings):
        key = name, str(settings), environment and environment.num_actions
        if key not in made:
            problem = search(KINDS[name], environment, **settings)
            result, path = ended(problem), folder / str(len(made))
            jaxes.export(result, path, problem)
            made[key] = path, problem, result
        return made[key]

    return leave


def raw(tree):
    """The leaves, keys as their data."""
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [jax.random.key_data(x) if is_key(x) else x for x in jax.tree.leaves(tree)]


def assert_equal(ours, theirs, exact=True):
    tolerance = 0 if exact else 1e-6
    for a, b in zip(jax.tree.leaves(ours), raw(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@partial(jax.jit, static_argnums=0)
def follow(act, memory, seen):
    """Actions and memories along some observations, step by step."""

    def step(memory, observation):
        action, memory = act(memory, observation)
        return memory, (action, memory)

    return jax.lax.scan(step, memory, seen)[1]


@pytest.mark.parametrize(
    ("name", "normalize"), [*((name, True) for name in KINDS), ("mlp", False), ("matrix", False)]
)
def test_it_acts_as_the_policy_of_its_problem(name, normalize, left):
    path, problem, result = left(name, normalize_observations=normalize)
    loaded = jaxes.load_policy(path)
    act, memory = acts(problem, result)
    first = initial_state(loaded, KEY)
    memory = memory(KEY) if callable(memory) else memory
    assert_equal(first, memory)
    seen = observations(12)
    ours, theirs = follow(loaded.apply, first, seen), follow(act, memory, seen)
    assert_equal(ours, theirs, exact=name in BUILT_IN)
    assert np.ptp(ours[0], axis=0).min() > 0.1
    loaded.reset(KEY)
    in_loop = [loaded.act(observation.tolist()) for observation in seen]
    np.testing.assert_allclose(in_loop, ours[0], rtol=1e-5, atol=1e-6)
    loaded.reset(KEY)
    np.testing.assert_array_equal(loaded.act(seen[0]), in_loop[0])
    assert in_loop[0].shape == (A,)
    assert in_loop[0].flags.writeable


@pytest.mark.parametrize("name", ["mlp", "nnx"])
def test_discrete_actions_are_numbers(name, left):
    path, problem, result = left(name, world(4))
    loaded = jaxes.load_policy(path)
    act, memory = acts(problem, result)
    seen = observations(12)
    expected = follow(act, memory, seen)[0].tolist()
    found = [loaded.act(observation) for observation in seen]
    assert found == expected
    assert len(set(found)) > 1
    assert all(type(action) is int for action in found)
    assert (loaded.num_actions, loaded.action_size, loaded.num_outputs) == (4, None, 4)
    action, _ = loaded.apply(loaded.initial_state, seen[0])
    assert (action.dtype, action.shape) == (jnp.int32, ())


def programs(path):
    return {file.name: export.deserialize(bytearray(file.read_bytes())) for file in
            sorted(path.glob("*.stablehlo"))}  # fmt: skip


@pytest.mark.parametrize(("name", "sizes"), [("gru", (1, 3, 64)), ("linen", (3,))])
def test_the_program_takes_batches_of_any_size(name, sizes, left):
    path, problem, result = left(name)
    found = programs(path)
    assert all(program.platforms == ("cpu", "cuda", "tpu") for program in found.values())
    act, memory = acts(problem, result)
    keys, seen = jax.random.split(KEY, 64), observations(64)
    if name == "linen":
        memory = jax.jit(jax.vmap(memory))(keys)
    else:
        assert found.keys() == {"policy.stablehlo"}
        memory = np.tile(memory, (64, 1))
    leaves = raw(memory)
    expected = raw(jax.jit(jax.vmap(act))(memory, seen))
    for size in sizes:
        first = [leaf[:size] for leaf in leaves]
        if name == "linen":
            start = found["initial_state.stablehlo"].call(jax.random.key_data(keys[:size]))
            assert_equal(start, first, exact=False)
        ours = found["policy.stablehlo"].call(*first, seen[:size])
        assert_equal(ours, [leaf[:size] for leaf in expected], exact=False)


@pytest.mark.parametrize("name", ["gru", "linen"])
def test_it_is_jitted_vmapped_and_scanned(name, left):
    loaded = jaxes.load_policy(left(name)[0])
    many = jnp.asarray(observations(24)).reshape(2, 3, 4, O)

    def episode(key, seen):
        """The actions over observations [T, O]."""
        memory = initial_state(loaded, key)
        return jax.lax.scan(lambda memory, x: loaded.apply(memory, x)[::-1], memory, seen)[1]

    keys = jax.random.split(KEY, (2, 3))
    found = jax.jit(jax.vmap(jax.vmap(episode)))(keys, many)
    assert found.shape == (2, 3, 4, A)
    for i, j in ((0, 0), (1, 2)):
        loaded.reset(keys[i, j])
        expected = np.stack([loaded.act(x) for x in many[i, j]])
        np.testing.assert_allclose(found[i, j], expected, rtol=1e-5, atol=1e-6)


def test_one_memory_serves_many_observations(left):
    """Of a vmap, what is the same for all is repeated."""
    loaded = jaxes.load_policy(left("nnx")[0])
    seen = observations(5)
    found, memory = jax.vmap(loaded.apply, in_axes=(None, 0))(loaded.initial_state, seen)
    expected = [loaded.apply(loaded.initial_state, x)[0] for x in seen]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(memory[0], np.full(5, 2))


def test_what_a_policy_observes_may_be_any_tree_of_as_many_numbers(left):
    loaded = jaxes.load_policy(left("mlp")[0])
    expected = loaded.act([1, 2, 3])
    for same in ({"a": 1, "b": np.array([[2, 3]])}, (1.0, (2.0, 3)), np.array([1.0, 2, 3])):
        np.testing.assert_array_equal(loaded.act(same), expected)
    for other in (np.zeros(4), np.zeros((2, O)), {"a": "text"}, None):
        with pytest.raises(ValueError, match=r"observation must be 3 numbers, .* got "):
            loaded.act(other)


def test_it_says_what_it_is(left):
    path = left("mlp")[0]
    about = jaxes.load_policy(path).about
    assert json.loads((path / "policy.json").read_text()) == about | {"sha256": digest_of(about)}
    assert about["policy"] == {
        "name": "mlp", "hidden": [32, 32], "activation": "tanh", "output": "tanh",
    }  # fmt: skip
    assert (about["environment"], about["environment_name"]) == (None, "world")
    assert (about["observation_size"], about["action_size"], about["num_actions"]) == (O, A, None)
    assert about["episodes"] == {"episode_length": 6, "num_episodes": 1, "num_test_episodes": 5}
    told = about["result"]
    assert (told["seed"], told["generation"], told["return_mean"]) == (11, 7, 2.0)
    assert told["population_return"] is None  # NaN
    assert about["versions"]["jax"] == jax.__version__
    assert about["files"].keys() == {"params.safetensors", "policy.stablehlo"}
    for name in ("linen", "matrix"):
        assert jaxes.load_policy(left(name)[0]).about["policy"] is None


def test_the_lines_of_numpy_in_the_docs(left, tmp_path, monkeypatch):
    path, problem, result = left("mlp")
    shutil.copytree(path, tmp_path / "policies" / "pendulum")
    monkeypatch.chdir(tmp_path)
    loaded = jaxes.load_policy(path)
    observation = observations(1)[0]
    (code,) = re.findall(r"```python\n(import numpy.*?)```", DOCS.read_text(), re.DOTALL)
    names = {"observation": observation, "action": loaded.act(observation)}  # of earlier blocks
    exec(code, names)
    act, memory = acts(problem, result)
    assert np.abs(observations(500)).max() > 1e4
    seen = observations(500)
    ours = [names["act"](observation) for observation in seen]
    for theirs in (loaded.apply, act):
        expected, _ = jax.vmap(theirs, in_axes=(None, 0))(memory, seen)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


WITHOUT_JAXES = """
import json, sys, types
package = types.ModuleType("jaxes")
package.__path__ = [sys.argv[1]]
sys.modules["jaxes"] = package  # or it would import all that it offers
from jaxes.policy_directory import load_policy
print(json.dumps([load_policy(path).act([1, 2, 3]).tolist() for path in sys.argv[2:]]))
taken = {name.split(".")[0] for name in sys.modules} & {"brax", "mujoco", "orbax", "matplotlib"}
assert not taken and "jaxes.training" not in sys.modules, taken
"""


def test_nothing_of_training_or_physics_is_needed(left):
    paths = [left("mlp")[0], left("linen")[0]]
    arguments = [str(Path(jaxes.__file__).parent), *map(str, paths)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_JAXES, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [jaxes.load_policy(path).act([1, 2, 3]) for path in paths]
    np.testing.assert_allclose(json.loads(done.stdout), expected, rtol=1e-5)


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "flipped": flipped,
    "cut": lambda content: content[:-1],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "deleted": lambda content: None,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["policy.json", "params.safetensors", "policy.stablehlo", "initial_state.stablehlo"]
)
def test_a_damaged_file_is_named(name, damage, left, tmp_path):
    file = shutil.copytree(left("linen")[0], tmp_path / "p") / name
    content = DAMAGES[damage](file.read_bytes())
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^policy: .*{name}") as raised:
        jaxes.load_policy(tmp_path / "p")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2, "sha256": ""}', r"has the format 2, not 1: written by a newer jaxes"),
        ("[]", "is damaged: TypeError"),
        ("{}", "is damaged: KeyError: 'format'"),
        ('{"format": 1, "sha256": ""}', "is damaged: it was changed"),
        ("[" * 100_000, "is damaged: RecursionError"),
    ],
)
def test_another_policy_json_is_refused(text, message, tmp_path):
    (tmp_path / "policy.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        jaxes.load_policy(tmp_path)


def test_every_bit_of_policy_json_counts_or_is_blank(left, tmp_path):
    path = shutil.copytree(left("mlp")[0], tmp_path / "p")
    content = (path / "policy.json").read_bytes()
    about = jaxes.load_policy(path).about
    for place in np.random.default_rng(0).integers(len(content), size=60):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        (path / "policy.json").write_bytes(changed)
        try:
            assert jaxes.load_policy(path).about == about
        except ValueError as error:
            assert "policy.json" in str(error)  # noqa: PT017


def test_where_there_is_no_policy(tmp_path):
    with pytest.raises(ValueError, match=r"policy: there is no .*nowhere"):
        jaxes.load_policy(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is no policy directory \(no policy.json in it\)"):
        jaxes.load_policy(tmp_path)
    with pytest.raises(ValueError, match="path must be a path, got 3"):
        jaxes.load_policy(3)


def test_a_memory_that_is_drawn_differs_between_keys(left):
    loaded = jaxes.load_policy(left("linen")[0])
    one, other = (loaded.initial_state(jax.random.key(seed))[1] for seed in (0, 1))
    assert_equal(one, start(jax.random.key(0))[1])
    assert not np.allclose(one, other)
