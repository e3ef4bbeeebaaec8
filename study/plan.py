"""Print, as JSON for the Snakefile, which tasks and arms there are and which arms each arm needs.

python -m study.plan
"""

import json

from .arms import ARMS
from .tasks import TASKS


def main() -> None:
    """Print the plan."""
    needs = {name: arm.needs for name, arm in ARMS.items()}
    print(json.dumps({"tasks": list(TASKS), "needs": needs}))


if __name__ == "__main__":
    main()
