"""Client processes to be killed: command lines, and forks of a process that imported all modules.

Run as a script this is the process that forks.
"""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CODE = "code"
ALLOWED_WAIT_S = 120


class Client:
    """A process that runs the client once.

    Attributes
    ----------
    pid : int
        Its process.
    said : Path
        What it writes to stderr.
    """

    def __init__(self, pid: int, said: Path) -> None:
        self.pid = pid
        self.said = said

    def code(self, wait_s: float = 0) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        raise NotImplementedError


class Spawned(Client):
    """`python -m ctaflows` as a process."""

    def __init__(self, words: Sequence[str], cwd: Path, env: Mapping[str, str], said: Path) -> None:
        with said.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ctaflows", *words],
                cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
            )  # fmt: skip
        super().__init__(self._process.pid, said)

    def code(self, wait_s: float = 0) -> int | None:
        try:
            return self._process.wait(wait_s) if wait_s else self._process.poll()
        except subprocess.TimeoutExpired:
            return None


class _Forked(Client):
    def __init__(self, pid: int, said: Path, forker: Forker) -> None:
        super().__init__(pid, said)
        self._forker = forker
        self._code: int | None = None

    def code(self, wait_s: float = 0) -> int | None:
        if self._code is None and self._forker.has_line(wait_s):
            self._code = self._forker.line()[CODE]
        return self._code


class Forker:
    """Forks clients one after the other, each some milliseconds after it is asked for."""

    def __init__(self, cwd: Path, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.line() == {"ready": True}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, job: dict[str, Any], said: Path) -> Client:
        """Start a run: ``{"words": [...]}`` for a command line, ``{"call": name, "args": ...}``."""
        assert self._process.stdin is not None
        line = json.dumps({**job, "said": str(said)}).encode()
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()
        return _Forked(self.line()["pid"], said, self)

    def has_line(self, wait_s: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], wait_s)[0])

    def line(self) -> Any:
        assert self._process.stdout is not None
        assert self.has_line(ALLOWED_WAIT_S), "the forking process says nothing"
        return json.loads(self._process.stdout.readline())


def _serve() -> None:
    import ctaflows.cli.app
    import ctaflows.cli.get
    import ctaflows.cli.put
    import ctaflows.tasks
    import ctaflows.transport  # noqa: F401

    _tell({"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(job)
        _tell({"pid": pid})
        _, status = os.waitpid(pid, 0)
        _tell({CODE: os.waitstatus_to_exitcode(status)})


def _tell(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _become(job: dict[str, Any]) -> None:
    """Run the client in this process; does not return."""
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(os.open(job["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        random.seed()
        if "words" in job:
            from ctaflows.cli import main

            main(job["words"])
        code = _call(job["call"], job["args"], job["options"])
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _call(name: str, args: list[Any], options: dict[str, Any]) -> int:
    import ctaflows.tasks
    from ctaflows.errors import CtaflowsError

    try:
        getattr(ctaflows.tasks, name)(*args, **options)
    except CtaflowsError as why:
        print(f"{type(why).__name__}: {why}", file=sys.stderr)
        return why.exit_code
    return 0


if __name__ == "__main__":
    _serve()
