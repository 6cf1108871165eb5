"""WsgiDAV's file system provider with the live properties and the blind spots of a dCache door."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement  # only builds, never parses

from wsgidav.dav_error import HTTP_FORBIDDEN, HTTP_NOT_FOUND, DAVError
from wsgidav.error_printer import ErrorPrinter
from wsgidav.fs_dav_provider import FileResource, FilesystemProvider, FolderResource
from wsgidav.request_resolver import RequestResolver
from wsgidav.wsgidav_app import WsgiDAVApp

from ctaflows.sandbox import content

if TYPE_CHECKING:
    from collections.abc import Callable

    from ctaflows.sandbox.quirks import Quirks
    from ctaflows.sandbox.storage import Storage

#: Key in the WSGI environment: how many levels a listing goes down.
LEVELS = "ctaflows.levels"
_SRM = "{http://srm.lbl.gov/StorageResourceManager}"
CHECKSUMS = "{http://www.dcache.org/2013/webdav}Checksums"
#: Properties that must be named to be given (DcacheFileResource.java:56-87, dCache 12.1).
_ONLY_NAMED = frozenset({CHECKSUMS, f"{_SRM}FileLocality"})

logging.getLogger("wsgidav").addHandler(logging.NullHandler())
logging.getLogger("wsgidav").setLevel(logging.CRITICAL)


def application(storage: Storage, quirks: Quirks) -> Any:
    """Make the WSGI application that answers all that is not GET, HEAD or PUT."""
    config = {
        "provider_mapping": {"/": _Provider(storage, quirks)},
        "middleware_stack": [ErrorPrinter, RequestResolver],
        "http_authenticator": {"accept_basic": False, "accept_digest": False},
        "logging": {"enable": False},
        "lock_storage": None,
        "property_manager": None,
        "add_header_MS_Author_Via": False,
        "verbose": 1,
    }
    return WsgiDAVApp(config)


class _Provider(FilesystemProvider):  # type: ignore[misc]  # WsgiDAV is untyped
    def __init__(self, storage: Storage, quirks: Quirks) -> None:
        super().__init__(str(storage.root), fs_opts={"follow_symlinks": False})
        self.storage = storage
        self.quirks = quirks

    def get_resource_inst(self, path: str, environ: dict[str, Any]) -> Any:
        file = self._loc_to_file_path(path, environ)
        try:
            kind = _Directory if os.path.isdir(file) else _File  # noqa: PTH112  # WsgiDAV's texts
            return kind(path, environ, file)
        except FileNotFoundError:
            return None


class _Properties:
    """What PROPFIND gives; unknown and empty ones are in a 404 propstat of their own."""

    environ: dict[str, Any]
    getters: dict[str, Callable[[], Any]]

    def get_properties(self, mode: str, *, name_list: list[str] | None = None) -> list[Any]:
        if mode != "named":
            name_list = [n for n in self.getters if n not in _ONLY_NAMED]
        found = []
        for name in name_list or ():
            getter = self.getters.get(name)
            value = getter() if getter else None
            if value is None:
                # `Brief: t` drops them (DefaultWebDavResponseHandler.java:201, Milton 2.7.3).
                if self.environ.get("HTTP_BRIEF", "").lower() != "t":
                    found.append((name, DAVError(HTTP_NOT_FOUND)))
            else:
                found.append((name, None if mode == "name" else value))
        return found


def _common(resource: Any) -> dict[str, Callable[[], Any]]:
    stat = resource.file_stat
    created = datetime.fromtimestamp(stat.st_ctime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "{DAV:}displayname": lambda: resource.name if resource.path != "/" else "/",
        "{DAV:}creationdate": lambda: created,
        "{DAV:}getlastmodified": lambda: formatdate(stat.st_mtime, usegmt=True),
    }


class _File(_Properties, FileResource):  # type: ignore[misc]
    def __init__(self, path: str, environ: dict[str, Any], file: str) -> None:
        super().__init__(path, environ, file)
        storage: Storage = self.provider.storage
        quirks: Quirks = self.provider.quirks
        place = storage.root / file
        uploading = storage.is_uploading(path)
        self.getters = _common(self) | {
            "{DAV:}resourcetype": lambda: "",
            # No size while uploading (DcacheFileResource.java:152-155, dCache 12.1).
            "{DAV:}getcontentlength": lambda: None if uploading else str(self.file_stat.st_size),
            "{DAV:}getetag": lambda: storage.etag(place),
            "{DAV:}getcontenttype": lambda: content.validators(place, storage)["Content-Type"],
            CHECKSUMS: lambda: (
                None
                if uploading
                else content.checksum_text(storage.checksums(place), quirks) or None
            ),
            f"{_SRM}FileLocality": lambda: storage.locality(path),
            f"{_SRM}RetentionPolicy": lambda: "REPLICA",
            f"{_SRM}AccessLatency": lambda: "ONLINE",
        }

    def get_etag(self) -> str:
        return self.provider.storage.etag(  # type: ignore[no-any-return]
            self.provider.storage.root / self._file_path
        ).strip('"')


class _Directory(_Properties, FolderResource):  # type: ignore[misc]
    def __init__(self, path: str, environ: dict[str, Any], file: str) -> None:
        super().__init__(path, environ, file)
        self.getters = _common(self) | {"{DAV:}resourcetype": self._collection}

    @staticmethod
    def _collection() -> Element:
        kind = Element("{DAV:}resourcetype")
        SubElement(kind, "{DAV:}collection")
        return kind

    def get_member_list(self) -> list[Any]:
        """List the children; none at all where reading is denied, as dCache does.

        DcacheDirectoryResource.java:120-137, dCache 12.1: permission denied, not found and any
        time-out give an empty list.
        """
        if self.provider.storage.normal(self.path) in self.provider.storage.denied:
            if self.provider.quirks.empty_207:
                return []
            raise DAVError(HTTP_FORBIDDEN)
        members = []
        with os.scandir(self._file_path) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                kind = _Directory if entry.is_dir() else _File
                path = f"{self.path.rstrip('/')}/{entry.name}"
                try:
                    members.append(kind(path, self.environ, entry.path))
                except FileNotFoundError:
                    continue
        return members

    def get_descendants(self, *, depth: str = "infinity", **how: Any) -> list[Any]:
        """List what is below, not deeper than `LEVELS` says for this request."""
        levels = self.environ.get(LEVELS)
        if levels is None or depth != "infinity":
            return super().get_descendants(depth=depth, **how)  # type: ignore[no-any-return]
        found = [self] if how.get("add_self") else []
        layer = [self]
        for _ in range(levels):
            layer = [m for d in layer if isinstance(d, _Directory) for m in d.get_member_list()]
            found += layer
        return found
