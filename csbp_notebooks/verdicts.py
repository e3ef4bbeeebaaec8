"""The verdict on every claim, from the numbers that the notebooks wrote beside their figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HOLDS = "holds"
HOLDS_IN_PART = "holds in part"
FAILS = "does not hold"

Numbers = Mapping[str, Any]


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


class Answer(NamedTuple):
    """One of the three answers that come first; see `Verdict`."""

    question: str
    short: str
    because: str
    notebook: str


def read_numbers(images: Path) -> dict[str, Numbers]:
    """What the notebooks recorded, by the name of the figure.

    Args:
        images: the folder with a JSON file per figure.
    """
    recorded = {path.stem: json.loads(path.read_text("utf-8")) for path in images.glob("*.json")}
    return {name: file["results"] | file["provenance"] for name, file in recorded.items()}


@contextmanager
def all_there(images: Path) -> Iterator[None]:
    """Say in one line, a ValueError, which number or file is not in the folder."""
    try:
        yield
    except KeyError as missing:
        raise ValueError(f"{images} has no {missing}: `make figures` writes all of them") from None


# The three answers


def three_answers(images: Path) -> list[Answer]:
    """Is the published figure real, does it help, is it the chaos?

    Args:
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where a number is not there.
    """
    with all_there(images):
        numbers = read_numbers(images)
        study = numbers["does_chaos_help"]["answers"]
        return [
            _is_it_real(numbers["example2"], numbers["burst_end"]),
            _does_it_help(study["Does CSBP help?"], study["By what, then?"]),
            _does_chaos_help(study["Does chaos help?"]),
        ]


def _is_it_real(run: Numbers, burst: Numbers) -> Answer:
    """The published figure of Example 2."""
    holds = len(run["statements_that_hold"])
    checked = run["statements_checked"]
    ends = burst["percentiles_of_the_end"]
    short = "Yes, but for one epoch" if holds == checked else "In part"
    because = (
        f"{holds} of {checked} checked features come out; the epoch in which the second burst "
        f"ends is decided by rounding: {ends['5']:.0f} to {ends['95']:.0f} in 90 % of runs"
    )
    return Answer("Is the published figure real?", short, because, "05_what_is_reproducible")


def _does_it_help(help_: Numbers, what: Numbers) -> Answer:
    """Notebook 8 on CSBP: against the best BP, and by what it gains where it does."""
    because = f"{help_['because']}. {what['because']}"
    return Answer(help_["question"], help_["short"], because, "08_does_chaos_help")


def _does_chaos_help(chaos: Numbers) -> Answer:
    """Notebook 8 on chaos: against the same pull without overshoot."""
    return Answer("Is it the chaos?", chaos["short"], chaos["because"], "08_does_chaos_help")


def two_runs(images: Path) -> str:
    """In what else the two published runs differ, and what BP alone does at either rate.

    Args:
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where a number is not there.
    """
    with all_there(images):
        alone = read_numbers(images)["example2"]["bp_alone"]
        (rate, run), (csbp_rate, other) = alone.items()
        solved = [_solved_from(found["bp_loss_zero_from_epoch"]) for found in (run, other)]
        return (
            f"The two runs differ in learning rate, too: {rate} by BP, {csbp_rate} by CSBP. BP "
            f"alone at the first brings its loss to zero {solved[0]}, with w = "
            f"{run['last_w']:.2f} in the end; at the second {solved[1]}, with w = "
            f"{other['last_w']:.2f}."
        )


def _solved_from(epoch: int | None) -> str:
    return "never for good" if epoch is None else f"from epoch {epoch} on"


# The verdicts


def verdicts(images: Path) -> list[Verdict]:
    """The verdict on every claim, in the order of the notebooks.

    Args:
        images: the folder with a JSON file per figure.

    Raises ValueError, one line, where a number is not there.
    """
    with all_there(images):
        numbers = read_numbers(images)
        return [
            _of_example1(numbers["example1"]),
            _of_example2(numbers["example2"], numbers["burst_end"]),
            _of_chaos(numbers["bifurcation"], numbers["example2"]),
            _of_bifurcations(numbers["bifurcation"], numbers["example2"]),
            _of_burst_end(numbers["burst_end"]),
            _of_multi_layer(numbers["multi_layer"]),
            *_of_trainings(numbers["does_chaos_help"]["answers"]),
            _of_authors_trainings(numbers["authors_settings"]),
            _of_published_gains(numbers["authors_settings"]),
        ]


def _of_example1(found: Numbers) -> Verdict:
    epochs = found["epochs_until_settled"]
    w = found["w"]
    settles = epochs is not None and abs(w["last"] - 0.4) < 0.005
    return Verdict(
        claim="By BP the weight slides to 0.4 and stays",
        published="code, Example 1",
        measured=f"from {w['first'][0]:g} to {w['last']:.5f} in {epochs} epochs",
        verdict=HOLDS if settles else FAILS,
        notebook="01_single_neuron_bp",
        test="tests/test_figures.py",
    )


def _of_example2(found: Numbers, noisy: Numbers) -> Verdict:
    holds = len(found["statements_that_hold"])
    checked = found["statements_checked"]
    runs = noisy["parameters"]["runs"]
    return Verdict(
        claim="By CSBP it bursts twice, bifurcates and comes to rest",
        published="code, Example 2",
        measured=(
            f"{holds} of {checked} checked features; with rounding noise all of them in "
            f"{noisy['runs_with_all_statements']:,} of {runs:,} runs"
        ),
        verdict=HOLDS if holds == checked else HOLDS_IN_PART,
        notebook="02_single_neuron_csbp",
        test="tests/test_single_neuron.py",
    )


def _of_chaos(found: Numbers, run: Numbers) -> Verdict:
    share = found["chaotic_share_above_critical_z"]
    return Verdict(
        claim="While z is large the weight moves chaotically",
        published="code, Example 2",
        measured=(
            f"with z held, the Lyapunov exponent is positive at {share:.0%} of the z above "
            f"z_c = {run['critical_z']:.2f}; between them lie cycles"
        ),
        verdict=HOLDS_IN_PART if share > 0 else FAILS,
        notebook="04_bifurcation",
        test="tests/test_dynamics.py",
    )


def _of_bifurcations(found: Numbers, run: Numbers) -> Verdict:
    doublings = [event["z"] for event in found["events"] if event["kind"] == "period doubling"]
    at = ", ".join(f"{z:.2f}" for z in doublings)
    return Verdict(
        claim="As z falls the motion bifurcates and settles",
        published="code, Example 2",
        measured=(
            f"exact: period doublings at z = {at}, a stable rest from z_c = "
            f"{run['critical_z']:.2f} down"
        ),
        verdict=HOLDS if doublings else FAILS,
        notebook="04_bifurcation",
        test="tests/test_dynamics.py",
    )


def _of_burst_end(found: Numbers) -> Verdict:
    ends = found["percentiles_of_the_end"]
    published = found["end_of_second_burst"]["published"]
    is_one_of_many = ends["1"] < published < ends["99"]
    return Verdict(
        claim=f"The second burst ends near epoch {published}",
        published="code, Example 2",
        measured=(
            f"median {ends['50']:.0f}, in 90 % of runs {ends['5']:.0f} to {ends['95']:.0f}; here "
            f"{found['end_of_second_burst']['this machine']}"
        ),
        verdict="one run of many, rounding decides" if is_one_of_many else FAILS,
        notebook="05_what_is_reproducible",
        test="tests/test_single_neuron.py",
    )


def _of_multi_layer(found: Numbers) -> Verdict:
    rests_from = found["epoch_weights_come_to_rest"]
    rests = rests_from is not None and rests_from > found["epoch_at_critical_z"]
    return Verdict(
        claim="It does so in a network of several layers, too",
        published="code, multi-layer example, one forward pass",
        measured=(
            f"on a layer's output z falls below z_c = {found['critical_z']:.2f} at epoch "
            f"{found['epoch_at_critical_z']:.0f}, and the weights rest from epoch {rests_from}"
        ),
        verdict=HOLDS if rests else FAILS,
        notebook="03_multi_layer",
        test="tests/test_multi_layer.py",
    )


# What the paper claims for training, by the question of notebook 8 that asks for it.
CLAIMS = {
    "Does CSBP help?": ("Networks trained with it are more accurate", "tables, one run each"),
    "Does chaos help?": ("Chaos is what makes them so", "abstract"),
    "Does the membrane form do more than a plain pull?": (
        "On the membrane the chaotic loss does more than a pull",
        "training code, layer h1",
    ),
    "Does it make networks robust?": ("It makes networks more robust", "abstract"),
}


def _of_trainings(answers: Mapping[str, Numbers]) -> list[Verdict]:
    return [
        Verdict(
            claim=claim,
            published=published,
            measured=answers[question]["because"],
            verdict=answers[question]["short"],
            notebook="08_does_chaos_help",
            test="tests/test_study_contrasts.py",
        )
        for question, (claim, published) in CLAIMS.items()
    ]


def _of_authors_trainings(found: Numbers) -> Verdict:
    largest = max(found["z_over_critical_at_most"].values())
    return Verdict(
        claim="The published trainings were chaotic",
        published="title and abstract",
        measured=f"z / z_c of fc1 was at most {largest:.2g}, by a bound; of h1 nothing is known",
        verdict="not by the chaotic loss of fc1 alone" if largest < 1 else "not excluded",
        notebook="09_the_authors_settings",
        test="tests/test_study_authors.py",
    )


def _of_published_gains(found: Numbers) -> Verdict:
    gains = found["gains"]
    clear = [name for name, gain in gains.items() if gain["difference"] > 1.96 * gain["error"]]
    said = ", ".join(
        f"{gain['difference']:+.2f} ± {1.96 * gain['error']:.2f} ({name})"
        for name, gain in gains.items()
    )
    return Verdict(
        claim="It gained accuracy in three data sets",
        published="tables and logs, one run each",
        measured=f"points, ± 95 % for the choice of test samples alone: {said}",
        verdict=f"beyond the test set's error in {len(clear)} of {len(gains)}; seeds unknown",
        notebook="09_the_authors_settings",
        test="tests/test_study_authors.py",
    )
