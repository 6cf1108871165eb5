"""Profiles that Prefect keeps: ``block:NAME``, read when they are used.

A flow takes the name of a block as its ``profile``, never what is in it. Prefect is imported only
when such a name is met; it finds the block's class by the entry point ``prefect.collections``.
"""

from __future__ import annotations

import itertools
import logging
import re
import sys
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ctaflows.errors import CtaflowsError, NetworkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("ctaflows.settings")

STORAGE = "cta-storage"
CREDENTIALS = "cta-credentials"
#: What is known of a block holds for this time, seconds; asking takes some 40 ms.
TRUST_S = 60.0
_WORD = re.compile(rf"block:(?:({STORAGE}|{CREDENTIALS})/)?([a-z0-9-]+)(@\d+)?")

_known: dict[tuple[str, str], tuple[BlockProfile, float]] = {}
_lock = threading.Lock()
_at_hand: weakref.WeakValueDictionary[str, Source] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


@dataclass(frozen=True)
class BlockProfile:
    """What a block says of the settings.

    Attributes
    ----------
    base : str or None
        Profile that all other values come from; None means the default one.
    values : mapping
        Values as in a profile of config.toml: the environment wins over them.
    identity : mapping
        Who we are, and at which issuer. It goes together, so that it wins over the environment: a
        secret must not go to another issuer. A None unsets a value.
    credentials : str or None
        Name of the CTACredentials block that holds the login.
    """

    base: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    identity: Mapping[str, Any] = field(default_factory=dict, repr=False)
    credentials: str | None = None


class Source(Protocol):
    """A block that can stand as a profile."""

    def as_profile(self) -> BlockProfile:
        """Give what it says of the settings."""


def is_block(profile: str) -> bool:
    """Is this the name of a block rather than of a profile in config.toml?"""
    return profile.startswith("block:")


def read(profile: str) -> BlockProfile:
    """Give what a block says, asked of the Prefect server if it was not just asked.

    Parameters
    ----------
    profile : str
        ``block:NAME`` of a CTAStorage block, or ``block:TYPE/NAME``.

    Raises
    ------
    UsageError
        There is no such block.
    NetworkError
        The Prefect server does not answer, and the block was not known before.
    """
    here = _at_hand.get(profile)
    if here is not None:
        return here.as_profile()
    slug = _slug(profile)
    key = (_server(), slug)
    with _lock:
        found, until = _known.get(key, (None, 0.0))
        if found is None or time.monotonic() > until:
            found = _asked(slug, found)
            until = time.monotonic() + TRUST_S
            _known[key] = (found, until)
        return found


def forget() -> None:
    """Ask for all blocks again when they are used next."""
    with _lock:
        _known.clear()


def word_for(block: Source, slug: str, known: str | None) -> str:
    """Give a profile's name for a block as it is in this process, saved or not.

    Parameters
    ----------
    block : Source
        The block; its values count at the time of each use.
    slug : str
        ``TYPE/NAME``.
    known : str, optional
        The word that an earlier call gave for it, or for what it was copied from.
    """
    if known is not None and _at_hand.get(known) is block:
        return known
    word = f"block:{slug}@{next(_numbers)}"
    _at_hand[word] = block
    return word


def _slug(profile: str) -> str:
    match = _WORD.fullmatch(profile)
    if match is None:
        raise UsageError(
            f"There is no profile “{profile}”",
            hint=f"A block is named as block:NAME, or block:{CREDENTIALS}/NAME; names have "
            "lower-case letters, digits and dashes.",
        )
    if match[3]:
        raise UsageError(
            f"The block “{profile}” lives in another process",
            hint="Save it, and hand its name on: block:NAME.",
        )
    return f"{match[1] or STORAGE}/{match[2]}"


def _server() -> str:
    settings = sys.modules.get("prefect.settings")
    return str(settings.PREFECT_API_URL.value()) if settings is not None else ""


def _asked(slug: str, before: BlockProfile | None) -> BlockProfile:
    from prefect.blocks.core import Block, UnknownBlockType

    load: Any = Block.load
    try:
        # _sync: within an asynchronous flow it would give a coroutine (Prefect 3.9.1)
        found: BlockProfile = load(slug, _sync=True).as_profile()
    except CtaflowsError:
        raise
    except Exception as why:  # noqa: BLE001  Prefect raises ValueError, RuntimeError, httpx's errors
        if isinstance(why, UnknownBlockType | ValueError) or isinstance(why.__cause__, ValueError):
            raise UsageError(
                f"There is no block “{slug}” that can be used",
                said=str(why),
                hint="`prefect block ls` shows the blocks there are; see PREFECT_API_URL.",
            ) from None
        if before is None:
            raise NetworkError(
                "A block can't be read",
                where=f"block {slug}",
                said=failure(why),
                hint="Is the Prefect server there? See PREFECT_API_URL, and `prefect block ls`.",
            ) from None
        log.warning("Block %s can't be read, its last values hold: %s", slug, failure(why))
        return before
    return found


def failure(why: BaseException) -> str:
    """Name an error of Prefect's without its text, which may repeat what was sent to the server."""
    status = getattr(getattr(why, "response", None), "status_code", None)
    return f"{type(why).__name__} {status}" if status else type(why).__name__
