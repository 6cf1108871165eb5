"""The command `ctaflows`: its subcommands, its exit codes, and its signal handlers."""

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

#: The commands, with their lines in the overview. A command's module is imported when it is used.
COMMANDS = {
    "ls": "List a remote directory.",
    "find": "Find remote files by name, time and size.",
    "stat": "Show size, time, checksums and locality of remote files.",
    "du": "Show the number and total size of files by directory.",
    "get": "Fetch files and verify their checksums.",
    "put": "Upload files and verify their checksums.",
    "verify": "Check fetched files against their manifest.",
    "mkdir": "Make remote directories.",
    "mv": "Move or rename remote files and directories.",
    "rm": "Remove remote files and directories.",
    "inspect": "Show what is in DL1 files.",
    "check": "Check the quality of DL1 files.",
    "night": "Check whether a night is complete.",
    "run": "Run a flow now, such as fetch-dl1.",
    "flows": "List the flows that can be run.",
    "token": "Log in; show, renew and end the login.",
    "certificate": "Delegate a proxy certificate to the JupyterHub platform.",
    "start-agent": "Start the agent, which renews the token in the background.",
    "stop-agent": "Stop the agent.",
    "agent": "Show whether the agent runs.",
    "sandbox": "Start a storage like dCache with a sample night, on this machine.",
    "demo": "Fetch a sample night from a sandbox, tracked by Prefect.",
}

#: Commands that share a module with another one.
_WHERE = {"start-agent": "agent:start", "stop-agent": "agent:stop"}

#: Commands whose process may end without the interpreter's cleanup, see `_leave`.
_PLAIN = {"ls", "find", "stat", "du", "get", "put", "verify", "mkdir", "mv", "rm"}
#: Modules that need this cleanup once they are imported.
_NEED_CLEANUP = {"prefect", "ctaflows.dl1.reader_process"}
_used: str | None = None

EPILOG = """\b
Examples:
  ctaflows ls -l cta/DL1/20241114
  ctaflows get -r cta/DL1/20241114 . --exclude datacheck
  ctaflows run fetch-dl1 --date 20241114 --run 11111,11113

\b
Exit codes: 0 done, 2 usage, 3 not found, 4 already exists, 5 token or rights,
6 file offline, 7 integrity, 8 storage, 9 network, 10 some files failed,
11 `night`: it is still growing, 130 Ctrl-C or SIGTERM. 1 is any other error.
"""


class _Lazy(click.Group):
    """A group that imports the module of a command when the command or its help is used."""

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
    """Fetch, verify and inspect CTAO and LST-1 data.

    Remote paths are written as cta/DL1/20241114. Data goes to stdout, progress and messages to
    stderr.
    """


def main(args: list[str] | None = None) -> NoReturn:
    """Run `ctaflows`, and end the process with its exit code."""
    run(cli, "ctaflows", args)


def run(command: click.Command, name: str, args: list[str] | None = None) -> NoReturn:
    """Run a command as the console script of this name, and end the process with its exit code."""
    _use_utf_8()
    _prepare_streams()
    signal.signal(signal.SIGINT, _stopped)
    signal.signal(signal.SIGTERM, _stopped)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _stopped)
    _leave(exit_code(command, name, args))


def exit_code(command: click.Command, name: str, args: list[str] | None = None) -> int:
    """Run a command as the console script of this name, and return its exit code."""
    color = False if os.environ.get("NO_COLOR") else None
    code: object
    try:
        code = command.main(args, prog_name=name, standalone_mode=False, color=color)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except SystemExit as done:
        # click exits with 1 when a pipe is closed (click.core, BaseCommand.main: EPIPE)
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
        # the reader of stdout has closed the pipe (`ctaflows ls … | head`): no error
        _discard_output(sys.stdout)
        code = 0
    except Exception as why:  # noqa: BLE001  reported, whatever it is
        code = _show_other(why, name)
    return code if isinstance(code, int) else 0


def _is_output_error(why: Exception) -> bool:
    """Return whether an error was raised while printing: by click, rich, or the last flush."""
    trace = why.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__")) if trace else ""
    return module == __name__ or module.partition(".")[0] in ("click", "rich")


def _discard_output(stream: TextIO) -> None:
    """Redirect a standard stream to /dev/null."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _leave(code: int) -> NoReturn:
    """End the process, without the interpreter's cleanup where nothing needs it.

    The cleanup takes a twentieth of the time of a command that fetches 5,000 files.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _discard_output(stream)  # else the interpreter flushes again, and exits with 120
    if _used in _PLAIN and not _NEED_CLEANUP & sys.modules.keys():
        if oidc := sys.modules.get("ctaflows.auth.oidc"):
            oidc.settle()
        os._exit(code)
    gc.freeze()  # saves some 50 ms of the interpreter's last collection
    sys.exit(code)


#: A second signal within this time, seconds, belongs to the first one: coreutils' `timeout` signals
#: its command, then its process group.
_SAME_S = 0.05
_stopped_at: float | None = None


def _stopped(number: int, _frame: object) -> None:
    """Stop all threads, then this one; a second signal ends the process at once."""
    global _stopped_at
    if number == signal.SIGHUP:  # sent by the kernel and by the shell, at different times
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if _stopped_at is not None:
        since_s = time.monotonic() - _stopped_at
        if since_s < _SAME_S or _is_storing_tokens(since_s):
            return
        os._exit(130)
    _stopped_at = time.monotonic()
    if thread_pool := sys.modules.get("ctaflows.thread_pool"):
        thread_pool.stop_all()
    raise KeyboardInterrupt


def _is_storing_tokens(since_s: float) -> bool:
    """Return whether new tokens, which must not be lost, are still awaited; print that they are.

    Parameters
    ----------
    since_s : float
        Time since the first signal, seconds.
    """
    oidc = sys.modules.get("ctaflows.auth.oidc")
    # a module that is being imported has no names yet
    if (
        oidc is None
        or not hasattr(oidc, "settle")
        or not oidc.is_keeping()
        or since_s > oidc.PATIENCE_S
    ):
        return False
    with contextlib.suppress(OSError):
        left_s = oidc.PATIENCE_S - since_s
        click.echo(f"New tokens are on their way: {left_s:.0f} s more, or the login ends", err=True)
    return True


def _use_utf_8() -> None:
    """Begin anew in Python's UTF-8 mode where files could have names of ASCII letters only.

    That is so in the C locale, where Python is kept from what it does there (PEP 538, PEP 540).
    Names at a door are UTF-8, and files get the same bytes.
    """
    if sys.getfilesystemencoding() == "ascii" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  this very command


def _prepare_streams() -> None:
    """Replace closed standard streams, and escape what the encoding of an open one lacks."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  open until the end
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _show(why: CtaflowsError, name: str) -> None:
    _print_error(why, name, str(why), why.hint)


def _show_other(why: Exception, name: str) -> int:
    """Print an error that is not a CtaflowsError, and return its exit code.

    What the system refuses, such as a write to stdout, is not an error in ctaflows.
    """
    from ctaflows.atomic_files import local_error, refusal

    if told := refusal(why):
        error: CtaflowsError
        if _is_output_error(why):
            error = CtaflowsError(
                "The output can't be written",
                said=told.strerror or str(told),
                hint="What was done is done. Check where stdout goes.",
            )
        else:
            path = os.fsdecode(told.filename) if isinstance(told.filename, str | bytes) else None
            error = local_error(
                told, path, "The system refuses what is needed", hint="Run it with -v to see where."
            )
        _print_error(why, name, str(error), error.hint)
        return error.exit_code
    hint = "This should not happen. Run it again with -v and report it."
    _print_error(why, name, error_text(why), hint)
    return 1


def _print_error(why: Exception, name: str, text: str, hint: str | None) -> None:
    with contextlib.suppress(OSError):  # stderr can't be written
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
