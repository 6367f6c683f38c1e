"""Watchers of parameters: each meets its fault, and a healthy run."""

from dataclasses import replace

import pytest
import torch

from hw_base.watch.diagnosis import Layer, Optimizing, Seen
from hw_base.watch.weights import DeadUnits, Gradients, LearningRate, Shrinking, Untrained

GOOD = Layer("model: a.weight", True, True, False, True, weight=2.0, gradient=0.5, update=0.01)
ADAM = Optimizing(lr=1e-3, base_lr=1e-3, clip_norm=5.0, weight_decay=0.01, loss_scale=None, every=None)


def names(watcher, steps, layers=lambda i: [GOOD], optimizer=lambda i: ADAM, values=lambda i: {}, gradients=None):
    """What a watcher says in so many looks, ten steps apart."""
    found = []
    for i in range(steps):
        row = {"grad_norm": 1.0, **values(i)}
        seen = Seen(10 * i + 10, 10_000, row, {}, {}, layers(i), {"model": optimizer(i)}, gradients=gradients or {})
        found += [one.name for one in watcher.look(seen)]
    return set(found)


@pytest.mark.parametrize("watcher", [Untrained, LearningRate, Shrinking, Gradients, DeadUnits])
def test_a_healthy_run_is_left_alone(watcher):
    rows = torch.ones(4, 3)
    layers = [replace(GOOD, name=f"model: {i}") for i in range(4)]
    assert names(watcher(), 30, lambda i: layers, gradients={"model: a.weight": rows}) == set()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"gradient": None, "update": 0.0}, {"no_gradient"}),
        ({"gradient": 0.0}, {"no_gradient"}),
        ({"gradient": None, "update": 0.0, "trained": False}, {"parameters_not_optimized"}),
        ({"gradient": None, "update": 0.0, "trained": False, "requires_grad": False}, {"frozen_parameters"}),
        ({"gradient": None, "trained": False, "requires_grad": False, "allowed_frozen": True}, set()),
        ({"update": 0.0}, {"never_moves"}),
    ],
)
def test_parameters_that_do_not_train_are_told_apart(changes, expected):
    assert names(Untrained(), 10, lambda i: [GOOD, replace(GOOD, name="model: b", **changes)]) == expected


def test_a_parameter_that_is_met_now_and_then_trains():
    assert names(Untrained(), 10, lambda i: [replace(GOOD, gradient=0.5 if i == 2 else None)]) == set()


def test_the_size_of_updates_tells_a_rate_that_is_too_high_or_too_low():
    assert names(LearningRate(), 3, lambda i: [replace(GOOD, update=1.0)]) == {"lr_too_high"}
    assert names(LearningRate(), 10, lambda i: [replace(GOOD, update=1e-5)]) == {"lr_too_low"}


def test_a_rate_that_still_rises_is_not_too_low():
    rising = names(
        LearningRate(), 10, lambda i: [replace(GOOD, update=1e-5)], lambda i: replace(ADAM, lr=1e-5 * (i + 1))
    )
    assert rising == set()


def test_weights_that_shrink_are_blamed_on_the_decay_if_there_is_one():
    def shrinking(i):
        return [replace(GOOD, weight=2.0 * 0.9**i)]

    assert names(Shrinking(), 10, shrinking) == {"weights_shrink"}
    assert names(Shrinking(), 10, shrinking, lambda i: replace(ADAM, weight_decay=0.0)) == set()


def test_gradients_that_vanish_explode_stay_or_are_clipped_away_are_named():
    layers = [replace(GOOD, name=f"model: {i}", gradient=0.5 if i else 1e-9) for i in range(4)]
    assert names(Gradients(), 10, lambda i: layers) == {"gradients_vanish"}
    free = replace(ADAM, clip_norm=None)
    exploding = names(Gradients(), 20, optimizer=lambda i: free, values=lambda i: {"grad_norm": 1e6 if i > 15 else 1.0})
    assert exploding == {"gradients_explode"}
    assert names(Gradients(), 10, values=lambda i: {"grad_norm": 5000.0}) == {"clipped_to_nothing"}
    assert names(Gradients(), 3, optimizer=lambda i: replace(ADAM, leftover=0.3)) == {"gradients_not_zeroed"}


def test_units_without_a_gradient_are_dead():
    dead = torch.ones(4, 3)
    dead[:3] = 0
    assert names(DeadUnits(), 20, gradients={"model: a.weight": dead}) == {"dead_units"}
