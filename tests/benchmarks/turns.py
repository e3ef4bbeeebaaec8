"""The order in which contenders are timed."""

import random


def turns(sizes, rounds, names):
    """(size, turn, name) in the order in which they are timed, in each turn another."""
    return [
        (size, turn, name)
        for size in sizes
        for turn in range(rounds)
        for name in random.Random(turn).sample(names, len(names))
    ]
