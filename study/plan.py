"""Print, as JSON for the Snakefile, what there is to run.

python -m study.plan
"""

import json

from .arms import ARMS
from .experiment_1 import ANNEALINGS, RATIOS, RESTS, TASK_NAMES
from .tasks import TASKS


def main() -> None:
    """Print the plan."""
    plan = {
        "tasks": list(TASKS),
        "needs": {name: arm.needs for name, arm in ARMS.items()},  # of each arm other arms' cells
        "experiment_1": {
            "tasks": TASK_NAMES,
            "rests": list(RESTS),
            "annealings": list(ANNEALINGS),
            "ratios": RATIOS,
        },
    }
    print(json.dumps(plan))


if __name__ == "__main__":
    main()
