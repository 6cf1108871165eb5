"""`ctaflows run`: a command for each flow, with its parameters as options."""

from __future__ import annotations

import inspect
import json
import os
import types
import typing
from typing import Any

import click

from ctaflows.cli import console, flow_registry, options, output
from ctaflows.errors import CtaflowsError, PartialFailure, UsageError
from ctaflows.tracking import task_runners
from ctaflows.tracking.flow import NotRecorded

_PLAIN = {str: click.STRING, int: click.INT, float: click.FLOAT}


class _Flows(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(flow_registry.entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in flow_registry.entry_points():
            return None
        return flow_command(cmd_name, flow_registry.load(cmd_name))


@click.group("run", cls=_Flows, epilog="Example: ctaflows run fetch-dl1 --date 20241114")
def command() -> None:
    """Run a flow now.

    Prefect tracks the run where a Prefect API is configured (PREFECT_API_URL or Prefect's profile).
    With --track a temporary Prefect server tracks it; otherwise it is a plain run. --runner selects
    where its tasks run.
    """


def flow_command(name: str, flow: Any) -> click.Command:
    """Return the command of a flow, made from its signature and docstring."""
    from ctaflows.tracking.flow import parameter_descriptions, summary

    described = parameter_descriptions(flow.fn)
    hints = typing.get_type_hints(flow.fn)
    params: list[click.Parameter] = [
        _option(parameter, hints.get(parameter.name, str), described.get(parameter.name))
        for parameter in inspect.signature(flow.fn).parameters.values()
    ]
    made = click.Command(
        name, params=params, help=summary(flow.fn), callback=_runner(flow), no_args_is_help=False
    )
    click.option(
        "--track/--no-track", default=None,
        help="Track the run by Prefect, or not [default: if an API is configured].",
    )(made)  # fmt: skip
    click.option(
        "--runner", "task_runner", metavar="WORD",
        help="Where tasks run: threads, dask, dask:ADDRESS or slurm. All but threads need Prefect.",
    )(made)  # fmt: skip
    return options.verbose(options.as_json(made))


def _option(parameter: inspect.Parameter, hint: Any, described: str | None) -> click.Option:
    flag = "--" + parameter.name.replace("_", "-")
    required = parameter.default is inspect.Parameter.empty
    default = None if required else parameter.default
    kind, multiple = _click_type(hint)
    common: dict[str, Any] = {"help": described, "required": required}
    if kind is bool:
        off = "no-" + flag[2:]
        flags = flag if default is False else f"{flag}/--{off}"
        return click.Option([flags, parameter.name], default=bool(default), is_flag=True, **common)
    show = default not in (None, "", (), [])
    return click.Option(
        [flag, parameter.name],
        type=kind,
        multiple=multiple,
        default=default,
        show_default=show,
        **common,
    )


def _click_type(hint: Any) -> tuple[Any, bool]:
    """Return the click type of a type hint, and whether the option may be given several times.

    Types other than plain ones, choices, and lists of these are read as JSON.
    """
    arguments = [a for a in typing.get_args(hint) if a is not type(None)]
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        if str in arguments:
            return click.STRING, False
        if len(arguments) == 1:
            return _click_type(arguments[0])
    if hint is bool:
        return bool, False
    if origin is typing.Literal:
        return click.Choice([str(a) for a in arguments]), False
    if origin in (list, tuple) and arguments:
        return _click_type(arguments[0])[0], True
    return _PLAIN.get(hint, _Json()), False


class _Json(click.ParamType[Any]):
    name = "JSON"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as why:
            self.fail(f"is not JSON: {why}", param, ctx)


def _runner(flow: Any) -> Any:
    def run(
        *, track: bool | None, task_runner: str | None, as_json: bool, **parameters: Any
    ) -> None:
        parameters = {k: list(v) if isinstance(v, tuple) else v for k, v in parameters.items()}
        is_tracked = _is_tracked(_track_or_refuse(track, task_runner))
        call = _tracked(flow, task_runner) if is_tracked else _plain(flow)
        failure: CtaflowsError | None = None
        with console.progress_shown():
            try:
                result = call(**parameters)
            except PartialFailure as why:
                failure, result = why, why.report
            except NotRecorded as why:
                failure, result = why, why.result
        _print(result, as_json=as_json)
        if failure is not None:
            raise failure

    return run


def _track_or_refuse(track: bool | None, word: str | None) -> bool | None:
    """Return --track, or True where the task runner needs Prefect; raise if they don't agree."""
    if word is None or not task_runners.parse(word).needs_prefect:
        return track
    if track is False:
        raise UsageError(
            f"--runner {word} needs Prefect, so it can't be used with --no-track",
            hint="Leave one of the two out.",
        )
    if task_runners.parse(word).is_elsewhere and flow_registry.prefect_api_url() is None:
        raise UsageError(
            f"--runner {word} runs tasks on other machines, which report to a Prefect server",
            hint="Start one (prefect server start), and set PREFECT_API_URL to its address.",
        )
    return True


def _is_tracked(track: bool | None) -> bool:
    """Return whether to track the run, print how, and allow Prefect a temporary server if needed.

    Parameters
    ----------
    track : bool or None
        None tracks the run if a Prefect API is configured.
    """
    url = flow_registry.prefect_api_url()
    if track is None:
        track = url is not None
    if not track:
        how = "pass --track to have it tracked" if url is None else "as asked"
        _say(f"a plain run, not tracked by Prefect ({how})")
    elif url is None:
        _say("tracked by a temporary Prefect server, which takes some seconds to start")
        os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
        # the first start creates the database, which may take longer than Prefect's default of 20 s
        os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    else:
        _say(f"tracked by Prefect at {url}")
    return track


def _tracked(flow: Any, word: str | None) -> Any:
    # otherwise Prefect prints the traceback of an error too (logging.yml, handlers.console)
    level = "INFO" if console.verbosity > 0 else "CRITICAL"
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", level)
    if word:
        os.environ[task_runners.VARIABLE] = word  # for its subflows too
    if word := task_runners.from_environment():
        task_runners.check(word)
    if hasattr(type(flow), "tracked"):
        return flow.tracked
    return flow.with_options(task_runner=task_runners.make(word)) if word else flow


def _plain(flow: Any) -> Any:
    if not hasattr(type(flow), "plain"):
        raise UsageError(
            "This flow runs only with Prefect", hint="Pass --track, or configure PREFECT_API_URL."
        )
    return flow.plain


def _say(text: str) -> None:
    if console.verbosity >= 0:
        click.echo(f"ctaflows: {text}", err=True)


def _print(result: Any, *, as_json: bool) -> None:
    records = getattr(result, "records", None)
    if as_json:
        output.print_json(records() if records else result)
    elif hasattr(result, "__rich_console__") or hasattr(result, "__rich__"):
        output.print_rich(result)
    elif result is not None:
        click.echo(result)
