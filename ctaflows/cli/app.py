"""The command `ctaflows`: its commands by name, and what becomes of errors."""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn, TextIO

import click

from ctaflows.errors import CtaflowsError, error_text, redact

#: Command to what its line in the overview says. A command's module is loaded when it is used.
COMMANDS = {
    "ls": "List a directory at the door.",
    "find": "Find files by name, time and size.",
    "stat": "Describe files: size, time, checksums, locality.",
    "du": "Tell how many bytes and files are where.",
    "get": "Fetch files, resumed and verified.",
    "put": "Upload files, verified before they get their name.",
    "verify": "Compare a folder with the proofs of its transfers.",
    "mkdir": "Make directories at the door.",
    "mv": "Move or rename at the door.",
    "rm": "Remove at the door; trees are shown first.",
    "inspect": "Tell what is in DL1 files.",
    "check": "Compare DL1 files with what good ones are like.",
    "night": "Tell whether a night is whole.",
    "run": "Run a flow here and now, such as fetch-dl1.",
    "flows": "List the flows that can be run.",
    "token": "Log in; show, renew and end the login.",
    "certificate": "Delegate a proxy certificate to the platform.",
    "start-agent": "Keep the token warm in the background.",
    "stop-agent": "Stop doing so.",
    "agent": "Tell how the agent is.",
    "sandbox": "A door, an issuer and a sample night on loopback.",
    "demo": "Fetch a sample night from a sandbox, tracked by Prefect.",
}

#: Commands that share a module with another one.
_WHERE = {"start-agent": "agent:start", "stop-agent": "agent:stop"}

#: Commands that need no tidying up at the end of the interpreter.
_PLAIN = {"ls", "find", "stat", "du", "get", "put", "verify", "mkdir", "mv", "rm"}
#: Modules that have something to tidy up.
_TIDY = {"prefect", "ctaflows.dl1.reader_process"}
_used: str | None = None

EPILOG = """\b
Examples:
  ctaflows ls -l cta/DL1/20241114
  ctaflows get -r cta/DL1/20241114 . --exclude datacheck
  ctaflows run fetch-dl1 --date 20241114 --run 11111,11113

\b
Exit codes: 0 done, 2 usage, 3 not found, 4 already exists, 5 token or rights,
6 file offline, 7 integrity, 8 storage, 9 network, 10 some files failed,
11 `night`: it is still growing, 130 Ctrl-C or SIGTERM.
"""


class _Lazy(click.Group):
    """Loads a command's module when the command is used, or its own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        where, _, attribute = _WHERE.get(cmd_name, f"{cmd_name}:command").partition(":")
        module = importlib.import_module(f"ctaflows.cli.{where}")
        command: click.Command = getattr(module, attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean “{close[0]}”?" if close else ""
            raise click.UsageError(f"There is no command “{args[0]}”.{meant}", ctx)
        global _used
        _used = args[0] if args else None
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ctaflows")
def cli() -> None:
    """Fetch, prove and inspect CTAO and LST-1 data.

    Paths at the door are written as cta/DL1/20241114. Data goes to stdout, progress and messages to
    stderr.
    """


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with the right code."""
    run(cli, "ctaflows", args)


def run(command: click.Command, name: str, args: list[str] | None = None) -> NoReturn:
    """Run a command as a console script of that name, and end the process with the right code."""
    _prepare_streams()
    signal.signal(signal.SIGINT, _stopped)
    signal.signal(signal.SIGTERM, _stopped)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _stopped)
    _leave(exit_code(command, name, args))


def exit_code(command: click.Command, name: str, args: list[str] | None = None) -> int:
    """Run a command as a console script of that name, and give the code it ends with."""
    color = False if os.environ.get("NO_COLOR") else None
    code: object
    try:
        code = command.main(args, prog_name=name, standalone_mode=False, color=color)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except SystemExit as done:
        # click takes a closed pipe for a failure (click.core, BaseCommand.main: EPIPE)
        is_closed_pipe = type(sys.stdout).__name__.endswith("PacifyFlushWrapper")
        code = 0 if is_closed_pipe else done.code
    except (click.Abort, KeyboardInterrupt):
        with contextlib.suppress(OSError):  # the terminal may be gone
            click.echo(f"{name}: stopped; what is done is kept", err=True)
        code = 130
    except click.ClickException as why:
        why.show()
        code = why.exit_code
    except CtaflowsError as why:
        _show(why, name)
        code = why.exit_code
    except BrokenPipeError:
        # the reader of our output has gone (`ctaflows ls … | head`): nothing is wrong
        _lead_nowhere(sys.stdout)
        code = 0
    except Exception as why:  # noqa: BLE001  the last resort
        code = _show_other(why, name)
    return code if isinstance(code, int) else 0


def _is_of_output(why: OSError) -> bool:
    """Was it raised by what prints: click, rich, or the last flush here?"""
    trace = why.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__")) if trace else ""
    return module == __name__ or module.partition(".")[0] in ("click", "rich")


def _lead_nowhere(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _leave(code: int) -> NoReturn:
    """End the process.

    To take apart what a command holds takes a twentieth of its time where it fetched 5,000 files:
    of one that leaves nothing to be tidied up the system takes it all back at once.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _lead_nowhere(stream)  # else the interpreter tries again, and has a code of its own
    if _used in _PLAIN and not _TIDY & sys.modules.keys():
        if deadline := sys.modules.get("ctaflows.auth.oidc"):
            deadline.settle()
        os._exit(code)
    gc.freeze()  # the interpreter's last collection would go through all there is: some 50 ms
    sys.exit(code)


#: What is sent again within this time is the same request: coreutils' `timeout` tells its command,
#: then its process group. Seconds.
_SAME_S = 0.05
_stopped_at: float | None = None


def _stopped(number: int, _frame: object) -> None:
    """Stop the work in all threads, then this one; the second time at once."""
    global _stopped_at
    if number == signal.SIGHUP:  # the kernel and the shell each tell of one hangup, some time apart
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if _stopped_at is not None:
        silent_s = time.monotonic() - _stopped_at
        if silent_s < _SAME_S or _is_login_at_stake(silent_s):
            return
        os._exit(130)
    _stopped_at = time.monotonic()
    if crew := sys.modules.get("ctaflows.thread_pool"):
        crew.stop_all()
    raise KeyboardInterrupt


def _is_login_at_stake(silent_s: float) -> bool:
    """Tell whether an issuer's answer, which must not be lost, is waited for still, and say so."""
    deadline = sys.modules.get("ctaflows.auth.oidc")
    # while it is being imported it has no names yet
    if (
        deadline is None
        or not hasattr(deadline, "settle")
        or not deadline.is_keeping()
        or silent_s > deadline.PATIENCE_S
    ):
        return False
    with contextlib.suppress(OSError):
        left_s = deadline.PATIENCE_S - silent_s
        click.echo(f"New tokens are on their way: {left_s:.0f} s more, or the login ends", err=True)
    return True


def _prepare_streams() -> None:
    """Make do with closed streams, and with terminals that have no letters but ASCII."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  open until the end
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _show(why: CtaflowsError, name: str) -> None:
    _say(why, name, str(why), why.hint)


def _show_other(why: Exception, name: str) -> int:
    """Show an error that no rule of ours has met, and give its exit code.

    The system may refuse anything anywhere, such as to write to stdout: that is no fault of ours.
    """
    if isinstance(why, OSError):
        from ctaflows.atomic_files import local_error

        error: CtaflowsError
        if _is_of_output(why):
            error = CtaflowsError(
                "The output can't be written",
                said=why.strerror or str(why),
                hint="What was done is done. See where stdout leads to.",
            )
        else:
            path = os.fsdecode(why.filename) if isinstance(why.filename, str | bytes) else None
            error = local_error(
                why, path, "The system refuses what is needed", hint="Run it with -v to see where."
            )
        _say(why, name, str(error), error.hint)
        return error.exit_code
    hint = "This should not happen. Run it again with -v and report it."
    _say(why, name, error_text(why), hint)
    return 1


def _say(why: Exception, name: str, text: str, hint: str | None) -> None:
    with contextlib.suppress(OSError):  # nobody can be told
        if _is_verbose():
            import traceback

            click.echo(redact("".join(traceback.format_exception(why))), err=True)
        click.secho(f"{name}: {text}", fg=_red(), err=True)
        if hint:
            click.echo(f"{' ' * len(name)}  {hint}", err=True)


def _red() -> str | None:
    return None if os.environ.get("NO_COLOR") else "red"


def _is_verbose() -> bool:
    from ctaflows.cli import console

    return console.verbosity > 0
