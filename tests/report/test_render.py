"""Films: what is drawn, at what speed, and what of it a player reads back."""

import io
import json
import sys

import imageio_ffmpeg
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxes
from jaxes import cli
from jaxes.environments import cartpole, mujoco_frames
from jaxes.environments.pendulum import State as PendulumState
from jaxes.environments.sketch import ACCENT
from jaxes.film import Film, encoded, save
from jaxes.policies import Policy
from jaxes.report.episode import Actor, play
from jaxes.report.render import film, film_of

STILL = Actor(lambda key: (), lambda key, memory, env_state, observation: (jnp.zeros(1), memory))


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


def rod_of(frame):
    """Middle (x, y) and lean from upright to the right of what has a rod's color, in pixels from
    the center of the frame, y up."""
    rows, columns = np.nonzero(np.abs(frame.astype(int) - ACCENT).sum(axis=-1) < 40)
    points = np.stack([columns - frame.shape[1] / 2 + 0.5, frame.shape[0] / 2 - 0.5 - rows])
    middle = points.mean(axis=1)
    across, up = np.linalg.svd(points - middle[:, None], full_matrices=False)[0][:, 0]
    return middle, np.arctan(across / up)


def test_a_cartpole_is_drawn_as_it_stands():
    """60 pixels a meter: 336 show 5.6 m. The pole's foot is the cart, its length 1 m."""
    x, theta = np.array([1.0, 0.0, -2.0, 0.5]), np.array([-0.2, 0.0, 0.1, 0.2])
    states = cartpole.State(x, 0 * x, theta, 0 * x, np.arange(4))
    frames = jaxes.environments.continuous_cartpole().render(states, 336, 240)
    assert (frames.shape, frames.dtype) == ((4, 240, 336, 3), np.uint8)
    for frame, place, lean in zip(frames, x, theta, strict=True):
        middle, found = rod_of(frame)
        assert found == pytest.approx(lean, abs=0.01)
        expected = place + 0.53 * np.sin(lean), 0.53 * np.cos(lean) - 0.3
        np.testing.assert_allclose(middle / 60, expected, atol=0.03)


def test_a_pendulum_is_drawn_as_it_hangs():
    """100 pixels a meter; angles are counted from upright to the left, as in Gymnasium."""
    theta = np.array([0.0, 0.5, np.pi / 2, np.pi, -2.0])
    frames = jaxes.environments.pendulum().render(
        PendulumState(theta, 0 * theta, np.arange(5)), 300, 260
    )
    for frame, angle in zip(frames, theta, strict=True):
        middle, _ = rod_of(frame)
        expected = 0.52 * np.array([-np.sin(angle), np.cos(angle)])
        np.testing.assert_allclose(middle / 100, expected, atol=0.03)


def clock(end, dt=None, breaks_at=None, **fields):
    """Its state counts steps; rewards are that count."""

    def reset(key):
        return jnp.int32(0), jnp.zeros(1)

    def step(t, action):
        reward = jnp.where(t + 1 == breaks_at, jnp.nan, t + 1.0)
        return t + 1, (t + 1.0)[None], reward, t + 1 >= end

    return jaxes.Environment(reset, step, 1, "clock", dt=dt, **fields)


@pytest.mark.parametrize(
    ("dt", "end", "max_seconds", "every", "length", "fps"),
    [
        (0.02, 97, 20.0, 2, 97, 25),
        (0.05, 30, 1.0, 1, 20, 20),
        (0.008, 400, 20.0, 5, 400, 25),
        (1 / 30, 4, 20.0, 1, 4, 30),
        (0.01, 9000, 0.3, 4, 30, 25),
        (2.0, 3, 5.0, 1, 2, 0.5),
        (None, 9000, 0.5, 1, 15, 30),
        (0.1, 9000, 100.0, 1, 500, 10),  # cut at the episode's length
    ],
)
def test_films_have_the_true_speed(dt, end, max_seconds, every, length, fps):
    episode = play(clock(end, dt), STILL, jax.random.key(0), 500, max_seconds)
    np.testing.assert_array_equal(episode.env_states, np.arange(0, length + 1, every))
    assert (episode.length, episode.num_frames) == (length, len(episode.env_states))
    assert episode.episode_return == length * (length + 1) / 2
    assert episode.fps == pytest.approx(fps)
    seconds = episode.num_frames / episode.fps
    assert seconds == pytest.approx((length // every + 1) * every * (dt or 1 / 30))


def test_what_diverges_is_shown_until_then():
    episode = play(clock(30, breaks_at=5), STILL, jax.random.key(0), 500, 20.0)
    np.testing.assert_array_equal(episode.env_states, np.arange(5))
    assert (episode.length, episode.episode_return) == (4, 10)


def test_a_policy_with_memory_acts_in_its_film():
    """Its action is the number of observations that it has seen, and the state the last action."""

    def reset(key):
        return jnp.zeros(1), jnp.zeros(1)

    def step(state, action):
        return action, action, action[0], action[0] >= 6

    drawn = []

    def render(states, width, height):
        drawn.append(states)
        return np.zeros((len(states), height, width, 3), np.uint8)

    environment = jaxes.Environment(reset, step, 1, dt=0.1, render=render)
    counts = Policy(None, lambda key: jnp.ones(1), lambda memory, observation: (memory, memory + 1))
    found = film(environment, counts, key=jax.random.key(0), width=20, height=16)
    assert (found.frames.shape, found.fps) == ((7, 16, 20, 3), 10)
    assert (found.episode_return, found.length) == (21, 6)
    np.testing.assert_array_equal(np.ravel(drawn[0]), np.arange(7))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two generations on the pendulum, its problem and its last state."""
    pendulum, linear = jaxes.environments.pendulum(), jaxes.policies.linear()
    problem = jaxes.problems.policy_search(pendulum, linear, episode_length=30, num_test_episodes=2)
    path = tmp_path_factory.mktemp("run") / "run"
    strategy = jaxes.cem(8, elite_fraction=0.5, sigma=2.0)
    result = jaxes.train(
        problem, strategy, num_generations=2, checkpoint_every=1, test_every=1, run_dir=path
    )
    return path, problem, result.state


def test_a_run_is_filmed_as_its_policy_acts(trained):
    path, problem, state = trained
    found = film_of(path, seed=3, width=64, height=48, max_seconds=1.0)
    environment = problem.environment
    policy = problem.policy(state.strategy.mean, state.problem)
    params = policy.init(jax.random.key(0))
    step = jax.jit(environment.step)
    now, observation = environment.reset(jax.random.key(3))
    states, total = [now], 0.0
    for _ in range(20):  # of 0.05 s
        action, _ = policy.apply(params, (), observation)
        now, observation, reward, _ = step(now, action)
        states.append(now)
        total += float(reward)
    assert (found.length, found.fps) == (20, 20)
    assert found.episode_return == pytest.approx(total, rel=1e-4)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    expected = environment.render(stacked, 64, 48).astype(int)
    assert np.abs(found.frames - expected).max(axis=(1, 2, 3)).min() < 40
    assert np.abs(found.frames - expected).mean() < 0.5
    assert np.abs(np.diff(found.frames.astype(int), axis=0)).mean() > 0.5  # it moves
    earlier = film_of(path, checkpoint=1, seed=3, max_seconds=1.0)
    assert earlier.episode_return != pytest.approx(total)


def read_mp4(path, monkeypatch):
    """What its header says, and its frames."""
    monkeypatch.setenv("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")  # or it forks
    reader = imageio_ffmpeg.read_frames(str(path))
    about = next(reader)
    width, height = about["size"]
    frames = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    return about, np.stack(frames)


def test_what_is_written_is_what_a_player_shows(trained, tmp_path, capsys, monkeypatch):
    path, *_ = trained
    said = {}
    for name, options in (("a.mp4", ["--json"]), ("b.gif", [])):
        output = ["--output", tmp_path / name, "--seconds", 1, "--width", 65, "--height", 47]
        assert run("render", path, *output, *options) == 0
        said[name] = capsys.readouterr()
    told = json.loads(said["a.mp4"].out)
    assert (told["length"], told["fps"]) == (20, 20)
    assert said["b.gif"].out.splitlines()[0].endswith("in 20 steps, 1.1 s at true speed")
    assert str(tmp_path / "b.gif") in said["b.gif"].out

    shown = film_of(path, width=65, height=47, max_seconds=1.0).frames
    about, frames = read_mp4(tmp_path / "a.mp4", monkeypatch)
    assert (about["size"], about["codec"], about["fps"]) == ((64, 46), "h264", 20)  # even
    assert about["pix_fmt"].startswith("yuv420p")
    assert about["duration"] == pytest.approx(1.05, abs=0.01)
    assert len(frames) == 21
    assert np.abs(frames.astype(int) - shown[:, :46, :64]).mean() < 4

    with Image.open(tmp_path / "b.gif") as gif:
        assert (gif.size, gif.n_frames) == ((65, 47), 21)
        durations = []
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
            error = np.asarray(gif.convert("RGB")).astype(int) - shown[number]
            assert np.abs(error).mean() < 2
    assert sum(durations) == 1050


def test_nothing_is_overwritten(trained, capsys):
    path, *_ = trained
    small = ["--seconds", 0.2, "--width", 16, "--height", 16]
    assert run("render", path, *small) == 0
    first = (path / "film.mp4").read_bytes()
    assert jaxes.render(path, width=16, height=16, max_seconds=0.2) == path / "film-2.mp4"
    assert run("render", path, "--output", path / "film.mp4") == 2
    assert "--output must be a file that is not there yet" in capsys.readouterr().err
    assert (path / "film.mp4").read_bytes() == first
    assert {each.name for each in path.glob("film*")} == {"film.mp4", "film-2.mp4"}


def test_durations_of_a_gif_add_up():
    """At 30 frames a second, of 3 1/3 hundredths of a second each."""
    frames = np.arange(45 * 16 * 16 * 3).astype(np.uint8).reshape(45, 16, 16, 3)
    frames[:, 0, 0, 0] = 5 * np.arange(45)
    with Image.open(io.BytesIO(encoded(Film(frames, 30.0, 0.0, 44), "gif"))) as gif:
        durations = []
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
    assert sum(durations) == 1500
    assert set(durations) == {30, 40}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "x.avi"], "--output must be a file that ends in .mp4 or .gif, got 'x.avi'"),
        (["--output", "no/x.mp4"], "--output must be in a folder that is there, got 'no/x.mp4'"),
        (["--width", 3], "width must be a whole number of at least 16, got 3"),
        (["--height", 9000], "height must be a whole number of at least 16 and at most 4096"),
        (["--seconds", 0], "max_seconds must be positive, got 0.0"),
        (["--seed", -1], "seed must be a whole number of at least 0, got -1"),
        (["--checkpoint", 9], "checkpoint must be best, latest, or one of 1, 2, got 9"),
    ],
)
def test_bad_input_is_one_line(arguments, message, trained, capsys):
    path, *_ = trained
    before = set(path.iterdir())
    assert run("render", path, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"jaxes: error: {message}")
    assert err.count("\n") == 1
    assert set(path.iterdir()) == before


def test_what_is_no_run_of_a_policy_is_one_line(tmp_path, capsys):
    assert run("render", tmp_path / "none") == 2
    assert "run: there is no" in capsys.readouterr().err
    sphere = jaxes.problems.functions.sphere(3)
    jaxes.train(
        sphere, jaxes.cem(8, elite_fraction=0.5), num_generations=1, run_dir=tmp_path / "sphere"
    )
    assert run("render", tmp_path / "sphere") == 2
    assert "sphere has no policy: its problem is 'sphere'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("render", "message"),
    [
        (None, r"clock: nothing draws it \(its field `render` is None\)"),
        (lambda states, width, height: 1 / 0, "clock: render fails: ZeroDivisionError"),
        (
            lambda states, width, height: np.zeros((4, height, width, 3)),
            r"clock: render must be a function to uint8\[4, 18, 16, 3\], got 'float64",
        ),
        (lambda states, width, height: [], r"clock: render must be a function .* got 'None\[0\]'"),
    ],
)
def test_an_environment_that_cannot_be_drawn_is_one_line(render, message):
    policy = Policy(None, (), lambda memory, observation: (jnp.zeros(1), memory))
    with pytest.raises(ValueError, match=message):
        film(clock(3, render=render), policy, key=jax.random.key(0), width=16, height=18)


def test_without_an_encoder_a_gif_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    small = Film(np.zeros((2, 16, 16, 3), np.uint8), 30.0, 0.0, 1)
    with pytest.raises(ValueError, match=r"^film: \.mp4 needs an encoder: pip install imageio-ff"):
        save(small, tmp_path / "film.mp4")
    save(small, tmp_path / "film.gif")
    assert [each.name for each in tmp_path.iterdir()] == ["film.gif"]


def test_an_encoder_that_fails_is_one_line(monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", sys.executable)  # which knows no such options
    small = Film(np.zeros((2, 16, 16, 3), np.uint8), 30.0, 0.0, 1)
    with pytest.raises(ValueError, match=r"^film: ffmpeg fails: "):
        encoded(small, "mp4")


BOX = """<mujoco><worldbody><light pos="0 0 3"/><body>
<joint type="slide" axis="1 0 0"/><geom type="box" size=".2 .2 .2" rgba="1 0 0 1"/>
</body></worldbody></mujoco>"""


@pytest.fixture(scope="module")
def box():
    return pytest.importorskip("mujoco").MjModel.from_xml_string(BOX)


def test_a_model_of_mujoco_is_drawn_without_a_screen(box, capfd, monkeypatch):
    positions = {"qpos": np.array([[-0.3], [0.0], [0.3]])}
    try:
        frames = mujoco_frames.drawn(box, positions, 63, 40)
    except ValueError as error:
        pytest.skip(str(error))
    assert frames.shape == (3, 40, 63, 3)
    red = frames[..., 0].astype(int) - frames[..., 1] > 30
    middles = [np.nonzero(each)[1].mean() for each in red]
    assert middles[0] + 5 < middles[1] < middles[2] - 5
    assert middles[1] == pytest.approx(31, abs=1)
    assert capfd.readouterr() == ("", "")
    # What does not work is passed over.
    monkeypatch.setattr(mujoco_frames, "_backends", lambda: ["nothing", *works()])
    np.testing.assert_array_equal(mujoco_frames.drawn(box, positions, 63, 40), frames)


def works():
    return ["egl", "osmesa"] if sys.platform == "linux" else [""]


def test_where_nothing_draws_it_is_said_what_to_install(box, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    with pytest.raises(ValueError, match=r"install Debian's libegl1 or libosmesa6 \(nothing: Ru"):
        mujoco_frames.drawn(box, {"qpos": np.zeros((1, 1))}, 32, 32)


@pytest.mark.slow
def test_brax_is_filmed(box):
    try:
        mujoco_frames.drawn(box, {"qpos": np.zeros((1, 1))}, 16, 16)
    except ValueError as error:
        pytest.skip(str(error))
    environment = jaxes.environments.brax("inverted_pendulum")
    policy = Policy(None, (), lambda memory, observation: (jnp.ones(1), memory))
    found = film(environment, policy, key=jax.random.key(0), width=48, height=32, max_seconds=0.4)
    assert environment.dt == 0.02
    assert found.fps == 25  # every second step
    assert found.frames.shape == (found.length // 2 + 1, 32, 48, 3)
    assert np.abs(np.diff(found.frames.astype(int), axis=0)).max(axis=(1, 2, 3)).min() > 20


@pytest.mark.slow
def test_a_planner_is_filmed(tmp_path):
    environment = jaxes.environments.pendulum()
    planner = jaxes.planning.planner(
        jaxes.cem(8, sigma=0.5, elite_fraction=0.5), horizon=4, iterations=1
    )
    model = jaxes.planning.true_model(environment)
    path = tmp_path / "run"
    sizes = {"num_trials": 1, "episode_length": 9, "num_test_episodes": 2}
    result = jaxes.learn_to_control(environment, planner, model, **sizes, run_dir=path)
    found = film_of(path, width=32, height=24)
    assert found.frames.shape == (10, 24, 32, 3)
    assert (found.length, found.fps) == (9, 20)
    worst = -9 * (np.pi**2 + 0.1 * 8**2 + 0.001 * 2**2)
    assert worst < found.episode_return < 0
    assert result.episode_length == 9
