"""Which tests run in the same process of pytest-xdist, as in ``pytest -n 2``."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadScopeScheduling

#: Folders whose tests use one server, which takes long to start and is started in one process.
_ONE_SERVER = ("prefect", "deployments", "servers", "contract")
#: What takes long begins first, so that the end has only short ones. Prefect's server is started
#: before anything else in its process has to do with Prefect: whose API it is, is read when Prefect
#: is imported.
_FIRST = (
    "prefect",
    "deployments",
    "servers",
    "contract",
    "safety/test_interruptions.py",
    "safety",
    "wire",
)


def group(nodeid: str) -> str:
    """Return the group of a test: its directory, its file, or a part of one long file."""
    path, _, name = nodeid.removeprefix("tests/").partition("::")
    folder = path.partition("/")[0]
    if folder in _ONE_SERVER:
        return folder
    if path == "safety/test_interruptions.py":
        return f"{path} {'put' if 'upload' in name or 'at_the_door' in name else 'get'}"
    return path


def rank(nodeid: str) -> tuple[int, str]:
    """Return the position of a test's group among the others."""
    name = group(nodeid)
    early = (n for n, start in enumerate(_FIRST) if name.startswith(start))
    return next(early, len(_FIRST)), name


class Sharing(LoadScopeScheduling):
    """Gives each process whole groups, in the order in which they were collected."""

    def __init__(self, config: Any, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
