"""The process that reads DL1 files for others: paths come in, what is in them goes out.

A damaged file may make HDF5 crash, or unpack to gigabytes: here neither harms who asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any

from ctaflows.dl1.inspect import inspect_file
from ctaflows.errors import CtaflowsError, IntegrityError

#: Data segment of the process in bytes; reading takes some 100 MB of it.
MEMORY_BYTES = 400 * 2**20


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Read one file.

    Parameters
    ----------
    request : dict
        ``path``, ``images`` as for `inspect_file`, and ``folder``, which a path may be relative to.

    Returns
    -------
    dict
        ``summary``, or ``error`` with the error's class and its attributes.
    """
    try:
        if request.get("folder"):
            os.chdir(request["folder"])
        return {"summary": inspect_file(request["path"], images=request["images"]).to_dict()}
    except CtaflowsError as why:
        error = why
    except Exception as why:  # noqa: BLE001  whatever a file brings about is told of that file
        error = IntegrityError(
            "the file can't be read", where=request["path"], said=f"{type(why).__name__}: {why}"
        )
    told = {k: getattr(error, k) for k in ("what", "where", "said", "hint")}
    return {"error": type(error).__name__, **told}


def main() -> None:
    """Answer one line of JSON with another until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked ends this process by closing its pipe
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        out.write(json.dumps(answer(json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
