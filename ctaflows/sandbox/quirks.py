"""The ways in which a dCache door differs from a plain WebDAV server, one switch for each.

The defaults are dCache's behaviour according to the source of 12.1.0-SNAPSHOT @ 77340d6, unless
another version is named.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quirks:
    """Switches for the behaviour of the sandbox's servers; the defaults are dCache's (Keycloak's).

    Attributes
    ----------
    redirect_reads : bool
        A GET of a file is answered with 302 to the pool.
    redirect_writes : bool
        A PUT with ``Expect: 100-continue`` is answered with 307 to the pool.
    pool_uses_http : bool
        The pool uses plain http and is addressed by its IP address, as with
        ``webdav.redirect.allow-https=false``. Not dCache's default.
    door_uses_http : bool
        The door uses plain http. Not dCache's default.
    one_shot_pool_urls : bool
        A GET of the whole file invalidates the pool URL.
    pool_url_ends_with_connection : bool
        ``Connection: close`` invalidates the pool URL, and so does the end of the last connection
        using it.
    pool_url_lifetime_s : float
        Seconds for which a pool URL is valid before the first connection uses it.
    stale_redirects_home : bool
        The pool redirects a request with an invalid pool URL to the door (307); else it refuses it
        with 400.
    pool_refuses_entity_headers : bool
        The pool refuses a PUT with an unknown ``Content-*`` header with 501.
    pool_needs_want_digest : bool
        The pool sends a Digest only if both the request to the door and that to the pool have
        Want-Digest.
    pool_hides_validators : bool
        The pool's responses have no ETag, Last-Modified or Content-Type.
    repr_digest_wins : bool
        A request with Want-Repr-Digest gets no Digest, even if it also has Want-Digest.
    depth_capped : bool
        A Depth that is neither 0 nor 1 means three levels.
    empty_207 : bool
        A directory that may not be read is listed as empty; else it is refused with 403.
    put_deletes_first : bool
        A PUT deletes the existing file before the new content arrives.
    put_makes_parents : bool
        A PUT creates missing parents; else it is refused with 409.
    move_needs_overwrite : bool
        A MOVE without an Overwrite header does not overwrite (RFC 4918, 10.6 defaults to ``T``).
    mkcol_is_strict : bool
        MKCOL returns 405 where something exists and 409 where the parent is missing; else it
        creates missing parents, and an existing directory is no error.
    block_after_401 : bool
        After three 401 responses within `block_s`, every request from the address gets 429.
    block_s : float
        Duration of that block, seconds.
    retry_after : bool
        The 429 of the block has a Retry-After header (dCache since June 2026).
    close_after_expect : bool
        The door closes the connection after a request with Expect (dCache #5604).
    needs_token : bool
        Requests without a token are refused with 401.
    bearer_over_https_only : bool
        A token sent over plain http is refused with 401.
    plain_errors : bool
        Error bodies are one line of plain text unless the request accepts ``text/html``.
    has_md5 : bool
        Every file has an md5 beside its adler32. Not dCache's default.
    short_adler : bool
        adler32 is written without leading zeros. Not dCache's default.
    no_checksums : bool
        There is neither a Digest header nor a Checksums property. Not dCache's default.
    rotate : bool
        The issuer accepts each refresh token only once.
    reuse_ends_session : bool
        A refresh token used a second time also ends its session: later refresh tokens of the same
        login are refused.
    login_lifetime_s : int
        Lifetime of a device code, seconds.
    login_interval_s : float
        Minimum seconds between polls for a device code; faster polling gets ``slow_down``.
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
