"""The command csbp-run, for a machine that may lack what it needs: one line then says so."""

import os
import sys
from importlib.util import find_spec

# What the extra `notebooks` brings and running a notebook takes; csbp_core alone does without it.
NEEDED = (
    "click",
    "IPython",
    "ipykernel",
    "matplotlib",
    "nbformat",
    "papermill",
    "psutil",
    "tabulate",
)


def main() -> None:
    """Run csbp-run; exit code 2 and one line where it cannot even be imported.

    That is where the notebooks extra is not installed, and in a folder that has been deleted.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        install = 'pip install "csbp-notebooks[notebooks]"'
        print(f"csbp-run: not installed: {', '.join(missing)}; try {install}", file=sys.stderr)
        sys.exit(2)

    if not has_folder():
        line = "csbp-run: the folder that it is called in is gone: change to another"
        print(line, file=sys.stderr)
        sys.exit(2)

    from . import run  # not before: it imports what was just looked for

    run.main()


def has_folder() -> bool:
    """Whether the folder is there in which this process runs."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
