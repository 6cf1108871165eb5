"""What makes a dCache door differ from a plain WebDAV server, one switch each.

The defaults are dCache's own behaviour, read from dCache 12.1.0-SNAPSHOT @ 77340d6 unless another
version is named.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quirks:
    """Switches of the sandbox's servers; each default is what dCache (or Keycloak) does.

    Attributes
    ----------
    redirect_reads : bool
        A GET of a file is answered with 302 to the pool.
    redirect_writes : bool
        A PUT with ``Expect: 100-continue`` is answered with 307 to the pool.
    pool_uses_http : bool
        The pool speaks plain http and is named by its number, as with
        ``webdav.redirect.allow-https=false``. Not dCache's default.
    door_uses_http : bool
        The door speaks plain http. Not dCache's default.
    one_shot_pool_urls : bool
        A GET of the whole file uses up the pool URL.
    pool_url_ends_with_connection : bool
        The pool URL ends with ``Connection: close`` and when the last connection using it closes.
    pool_url_lifetime_s : float
        Seconds a pool URL waits for its first connection.
    stale_redirects_home : bool
        The pool answers a stale URL with 307 to the door, else with 400.
    pool_refuses_entity_headers : bool
        A PUT to the pool with a ``Content-*`` header it does not know is refused with 501.
    pool_needs_want_digest : bool
        The pool sends a Digest only if Want-Digest went to the door and to the pool.
    pool_hides_validators : bool
        The pool's answers carry neither ETag nor Last-Modified nor Content-Type.
    repr_digest_wins : bool
        With Want-Repr-Digest, Want-Digest is ignored: a file with adler32 alone gets no digest.
    depth_capped : bool
        A Depth that is neither 0 nor 1 means three levels.
    empty_207 : bool
        A directory that can't be read is listed as an empty one, else refused with 403.
    put_deletes_first : bool
        A PUT deletes the existing file before the new bytes arrive.
    put_makes_parents : bool
        A PUT makes missing parents, else it is refused with 409.
    move_needs_overwrite : bool
        A MOVE without an Overwrite header does not overwrite.
    mkcol_is_strict : bool
        MKCOL answers 405 where something exists and 409 where the parent is missing.
    block_after_401 : bool
        Three answers 401 block the address with 429.
    block_s : float
        Seconds of that block.
    retry_after : bool
        The 429 of the block carries Retry-After (dCache since June 2026).
    close_after_expect : bool
        The door closes the connection after a request with Expect (dCache #5604).
    needs_token : bool
        Requests without a token are refused with 401.
    bearer_over_https_only : bool
        A token that came over plain http is refused with 401.
    plain_errors : bool
        Errors are one line of plain text unless ``text/html`` is accepted.
    has_md5 : bool
        Every file has an md5 beside its adler32. Not dCache's default.
    short_adler : bool
        adler32 is written without leading zeros. Not dCache's default.
    no_checksums : bool
        Neither Digest nor the Checksums property is given. Not dCache's default.
    rotate : bool
        The issuer takes each refresh token once.
    reuse_ends_session : bool
        A refresh token that comes twice also ends the tokens made from it.
    login_lifetime_s : int
        Seconds a device code lives.
    login_interval_s : float
        Seconds between polls for a device code; polling faster gets ``slow_down``.
    """

    redirect_reads: bool = True
    redirect_writes: bool = True
    pool_uses_http: bool = False
    door_uses_http: bool = False
    one_shot_pool_urls: bool = True
    pool_url_ends_with_connection: bool = True
    pool_url_lifetime_s: float = 300.0
    stale_redirects_home: bool = True
    pool_refuses_entity_headers: bool = True
    pool_needs_want_digest: bool = True
    pool_hides_validators: bool = True
    repr_digest_wins: bool = True
    depth_capped: bool = True
    empty_207: bool = True
    put_deletes_first: bool = True
    put_makes_parents: bool = True
    move_needs_overwrite: bool = True
    mkcol_is_strict: bool = True
    block_after_401: bool = True
    block_s: float = 20.0
    retry_after: bool = True
    close_after_expect: bool = True
    needs_token: bool = True
    bearer_over_https_only: bool = True
    plain_errors: bool = True
    has_md5: bool = False
    short_adler: bool = False
    no_checksums: bool = False
    rotate: bool = True
    reuse_ends_session: bool = False
    login_lifetime_s: int = 600
    login_interval_s: float = 5.0
