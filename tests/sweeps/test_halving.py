"""Which configurations go on: a function of their scores alone."""

import math

from jaxes.sweeps.halving import survivors


def test_the_best_means_over_seeds_survive():
    scores = {"a": [1.0, 9.0], "b": [4.0, 4.0], "c": [6.0, 6.0], "d": [0.0, 0.0]}
    assert survivors(scores, 0.5) == ["c", "a"]
    assert survivors(scores, 0.25) == ["c"]
    assert survivors(scores, 0.75) == ["c", "a", "b"]


def test_one_survives_and_what_has_no_score_is_last():
    assert survivors({"a": [-math.inf], "b": [-1e30]}, 0.1) == ["b"]
    assert survivors({"a": [-math.inf, 5.0], "b": [0.0, 0.0]}, 0.5) == ["b"]


def test_a_configuration_whose_seeds_diverge_goes_first():
    scores = {"a": [9.0, -math.inf, -math.inf], "b": [9.0, -math.inf, 1.0], "c": [0.0, 0.0, 0.0]}
    assert survivors(scores, 0.67) == ["c", "b"]
    assert survivors(scores, 0.34) == ["c"]


def test_equal_scores_go_by_their_order():
    assert survivors({"a": [1.0], "b": [1.0], "c": [1.0]}, 0.5) == ["a", "b"]
