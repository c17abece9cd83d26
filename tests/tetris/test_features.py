"""Features, against published boards and against the slow simulator's."""

import jax.numpy as jnp
import numpy as np
import pytest
from tetris_by_hand import features as by_hand

from jaxes import tetris

# From the bottom up, 10 x 20: measured with an independent simulator in C.
GOLDEN = ["XXXX.XXXX.", "XX.X.XXXXX", "XXXXXX.X.X", ".XX.XX.X.X", "..X..X...X"]
# From the top down, 8 wide: of the authors of MDPTetris.
WELLS = """
    ........
    ........
    ...X....
    ...XX...
    .X.XX...
    .XXXXX.X
    .XXXXX.X
    XXXXX..X
    ...XXX.X
    X.X..X.X
"""


def test_the_golden_board():
    board = tetris.board(GOLDEN)
    values = {
        "row_transitions": 56,
        "column_transitions": 16,
        "holes": 4,
        "wells": 13,
        "fast_wells": 13,
        "max_height": 5,
        "hole_depth": 9,
        "rows_with_holes": 2,
        "diversity": 3,
    }
    np.testing.assert_array_equal(tetris.features(board, list(values)), list(values.values()))
    heights = [3, 4, 5, 3, 4, 5, 2, 4, 2, 5]
    bertsekas = [*heights, *np.abs(np.diff(heights)), 5, 4, 1]
    np.testing.assert_array_equal(tetris.features(board, "bertsekas"), bertsekas)


def test_a_board_is_drawn_in_three_ways():
    assert (tetris.board("XX../X...").columns == tetris.board(["XX..", "X..."]).columns).all()
    assert (tetris.board("X...\nXX..").columns == tetris.board(["XX..", "X..."]).columns).all()


def test_wells_of_a_published_board():
    board = tetris.board(WELLS, height=10)
    np.testing.assert_array_equal(tetris.features(board, ["wells", "fast_wells"]), [20, 23])


@pytest.mark.parametrize(("height", "width"), [(20, 10), (4, 4), (26, 13), (26, 30), (20, 17)])
def test_features_are_those_of_the_slow_simulator(height, width):
    names = [name for name in tetris.FEATURES if name not in ("landing_height", "eroded_cells")]
    rng = np.random.default_rng(height)
    for density in (0.0, 0.2, 0.5, 0.8, 1.0):
        cells = rng.random((height, width)) < density
        rows = ["".join("X" if cell else "." for cell in row) for row in cells]
        board = tetris.board(rows, height)
        found = tetris.features(board, names)
        np.testing.assert_array_equal(found, by_hand(cells.tolist(), names))
        assert tetris.draw(board).split()[::-1] == rows
        np.testing.assert_array_equal(board.cells, cells)


def test_features_of_a_placement_are_as_given():
    placement = tetris.Placement(jnp.float32(2.5), jnp.int32(2), jnp.int32(6))
    names = ["landing_height", "eroded_cells", "constant"]
    board = tetris.board(["X..."])
    np.testing.assert_array_equal(tetris.features(board, names, placement), [2.5, 6, 1])
    with pytest.raises(ValueError, match="for landing_height"):
        tetris.features(board, names)


def test_a_function_is_a_feature_too():
    def full_cells(board, placement):
        return jnp.stack([jnp.sum(board.cells), board.heights[0]])

    board = tetris.board(["XX.X", "X..."], height=5)
    np.testing.assert_array_equal(tetris.features(board, full_cells), [4, 2])


FLAT = tetris.board(["XX.X", "X..."], height=5)


def made_directly(names=("holes",), height=10, weights=(1.0,)):
    return tetris.Weighted(tetris.Controller(names, height, 10), weights)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tetris.board(["XO.."]), "rows must be strings of X and ."),
        (lambda: tetris.board(["XX..", "X"]), "rows must be rows of one length"),
        (
            lambda: tetris.board(["X..."] * 6, height=5),
            "number of rows must be at most the height, 5, got 6",
        ),
        (lambda: tetris.board(["X.."]), "width must be a whole number of at least 4"),
        (lambda: tetris.Controller.of("du", 3, 10), "height must be .* at least 4 and at most 26"),
        (
            lambda: tetris.features(FLAT, "dt", (1, 2, 3)),
            "placement must be a jaxes.tetris.Placement",
        ),
        (
            lambda: tetris.features(FLAT, "dt", tetris.Placement(np.ones(3), 1, 2)),
            "placement must be a jaxes.tetris.Placement of three numbers",
        ),
        (lambda: tetris.read("nowhere.json"), "weights: nowhere.json cannot be read: No such file"),
        (lambda: tetris.score(made_directly(height=3), 2), "height must be .* at least 4"),
        (lambda: tetris.score(made_directly(names=("nope",)), 2), "features must be one of"),
        (
            lambda: tetris.score(made_directly(weights=("a",)), 2),
            "controller's weights must be num",
        ),
        (lambda: tetris.score(made_directly(weights=(np.nan,)), 2), "finite and at most 1e.30 in"),
        (
            lambda: tetris.score(made_directly(weights=(1.0, 2.0)), 2),
            "must be 1 numbers: 1 of holes",
        ),
        (lambda: tetris.Controller.of("du", 27, 10), "height must be .* at most 26"),
        (lambda: tetris.Controller.of("dx", 20, 10), "features must be .*du.*got 'dx'"),
        (lambda: tetris.Controller.of(("holes", "hole"), 20, 10), "got 'hole'"),
        (lambda: tetris.Controller.of(("holes", "holes"), 20, 10), "each of them once"),
        (lambda: tetris.Controller.of((), 20, 10), "features must be a set, names"),
        (lambda: tetris.Controller.of(lambda board, p: 1 / 0, 20, 10), "features fails: Zero"),
        (lambda: tetris.Controller.of(lambda board, p: (), 20, 10), "features must be a function"),
        (lambda: tetris.published("du20"), "name must be .*got 'du20'"),
        (lambda: tetris.features("XX..", "du"), "board must be made by jaxes.tetris.board"),
    ],
)
def test_bad_input_is_one_clear_line(make, said):
    with pytest.raises(ValueError, match=said) as refusal:
        make()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "must be of the form"),
        ("{", "is no JSON"),
        ('{"features": "du", "weights": [1]}', "weights must be 8 numbers: 1 of landing_height"),
        ('{"features": "du", "weights": [1, 2, 3, 4, 5, 6, 7, NaN]}', "at most 1e.30 in size"),
        ('{"features": 3, "weights": [1]}', "a set, or names"),
        ('{"features": ["holes", 2], "weights": [1, 1]}', "got 2"),
        ('{"features": ["holes"], "weights": [true]}', "a list of numbers"),
        ('{"features": ["holes"], "weights": [1e39]}', "at most 1e.30 in size"),
        ('{"features": "bertsekas", "weights": "many"}', "a list of numbers"),
    ],
)
def test_a_file_that_holds_no_controller_is_refused(tmp_path, text, said):
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(ValueError, match=said) as refusal:
        tetris.read(tmp_path / "w.json")
    assert "\n" not in str(refusal.value)


def test_a_file_gives_its_controller(tmp_path):
    (tmp_path / "w.json").write_text('{"features": ["holes", "max_height"], "weights": [-2, -1]}')
    controller, weights = tetris.read(tmp_path / "w.json", height=10)
    assert (controller.features, controller.height, weights) == (
        ("holes", "max_height"),
        10,
        (-2.0, -1.0),
    )
