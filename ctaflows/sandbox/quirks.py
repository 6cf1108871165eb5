"""The ways in which a dCache door differs from a plain WebDAV server, one switch for each.

The defaults are the behaviour of dCache 11.2.5, as observed. What all releases do has no switch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from ctaflows.errors import UsageError

DCACHE_CHECKSUMS = "{http://www.dcache.org/2013/webdav}Checksums"
STORM_CHECKSUM = "{http://storm.italiangrid.org/2014/webdav}Checksum"

#: What other releases of dCache do differently from 11.2.5; of 9.2 and 10.2 an early build.
RELEASES: dict[str, dict[str, Any]] = {
    "12.1": {
        "server": "dCache/12.1.0",
        "requests_per_s": 250,
        "retry_after": True,  # commit 5ff074d3a0, June 2026
        "repr_digest_wins": True,  # commit b20368c27b, June 2026
    },
    "11.2": {"requests_per_s": 250},  # webdav.properties, webdav.limits.rate.*
    "10.2": {
        "server": "dCache/10.2.13",
        "block_after_401": False,  # since commit 3f6d72a1f4, September 2025
        "move_denied_is_500": True,  # #7879, seen with 10.2.13; mended by commit 426a95039d
        "open_ranges_are_empty": True,  # #7971, until 9.2.47, 10.2.23, 11.0.12 and 11.1.7
    },
}
RELEASES["9.2"] = RELEASES["10.2"] | {
    "server": "dCache/9.2.0",
    "late_checksums_s": 5.0,  # #7467
}

#: StoRM WebDAV 1.8.1, as observed.
STORM: dict[str, Any] = {
    "server": "StoRM-WebDAV/1.8.1",
    "redirect_reads": False,
    "redirect_writes": False,
    "close_after_expect": False,
    "block_after_401": False,
    "depth_capped": False,
    "empty_207": False,
    "put_deletes_first": False,
    "move_needs_overwrite": False,
    "checksum_property": STORM_CHECKSUM,
    "has_locality": False,
    "absolute_hrefs": True,
    "takes_any_range": False,
    "root_is_page": True,
    "refused_in_names": "%;\\",
    "empty_put_over_file_fails": True,
    "unread_in_names": " #?[]",
    "links_look_like_targets": True,
    "delete_needs_empty": True,
}


@dataclass(frozen=True)
class Quirks:
    """Switches for the behaviour of the sandbox's servers; the defaults are dCache's (Keycloak's).

    Attributes
    ----------
    server : str
        Value of the Server header of door and pool, to which " (sandbox)" is added.
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
        A request with Want-Repr-Digest gets no Digest, even if it also has Want-Digest. As dCache
        since June 2026.
    takes_any_range : bool
        A door that does not redirect answers a range behind the end by 206 without bytes, with a
        Content-Range that ends before it begins (seen with 12.0.1).
    open_ranges_are_empty : bool
        A door that does not redirect sends no data for a range without an end. Not in 11.2.5.
    late_checksums_s : float
        Seconds after an upload for which its checksums are missing. Not in 11.2.5.
    posix_listings : bool
        PROPFIND knows neither Checksums nor FileLocality, as in some builds of 8.2 and 9 (#7329,
        reverted by #7340). Not in 11.2.5.
    checksum_property : str
        Name of the property with the checksums; StoRM's holds the value alone.
    has_locality : bool
        PROPFIND knows FileLocality.
    absolute_hrefs : bool
        The hrefs of a listing are URLs with a host. Not in dCache.
    root_is_page : bool
        ``/`` is an HTML page, with 200 also to PROPFIND. Not in dCache.
    refused_in_names : str
        Characters for which a path is refused with 400. None in dCache.
    unread_in_names : str
        Characters for which GET and HEAD of a path are 404. None in dCache.
    empty_put_over_file_fails : bool
        A PUT of no bytes over a file is refused with 500. Not in dCache.
    links_look_like_targets : bool
        A symbolic link is listed as the file or directory that it leads to, ETags are made of paths
        and not of ids, a GET of a file that is reached by a link is 404 (PROPFIND is 207, HEAD
        200), and DELETE and MOVE of a link are of the link itself. Not in dCache; seen, StoRM
        WebDAV 1.8.1.
    delete_needs_empty : bool
        A DELETE of a directory that is not empty, or of a link to one, is refused with 412. Not in
        dCache; seen, StoRM WebDAV 1.8.1.
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
    move_denied_is_500 : bool
        A MOVE for which the token has no right is refused with 500, not 403. Not in 11.2.5.
    mkcol_is_strict : bool
        MKCOL returns 405 where something exists and 409 where the parent is missing; else it
        creates missing parents, and an existing directory is no error.
    block_after_401 : bool
        After three 401 responses within `block_s`, every request from the address gets 429.
    block_s : float
        Duration of that block, seconds.
    requests_per_s : int
        Requests per second of one address, above which it gets 429; 0 is no limit. The default is
        not dCache's, so that tests are not slowed; `of` sets it.
    retry_after : bool
        A 429 has a Retry-After header. As dCache since June 2026.
    failed_logins_s : float
        Seconds for which the door refuses a token that it has refused once
        (``webdav.service.gplazma.cache.timeout``).
    logins_s : float
        Seconds for which the door accepts a token that it has accepted once, even if it has
        expired. dCache's default is 600; here it is 0, so that the end of a token shows at once.
    issuer_keys_s : float
        Seconds for which the door keeps the issuer's keys.
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

    server: str = "dCache/11.2.5"
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
    repr_digest_wins: bool = False
    takes_any_range: bool = True
    open_ranges_are_empty: bool = False
    late_checksums_s: float = 0.0
    posix_listings: bool = False
    checksum_property: str = DCACHE_CHECKSUMS
    has_locality: bool = True
    absolute_hrefs: bool = False
    root_is_page: bool = False
    refused_in_names: str = ""
    empty_put_over_file_fails: bool = False
    unread_in_names: str = ""
    links_look_like_targets: bool = False
    delete_needs_empty: bool = False
    depth_capped: bool = True
    empty_207: bool = True
    put_deletes_first: bool = True
    put_makes_parents: bool = True
    move_needs_overwrite: bool = True
    move_denied_is_500: bool = False
    mkcol_is_strict: bool = True
    block_after_401: bool = True
    block_s: float = 20.0
    requests_per_s: int = 0
    retry_after: bool = False
    failed_logins_s: float = 600.0
    logins_s: float = 0.0
    issuer_keys_s: float = 3600.0
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

    @classmethod
    def of(cls, dcache: str = "11.2", **changes: Any) -> Self:
        """Return the quirks of a release of dCache.

        Parameters
        ----------
        dcache : str, optional
            ``9.2``, ``10.2``, ``11.2`` or ``12.1``; of the first two an early build.
        **changes : Any
            Attributes with other values.

        Returns
        -------
        Quirks
            The quirks, with the release's limit of requests per second.

        Raises
        ------
        UsageError
            Nothing is known of that release.
        """
        if dcache not in RELEASES:
            raise UsageError(
                f"Nothing is known of dCache “{dcache}”", hint=f"Known: {', '.join(RELEASES)}."
            )
        return cls(**RELEASES[dcache] | changes)

    @classmethod
    def storm(cls, **changes: Any) -> Self:
        """Return the quirks of StoRM WebDAV 1.8.1.

        Parameters
        ----------
        **changes : Any
            Attributes with other values.

        Returns
        -------
        Quirks
            The quirks; texts of errors remain those of dCache.
        """
        return cls(**STORM | changes)
