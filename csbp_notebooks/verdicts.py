"""The verdict on every claim, from the numbers that the notebooks wrote beside their figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .signs import plus_minus, with_minus

HOLDS = "holds"
HOLDS_IN_PART = "holds in part"
FAILS = "does not hold"

WHERE_IT_IS_ASKED = "08_does_chaos_help"  # whether training gains anything


class Verdict(NamedTuple):
    """What became of a claim.

    Attributes:
        claim: a sentence without its full stop.
        published: where it stands in the paper or its code.
        measured: what we found, with its uncertainty; Markdown, without a full stop.
        verdict: a few words.
        notebook: the one that measures it, without its suffix.
        test: the file that guards it.
    """

    claim: str
    published: str
    measured: str
    verdict: str
    notebook: str
    test: str


class OpeningAnswer(NamedTuple):
    """One of the three answers that come first.

    Attributes:
        question: as a reader asks it.
        short: the answer in a few words, without a full stop.
        plain: what is behind it, in whole sentences that ask for nothing read before.
        notebook: the one that says all, without its suffix.
    """

    question: str
    short: str
    plain: str
    notebook: str


@dataclass(frozen=True)
class Found:
    """What a notebook recorded beside its figure."""

    file: Path
    results: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        """A result; ValueError, one line, where it is missing or null."""
        value = self.maybe(key)
        if value is None:
            raise ValueError(f"{self.file}: {key} is null: no verdict follows from it")
        return value

    def maybe(self, key: str) -> Any:
        """The same, None where it is null, which says that something never happened."""
        if key not in self.results:
            raise ValueError(f"{self.file} has no {key}: `make figures` writes it")
        return self.results[key]

    def within(self, key: str) -> Found:
        """What is recorded below a key, refused in the same way."""
        return Found(self.file, self[key])


def read_found(images: Path, name: str) -> Found:
    """What belongs to a figure.

    Args:
        images: the folder with a JSON file per figure.
        name: of the figure.

    Raises ValueError, one line, where the file is missing or is none of those.
    """
    path = images / f"{name}.json"
    try:
        return Found(path, json.loads(path.read_text("utf-8"))["results"])
    except FileNotFoundError:
        raise ValueError(f"{path} is not there: `make figures` writes it") from None
    except (json.JSONDecodeError, KeyError):
        raise ValueError(f"{path} is not what a notebook records: `make figures` does") from None


def in_words(number: float | None, words: str, nothing: str) -> str:
    """A number in its words, and other words where there is none.

    Example:
        >>> in_words(3, "from epoch {} on", "never"), in_words(None, "from epoch {} on", "never")
        ('from epoch 3 on', 'never')
    """
    return nothing if number is None else words.format(number)


# What stands first


def opening_answers(images: Path) -> list[OpeningAnswer]:
    """Is the published figure real, does it help, is it the chaos?

    Args:
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where a number is not there.
    """
    answers = read_found(images, "does_chaos_help").within("answers")
    return [
        _is_it_real(read_found(images, "example2"), read_found(images, "burst_end")),
        _of_study("Does CSBP help?", answers.within("csbp")),
        _of_study("Is it the chaos?", answers.within("chaos")),
    ]


def _is_it_real(run: Found, burst: Found) -> OpeningAnswer:
    """The published picture of CSBP."""
    holds = len(run["statements_that_hold"])
    checked = run["statements_checked"]
    ends = burst.within("percentiles_of_the_end")
    end_of = burst.within("end_of_second_burst")
    end = end_of.maybe("this machine")
    here = "none here"
    if end is not None:
        rank = math.floor(burst.within("percentile_rank")["this machine"])
        here = f"{end} here (later than {rank} % of those runs)"
    short = "Its shape is" if holds == checked else "In part"
    if holds == 0:
        short = "No"
    plain = (
        f"{holds} of {checked} checked features come out; not the single points in the bursts, and "
        f"not the epoch in which the second one ends: {ends['5']:.0f} to {ends['95']:.0f} in 90 % "
        f"of {burst['runs']:,} runs with rounding noise, {end_of['published']} as published, "
        f"{here}."
    )
    return OpeningAnswer("Is the published figure real?", short, plain, "05_what_is_reproducible")


def _of_study(question: str, answer: Found) -> OpeningAnswer:
    """What the study answers to a question, which notebook 8 may ask in other words."""
    return OpeningAnswer(question, answer["short"], answer["plain"], WHERE_IT_IS_ASKED)


def two_runs(images: Path) -> str:
    """In what else the two published runs differ, what BP does at either rate, and the bursts.

    Args:
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where a number is not there.
    """
    at_bp_rate, at_csbp_rate = read_found(images, "example2")["bp_alone"]
    return (
        f"The two runs differ in learning rate, too: {at_bp_rate['lr']:g} by BP, "
        f"{at_csbp_rate['lr']:g} by CSBP. At the first BP alone {_solved(at_bp_rate)}; at the "
        f"second it {_solved(at_csbp_rate)}. {_second_burst(read_found(images, 'bifurcation'))}"
    )


def _second_burst(found: Found) -> str:
    """What makes the second burst; empty text where the map says otherwise."""
    meets = [event for event in found["events"] if event["kind"] == "border w = 1"]
    cycles = [event for event in meets if event["period"] == 2]
    if not cycles:
        return ""
    return (
        f"The second burst begins where the 2-cycle meets w = 1, the edge of the weights at which "
        f"BP has a gradient, at z = {cycles[0]['z']:.2f} (epoch {cycles[0]['epoch']:.0f}): BP "
        f"throws the weight down, the chaotic loss pulls it back, and neither alone does it."
    )


def _solved(run: Mapping[str, Any]) -> str:
    """Whether BP solves the task, and where its weight ends."""
    epoch = run["bp_loss_zero_from_epoch"]
    end = with_minus(f"w ends at {run['last_w']:.2f}")
    if epoch is None:
        return f"never brings its loss to zero for good, and {end}"
    return f"brings its loss to zero from epoch {epoch} on, and {end}"


def rule_for_z(images: Path) -> str:
    """How good README's rule for z is, and what became of networks after a warning.

    Args:
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where a sentence is not there.
    """
    found = read_found(images, "choose_z").within("rule_for_z")
    return f"{found['in_short']} {found['too_late']} Notebook 7 has the measurement."


def cost_of_study(images: Path) -> str:
    """How long the study's cells took, and how many are missing.

    Args:
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where a number is not there.
    """
    found = read_found(images, "does_chaos_help")
    of_one_core = f"The study's cells took {found['hours']:.0f} hours of one core"
    on_two = f"about {found['hours'] / 2:.0f} hours on 2 cores"
    missing = found["missing"]
    if not missing:
        return f"{of_one_core}, {on_two}."
    return (
        f"{of_one_core} so far, {on_two}, with {missing} of {found['cells']} not run yet; "
        "`study/RESULTS.md` says which."
    )


# The verdicts


def verdicts(images: Path) -> list[Verdict]:
    """The verdict on every claim.

    Args:
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where a number is not there.
    """
    run = read_found(images, "example2")
    burst = read_found(images, "burst_end")
    exact_map = read_found(images, "bifurcation")
    authors = read_found(images, "authors_settings")
    return [
        _of_bp(read_found(images, "example1")),
        _of_csbp(run, burst),
        _of_chaos(exact_map, run),
        _of_bifurcations(exact_map, run),
        _of_burst_end(burst),
        _of_network(read_found(images, "multi_layer")),
        *_of_trainings(read_found(images, "does_chaos_help").within("answers")),
        _of_authors_trainings(authors),
        _of_authors_gains(authors),
    ]


def _of_bp(found: Found) -> Verdict:
    settled = found.maybe("epochs_until_settled")
    w = found.within("w")
    first = with_minus(f"{w['first'][0]:g}")
    last = with_minus(f"{w['last']:.5f}")
    settles = settled is not None and abs(w["last"] - 0.4) < 0.005
    time = in_words(settled, "in {} epochs", "and never stays")
    return Verdict(
        claim="By BP the weight slides to 0.4 and stays",
        published="Example 1, picture",
        measured=f"from {first} to {last} {time}",
        verdict=HOLDS if settles else FAILS,
        notebook="01_single_neuron_bp",
        test="tests/test_single_neuron.py",
    )


def _of_csbp(found: Found, noisy: Found) -> Verdict:
    holds = len(found["statements_that_hold"])
    checked = found["statements_checked"]
    noisy_holds = noisy["runs_with_all_statements"]
    runs = noisy["runs"]
    verdict = HOLDS_IN_PART
    if (holds, noisy_holds) == (checked, runs):
        verdict = HOLDS
    if holds == 0:
        verdict = FAILS
    return Verdict(
        claim="By CSBP the weight bursts twice, bifurcates and comes to rest",
        published="Example 1, picture",
        measured=(
            f"{holds} of {checked} checked features; with rounding noise all of them in "
            f"{noisy_holds:,} of {runs:,} runs"
        ),
        verdict=verdict,
        notebook="05_what_is_reproducible",
        test="tests/test_single_neuron.py",
    )


def _of_chaos(found: Found, run: Found) -> Verdict:
    share = found["chaotic_share_at_frozen_z"]
    elsewhere = ", the others on cycles" if 0 < share < 1 else ""
    verdict = HOLDS if share == 1 else HOLDS_IN_PART
    return Verdict(
        claim="While z is large the weight moves chaotically",
        published="Example 1, picture",
        measured=(
            f"with z held at values of the run above z_c = {run['critical_z']:.2f}, "
            f"{100 * share:.0f} % of the pairs of a z and a start end on an attractor with a "
            f"positive Lyapunov exponent{elsewhere}"
        ),
        verdict=verdict if share > 0 else FAILS,
        notebook="04_bifurcation",
        test="tests/test_dynamics.py",
    )


def _of_bifurcations(found: Found, run: Found) -> Verdict:
    doublings = [event["z"] for event in found["events"] if event["kind"] == "period doubling"]
    rests_from = run.maybe("settled_within_0.05_from_epoch")
    at = ", ".join(f"{z:.2f}" for z in doublings) or "none"
    settles = in_words(rests_from, "rests from epoch {} on", "never rests")
    return Verdict(
        claim="As z falls the motion bifurcates and settles",
        published="Example 1, picture",
        measured=(
            f"period doublings of the exact map at z = {at}; the rest point is stable below "
            f"z_c = {run['critical_z']:.2f}; the run of notebook 2 {settles}"
        ),
        verdict=HOLDS if doublings and rests_from is not None else FAILS,
        notebook="04_bifurcation",
        test="tests/test_dynamics.py",
    )


def _of_burst_end(found: Found) -> Verdict:
    ends = found.within("percentiles_of_the_end")
    end_of = found.within("end_of_second_burst")
    published = end_of["published"]
    is_one_of_many = ends["1"] < published < ends["99"]
    return Verdict(
        claim=f"The second burst ends near epoch {published}",
        published="Example 1, picture",
        measured=(
            f"with rounding noise the median is {ends['50']:.0f}, 90 % of runs end it at "
            f"{ends['5']:.0f} to {ends['95']:.0f}; without, here, "
            + in_words(end_of.maybe("this machine"), "at {}", "it never ends")
        ),
        verdict="one run of many, rounding decides" if is_one_of_many else FAILS,
        notebook="05_what_is_reproducible",
        test="tests/test_dynamics.py",
    )


def _of_network(found: Found) -> Verdict:
    rests_from = found.maybe("epoch_weights_come_to_rest")
    below = found.maybe("epoch_at_critical_z")
    rests = None not in (rests_from, below) and rests_from > below
    first_below = None if below is None else math.ceil(below)
    (rate,) = [
        rate
        for title, rate in found["firing_rate_last"].items()
        if title.startswith("CSBP, output")
    ]
    return Verdict(
        claim="In a network of several layers weights come to rest as z falls",
        published="not claimed; Example 2 is one forward pass",
        measured=(
            f"on a layer's output z is below z_c = {found['critical_z']:.2f} "
            + in_words(first_below, "from epoch {} on", "at no epoch")
            + in_words(rests_from, "; all weights rest from epoch {} on", "; weights never rest")
            + f", with a firing rate of {rate:.2g} (1: a spike in every step)"
        ),
        verdict=HOLDS if rests else FAILS,
        notebook="03_multi_layer",
        test="tests/test_multi_layer.py",
    )


class TrainingClaim(NamedTuple):
    """What is claimed for training, and the name of notebook 8's answer to whether it is so."""

    answer: str
    claim: str
    published: str
    test: str


TRAINING_CLAIMS = (
    TrainingClaim(
        answer="csbp",
        claim="Networks trained with it are more accurate",
        published="abstract; tables of one run each",
        test="tests/test_study_answers.py",
    ),
    TrainingClaim(
        answer="chaos",
        claim="Chaos is what makes them so",
        published="abstract",
        test="tests/test_study_answers.py",
    ),
    TrainingClaim(
        answer="form",
        claim="On the membrane the chaotic loss does more than a pull",
        published="not claimed; the form of the training code",
        test="tests/test_study_answers.py",
    ),
    TrainingClaim(
        answer="robust",
        claim="It makes networks more robust",
        published="abstract",
        test="tests/test_study_answers.py",
    ),
)


def _of_trainings(answers: Found) -> list[Verdict]:
    return [
        Verdict(
            claim=asked.claim,
            published=asked.published,
            measured=answers.within(asked.answer)["reasons"],
            verdict=answers.within(asked.answer)["short"].lower(),
            notebook=WHERE_IT_IS_ASKED,
            test=asked.test,
        )
        for asked in TRAINING_CLAIMS
    ]


def _of_authors_trainings(found: Found) -> Verdict:
    at_most = found["z_over_critical_at_most"]
    said = ", ".join(f"{ratio:.2g} ({training})" for training, ratio in at_most.items())
    # Of a training at two settings both must be below.
    trainings = list(dict.fromkeys(name.split(", ")[0] for name in at_most))
    below = [name for name in trainings if _largest_of(at_most, name) < 1]
    verdict = "not known"
    if below:
        verdict += f"; not by fc1's own chaotic loss, its inputs held, in {' and '.join(below)}"
    return Verdict(
        claim="The published trainings were chaotic",
        published="title and abstract",
        measured=(
            f"by a bound, z / z_c of fc1, its inputs held, was at most {said}; of h1, the "
            "membrane, and of the other trainings, no bound is known"
        ),
        verdict=verdict,
        notebook="09_the_authors_settings",
        test="tests/test_study_authors.py",
    )


def _largest_of(at_most: Mapping[str, float], training: str) -> float:
    """The largest ratio of a training, whatever stands behind its name."""
    return max(ratio for name, ratio in at_most.items() if name.split(", ")[0] == training)


def _of_authors_gains(found: Found) -> Verdict:
    gains = {}
    recorded = found.within("gains")
    for data_set in recorded.results:
        gain = recorded.within(data_set)
        gains[data_set] = (gain["difference"], 1.96 * gain["error"])
    clear = [difference > error for difference, error in gains.values()]
    said = ", ".join(f"{plus_minus(*gain)} ({data_set})" for data_set, gain in gains.items())
    return Verdict(
        claim=f"It gained accuracy in {len(gains)} data sets",
        published="tables, best epoch of one run each",
        measured=(
            f"in points, means of the last ten epochs, ± 1.96 sampling errors, as of two separate "
            f"test sets: {said}"
        ),
        verdict=f"beyond the error of its test set in {sum(clear)} of {len(gains)}; seeds unknown",
        notebook="09_the_authors_settings",
        test="tests/test_study_authors.py",
    )
