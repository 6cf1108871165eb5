"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from ctaflows.cli import console

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def _set_verbosity(ctx: click.Context, param: click.Parameter, value: int) -> int:
    is_meant = value and ctx.resilient_parsing is False
    level = (value if param.name == "verbose" else -1) if is_meant else None
    console.set_verbosity(level)
    return value


def verbose(command: F) -> F:
    """Add --verbose and --quiet."""
    command = click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_set_verbosity,
        help="Print more messages, and tracebacks.",
    )(command)
    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_set_verbosity,
        help="Print no progress and no warnings.",
    )(command)


def profile(command: F) -> F:
    """Add --profile."""
    return click.option(
        "--profile", metavar="NAME", help="Settings to use [default: $CTAFLOWS_PROFILE, or cscs]."
    )(command)


def as_json(command: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(command)


def follow(command: F) -> F:
    """Add --follow."""
    return click.option(
        "--follow",
        is_flag=True,
        help="Enter directories behind symbolic links, too, none of them twice.",
    )(command)


def patterns(command: F) -> F:
    """Add --include and --exclude."""
    command = click.option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Leave out files or directories that match.",
    )(command)
    return click.option(
        "--include", multiple=True, metavar="GLOB", help="Only files that match, e.g. '*.h5'."
    )(command)


def _within(
    manage: Callable[[Any], contextlib.AbstractContextManager[Any]],
) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that enters a context with the option's value until the command ends."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:  # noqa: ARG001
        if value is not None and not ctx.resilient_parsing:
            ctx.with_resource(manage(value))
        return value

    return callback


def _at_once(n_transfers: int) -> contextlib.AbstractContextManager[None]:
    from ctaflows.settings import overridden

    return overridden(transfers=n_transfers)


def _at_most(bytes_per_s: float) -> contextlib.AbstractContextManager[None]:
    from ctaflows.transfer.progress import limited_to

    return limited_to(bytes_per_s)


def rate_options(command: F) -> F:
    """Add --transfers and --bwlimit, which apply while the command runs."""
    command = click.option(
        "--bwlimit",
        type=Rate(),
        callback=_within(_at_most),
        metavar="RATE",
        help="Limit of all transfers together, bytes per second, e.g. 50M [default: none].",
    )(command)
    return click.option(
        "--transfers",
        type=click.IntRange(1, 64),
        callback=_within(_at_once),
        expose_value=False,
        metavar="N",
        help="At most so many requests of transfers at once [default: as many as help, up to 32].",
    )(command)


class Rate(click.ParamType):  # type: ignore[type-arg]  # generic in some versions of click
    """A rate in bytes per second: a number, with k, M or G for powers of 1000."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number of a text: 50000000.0 of ``50M``."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().removesuffix("/s").removesuffix("B")
        factor = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:], 1.0)
        try:
            number = float(text[:-1] if factor > 1 else text) * factor
        except ValueError:
            number = 0.0
        if not 1 <= number < float("inf"):
            self.fail(f"{value!r} is not a rate such as 50M or 500k.", param, ctx)
        return number
