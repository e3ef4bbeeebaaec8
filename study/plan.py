"""Print, as JSON for the Snakefile, what there is to run.

python -m study.plan
"""

import json

from .arms import ARMS
from .experiment_1 import TASK_NAMES, grid
from .experiment_2 import ARMS as ARMS_OF_2
from .experiment_3 import TIMES
from .experiment_4 import EVERY_ARM as ARMS_OF_4
from .protocol import SPLITS
from .tasks import TASKS


def main() -> None:
    """Print the plan."""
    plan = {
        "tasks": list(TASKS),
        "needs": {name: arm.needs for name, arm in ARMS.items()},  # of each arm other arms' cells
        "experiment_1": {
            "tasks": TASK_NAMES,
            "cells": [place.file_name for place in grid()],
        },
        "experiment_2": {
            "tuned_as": {name: arm.tuned_as for name, arm in ARMS_OF_2.items()},
            "everywhere": [name for name, arm in ARMS_OF_2.items() if arm.everywhere],
            "now_constant": [name for name, arm in ARMS_OF_2.items() if not arm.everywhere],
        },
        "experiment_3": {"times": TIMES},
        "experiment_4": {"arms": ARMS_OF_4, "splits": SPLITS},
    }
    print(json.dumps(plan))


if __name__ == "__main__":
    main()
