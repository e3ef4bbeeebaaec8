"""All verdicts that a primary contrast can have; four of them come from the tests."""

from __future__ import annotations

from ..contrasts import CANNOT_TELL, EQUIVALENT, HELPS, HURTS

CANNOT_BE_INTEGRATED = "cannot be integrated"  # of experiment 3, in place of the tests
UNFINISHED = "unfinished"  # its cells are not all there

OF_TESTS = (HELPS, HURTS, EQUIVALENT, CANNOT_TELL)
VERDICTS = (*OF_TESTS, CANNOT_BE_INTEGRATED, UNFINISHED)
