"""Prefect blocks as profiles, by the name ``block:NAME``; read when they are used.

A flow's ``profile`` is the name of a block, never its content. Prefect is imported only for such a
name; it finds the block's class by the entry point ``prefect.collections``.
"""

from __future__ import annotations

import itertools
import logging
import re
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ctaflows.errors import CtaflowsError, UsageError
from ctaflows.prefect_client import prefect_error, server_url

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("ctaflows.settings")

STORAGE = "cta-storage"
CREDENTIALS = "cta-credentials"
DOWNLOAD_SERVICE = "cta-download-service"
#: A block is read again after this time, seconds; a request takes some 40 ms.
TRUST_S = 60.0
_WORD = re.compile(rf"block:(?:({STORAGE}|{CREDENTIALS}|{DOWNLOAD_SERVICE})/)?([a-z0-9-]+)(@\d+)?")

_known: dict[tuple[str, str], tuple[BlockProfile, float]] = {}
_lock = threading.Lock()
_at_hand: weakref.WeakValueDictionary[str, Source] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


@dataclass(frozen=True)
class BlockProfile:
    """The settings in a block.

    Attributes
    ----------
    base : str or None
        Profile of all other values; None means the default profile.
    values : mapping
        Values like those of a profile in config.toml, over which the environment takes precedence.
    identity : mapping
        Issuer, client and secret, or service and token. They belong together, so they take
        precedence over the environment: a secret must not be sent elsewhere. None unsets a value.
    credentials : str or None
        Name of the CTACredentials block with the login.
    """

    base: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    identity: Mapping[str, Any] = field(default_factory=dict, repr=False)
    credentials: str | None = None


class Source(Protocol):
    """A block, or another object of this process, that can be used as a profile."""

    def as_profile(self) -> BlockProfile:
        """Return the settings in the block."""


def is_block(profile: str) -> bool:
    """Return whether a profile's name is that of a block, ``block:…``."""
    return profile.startswith("block:")


def read(profile: str) -> BlockProfile:
    """Return a block's settings, read from the Prefect server at most once a minute.

    Parameters
    ----------
    profile : str
        ``block:NAME`` of a CTAStorage block, or ``block:TYPE/NAME``.

    Raises
    ------
    UsageError
        There is no such block.
    NetworkError
        The Prefect server does not answer, and the block was not read before.
    """
    block = _at_hand.get(profile)
    if block is not None:
        return block.as_profile()
    slug = _slug(profile)
    key = (server_url() or "", slug)
    with _lock:
        found, until = _known.get(key, (None, 0.0))
        if found is None or time.monotonic() > until:
            found = _load(slug, found)
            until = time.monotonic() + TRUST_S
            _known[key] = (found, until)
        return found


def forget() -> None:
    """Forget all blocks that were read: the next use reads them again."""
    with _lock:
        _known.clear()


def word_for(block: Source, slug: str, known: str | None) -> str:
    """Return a profile name for a block object of this process, whether it is saved or not.

    Parameters
    ----------
    block : Source
        The block; its values are read at each use of the name.
    slug : str
        ``TYPE/NAME``.
    known : str, optional
        Name from an earlier call, for this block or the one it was copied from.

    Returns
    -------
    str
        ``block:TYPE/NAME@NUMBER``, valid in this process as long as the block exists.
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
            hint=f"A block is named as block:NAME, block:{CREDENTIALS}/NAME or "
            f"block:{DOWNLOAD_SERVICE}/NAME; names have lower-case letters, digits and dashes.",
        )
    if match[3]:
        raise UsageError(
            f"The block “{profile}” lives in another process",
            hint="Save it, and hand its name on: block:NAME.",
        )
    return f"{match[1] or STORAGE}/{match[2]}"


def _load(slug: str, before: BlockProfile | None) -> BlockProfile:
    from prefect.blocks.core import Block, UnknownBlockType

    load: Any = Block.load
    try:
        # without _sync it returns a coroutine within an asynchronous flow (Prefect 3.9.1)
        found: BlockProfile = load(slug, _sync=True).as_profile()
    except CtaflowsError:
        raise
    except Exception as why:
        if isinstance(why, UnknownBlockType | ValueError) or isinstance(why.__cause__, ValueError):
            raise UsageError(
                f"There is no block “{slug}” that can be used",
                said=str(why),
                hint="`prefect block ls` shows the blocks there are; see PREFECT_API_URL.",
            ) from None
        error = prefect_error(why, "A block can't be read", where=f"block {slug}")
        if error is None:
            raise
        if before is None:
            raise error from None
        log.warning("Block %s can't be read, its last values hold: %s", slug, error.said)
        return before
    return found
