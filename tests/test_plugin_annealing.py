"""The schedule of z: beta per step, and what is set on the way, against the numbers by hand."""

import json

import pytest

from csbp_core.plugin.annealing import Annealing


def strengths(annealing, steps, z_start=None):
    return [annealing.z_at(step, z_start) for step in range(steps)]


def test_untouched_it_is_z_start_times_beta_to_the_step():
    annealing = Annealing(10.0, beta=0.9)
    assert strengths(annealing, 50) == [10.0 * 0.9**n for n in range(50)]
    assert strengths(annealing, 50, z_start=4.0) == [4.0 * 0.9**n for n in range(50)]


def test_setting_z_acts_from_then_on_and_leaves_the_past():
    annealing = Annealing(8.0, beta=0.5)
    annealing.set_z(30.0, step=2, strengths=[8.0])
    assert strengths(annealing, 5) == [8.0, 4.0, 30.0, 15.0, 7.5]


def test_a_strength_of_a_layers_own_is_multiplied_by_the_same_number():
    annealing = Annealing(8.0, beta=0.5)
    annealing.set_z(1.0, step=2, strengths=[8.0, 16.0])  # half of what it was
    assert strengths(annealing, 5, z_start=16.0) == [16.0, 8.0, 2.0, 1.0, 0.5]


def test_the_common_strength_is_what_was_set_to_the_last_digit():
    annealing = Annealing(10.0, beta=0.93)
    for step in range(1, 200):
        z = annealing.z_at(step) / 3
        annealing.set_z(z, step, strengths=[10.0])
        assert annealing.z_at(step) == z
        assert annealing.z_at(step, z_start=10.0) == z


def test_setting_beta_leaves_z_now_and_the_past():
    annealing = Annealing(16.0, beta=0.5)
    annealing.set_beta(0.25, step=2)
    assert annealing.beta == 0.25
    assert strengths(annealing, 5) == [16.0, 8.0, 4.0, 1.0, 0.25]
    assert strengths(annealing, 5, z_start=32.0) == [32.0, 16.0, 8.0, 2.0, 0.5]


def three_stretches():
    """8, 4 | 30, 15 | 7.5, 3.75 / 2, ...: z is set at step 2, beta at step 4."""
    annealing = Annealing(8.0, beta=0.5)
    annealing.set_z(30.0, step=2, strengths=[8.0, 32.0])
    annealing.set_beta(0.25, step=4)
    return annealing


def test_what_is_set_at_two_steps_is_reckoned_from_each():
    annealing = three_stretches()
    assert annealing.beta == 0.25
    assert strengths(annealing, 7) == [8.0, 4.0, 30.0, 15.0, 7.5, 1.875, 0.46875]
    assert strengths(annealing, 7, z_start=32.0) == [32.0, 16.0, 120.0, 60.0, 30.0, 7.5, 1.875]


def test_a_state_has_step_strength_factor_and_beta_of_each_stretch():
    assert three_stretches().state() == [
        (0, 8.0, 1.0, 0.5),
        (2, 30.0, 3.75, 0.5),
        (4, 7.5, 0.9375, 0.25),
    ]


def test_of_two_settings_at_one_step_the_state_holds_the_last():
    annealing = Annealing(16.0, beta=0.5)
    annealing.set_beta(0.25, step=3)
    annealing.set_z(5.0, step=3, strengths=[])
    assert annealing.state() == [(0, 16.0, 1.0, 0.5), (3, 5.0, 0.125 * 2.5, 0.25)]


def test_of_two_settings_at_one_step_both_count():
    annealing = Annealing(16.0, beta=0.5)
    annealing.set_z(8.0, step=0, strengths=[])
    annealing.set_beta(0.25, step=0)
    annealing.set_z(4.0, step=0, strengths=[])
    assert strengths(annealing, 3) == [4.0, 1.0, 0.25]
    assert strengths(annealing, 3, z_start=32.0) == [8.0, 2.0, 0.5]


def test_a_strength_of_zero_is_set_where_all_layers_have_it():
    annealing = Annealing(8.0, beta=0.5)
    annealing.set_z(0.0, step=1, strengths=[8.0])
    annealing.set_z(6.0, step=2, strengths=[8.0, 0.0])
    assert strengths(annealing, 4) == [8.0, 0.0, 6.0, 3.0]


def test_after_a_strength_of_zero_a_layer_that_comes_later_has_its_own():
    annealing = Annealing(8.0, beta=0.5)
    annealing.set_z(0.0, step=1, strengths=[8.0])
    annealing.set_z(6.0, step=2, strengths=[8.0])
    assert [annealing.z_at(step, z_start=12.0) for step in (2, 3)] == [12.0, 6.0]


def test_from_zero_no_other_strength_can_be_scaled():
    annealing = Annealing(0.0, beta=0.5)
    with pytest.raises(ValueError, match=r"^z = 6.0: the common strength is 0 .*attach them"):
        annealing.set_z(6.0, step=1, strengths=[0.0, 5.0])
    assert strengths(annealing, 3) == [0.0, 0.0, 0.0]


def test_a_strength_that_has_underflowed_can_be_set():
    annealing = Annealing(8.0, beta=0.5)
    assert annealing.z_at(2000) == 0
    annealing.set_z(3.0, step=2000, strengths=[8.0, 16.0])
    assert annealing.z_at(2000) == 3.0
    assert annealing.z_at(2000, z_start=16.0) == 6.0


def test_a_state_through_a_file_goes_on_as_before():
    annealing = Annealing(8.0, beta=0.5)
    annealing.set_z(30.0, step=2, strengths=[8.0, 1.0])
    annealing.set_beta(0.9, step=4)
    resumed = Annealing(8.0, beta=0.9)
    resumed.load(json.loads(json.dumps(annealing.state())))
    for z_start in (None, 1.0):
        assert strengths(resumed, 9, z_start) == strengths(annealing, 9, z_start)
