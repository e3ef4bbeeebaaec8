"""How a command of this project ends: every reason is one line and an exit code."""

import signal
import sys
from typing import NoReturn

import click

from .stopping import Stopped, end_children, stoppable
from .streams import prepare_streams, say


def run_command(command: click.Command, name: str, when_stopped: str) -> NoReturn:
    """Run a command of the command line, and exit.

    Bad input, a ValueError, is exit code 2; a full disk is 1; a signal ends what was started and is
    128 and its number.

    Args:
        command: what is run.
        name: that starts its line on stderr.
        when_stopped: what is said after a signal, `{}` for how it was stopped.
    """
    prepare_streams()
    with stoppable():
        try:
            sys.exit(command(standalone_mode=False))
        except Stopped as stop:
            end_children()
            how = "interrupted" if stop.code == 128 + signal.SIGINT else "stopped"
            _stop(name, stop.code, when_stopped.format(how))
        except ValueError as error:
            _stop(name, 2, str(error))
        except OSError as error:  # a full disk
            _stop(name, 1, str(error))
        except click.ClickException as error:
            _stop(name, 2, error.format_message())
        except click.Abort:  # Ctrl-C that was not heard here
            _stop(name, 130, when_stopped.format("interrupted"))


def _stop(name: str, exit_code: int, line: str) -> NoReturn:
    """Say one line on stderr and exit."""
    say(f"{name}: {line}", sys.stderr)
    sys.exit(exit_code)
