"""Processes that train as examples/train.py does, one update at a time, when they are told to."""

from __future__ import annotations

import dataclasses
import importlib
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from benchmarks.memory import keep_freed_memory
from helpers import stand_in_for_torchvision, write_recordings
from torch import multiprocessing
from torch.utils.data import TensorDataset

from csbp_notebooks.files import ROOT

WAYS = ("loading", "BP", "CSBP")
METHODS = {"BP": "bp", "CSBP": "csbp"}

KILOBYTE = 1024  # the unit in which Linux counts memory

FASHION_IMAGES = 60_000  # as many as the real data set has to train on
DVS_PER_CLASS = 4  # recordings, so that there is a batch; a real one has about as many events
DVS_EVENTS = 200_000


class Job(NamedTuple):
    """What a team trains.

    Attributes:
        data: the name of a data set of train.py, whose preset it is.
        processes: how many train together.
    """

    data: str
    processes: int = 1


class Team:
    """Processes of one thread each, which share every batch.

    Args:
        job: what they train.

    Attributes:
        updates: of an epoch.
        peak: the most memory that one of them has held until now, in bytes, all of it counted.
    """

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        port = _free_port()
        self.pipes = []
        for rank in range(job.processes):
            ours, theirs = context.Pipe()
            arguments = (job, rank, port, theirs)
            context.Process(target=_work, args=arguments, daemon=True).start()
            self.pipes.append(ours)
        (self.updates,) = {pipe.recv() for pipe in self.pipes}
        self.peak = 0

    def do(self, way: str) -> None:
        """Load a batch, or train on one that is loaded, in all processes at once."""
        for pipe in self.pipes:
            pipe.send(way)
        self.peak = max(pipe.recv() for pipe in self.pipes)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _work(job: Job, rank: int, port: int, pipe: Connection) -> None:
    """Be one process of a team, as long as it is told what to do."""
    keep_freed_memory()
    torch.set_num_threads(1)
    world = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": job.processes,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": port,
    }
    os.environ.update({name: str(value) for name, value in world.items()})
    sys.path.insert(0, str(ROOT / "examples"))
    with tempfile.TemporaryDirectory() as folder:
        actions, updates = _actions(job, Path(folder))
        for action in actions.values():
            action()  # what is compiled and allocated, it is here
        pipe.send(updates)
        while True:
            actions[pipe.recv()]()
            pipe.send(KILOBYTE * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _actions(job: Job, folder: Path) -> tuple[dict[str, Callable[[], Any]], int]:
    """What each way does, and how many updates an epoch has."""
    train = importlib.import_module("train")
    command = ["--data", job.data, "--folder", str(folder), "--device", "cpu"]
    settings = train.parse(command)
    world = train.join_world(settings)
    data = _data(train, settings, folder)
    batches = _batches(train, settings, data, world)
    batch = next(batches)
    actions: dict[str, Callable[[], Any]] = {"loading": lambda: next(batches)}
    for way, method in METHODS.items():
        own = dataclasses.replace(settings, method=method)
        actions[way] = _updates(train, own, data, world, batch)
    return actions, len(data.train) // settings.batch


def _updates(train: Any, settings: Any, data: Any, world: Any, batch: list) -> Callable[[], Any]:
    """Updates of one training on one batch."""
    training = train.new_training(settings, data, world)
    return lambda: train.update(training, iter([batch]), settings, world)


def _batches(train: Any, settings: Any, data: Any, world: Any) -> Iterator[list]:
    """Batches as train.py loads them, without an end."""
    samples = train.train_data.Augmented(data.train, settings.crop, settings.flip, 0, epoch=0)
    rows = train.micro_batches(len(data.train), settings, 0, world)
    while True:
        yield from train.load(samples, rows.reshape(-1, rows.shape[-1]).tolist(), settings, world)


def _data(train: Any, settings: Any, folder: Path) -> Any:
    """Data as large as the real ones, on their way through the code that reads those."""
    if settings.data == "fashion_mnist":
        labels = torch.arange(FASHION_IMAGES) % 10
        images = TensorDataset(torch.rand(FASHION_IMAGES, 28, 28), labels)
        return train.train_data.in_three(images, labels.tolist(), images, settings.validation)
    write_recordings(folder, DVS_PER_CLASS, DVS_EVENTS)
    with pytest.MonkeyPatch.context() as patch:
        stand_in_for_torchvision(patch)
        return train.train_data.cifar10_dvs(folder, settings.time_steps, settings.side, 0.0)
