"""The API of ctadata 0.5 and 0.6: the download service of the platform."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ctaflows import ctadata
from ctaflows.errors import CtaflowsError

if TYPE_CHECKING:
    from pathlib import Path

    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.hub import Hub

OWN = "lst/users/jane_doe__example_org"
DATA = bytes(range(256)) * 2000


@pytest.fixture(autouse=True)
def files(box: Sandbox, hub: Hub, token: str) -> None:
    box.put("/lst/data/run.h5", DATA)
    box.put("/lst/data/sub/deep/a b%.h5", b"deep")
    box.put("/lst/data/sub/empty", b"")


def urls(hub: Hub) -> list[str]:
    return [f"{r.method} {r.path.removeprefix('/services/downloadservice/')}" for r in hub.requests]


# -- listing ---------------------------------------------------------------------------------------


def test_entries_are_what_they_were(hub: Hub) -> None:
    found: list[Any] = ctadata.list_dir("lst/data/")
    assert {e["href"] for e in found} == {"lst/data/", "lst/data/sub/", "lst/data/run.h5"}
    file = next(e for e in found if e["type"] == "file")
    assert set(file) == {"href", "url", "size", "mtime", "type"}
    assert int(file["size"]) == len(DATA)
    assert file["url"] == f"{hub.downloadservice_url}list/lst/data/run.h5"
    assert json.loads(json.dumps(found))[0]["href"] == "lst/data/"


@pytest.mark.parametrize("path", ["", "/", "lst", "/lst/", "lst//data"])
def test_slashes_do_not_matter(path: str) -> None:
    assert len(ctadata.list_dir(path)) >= 2


def test_all_below(hub: Hub) -> None:
    found = [str(e) for e in ctadata.list_dir("lst", recursive=True)]
    assert sorted(found) == [
        "lst/", "lst/data/", "lst/data/run.h5", "lst/data/sub/", "lst/data/sub/deep/",
        "lst/data/sub/deep/a b%.h5", "lst/data/sub/empty",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["nowhere", "lst/../nowhere", "lst/data/run.h5/below"])
def test_what_is_not_there(path: str) -> None:
    with pytest.raises(ctadata.api.StorageException):
        ctadata.list_dir(path)


# -- fetching --------------------------------------------------------------------------------------


def test_fetch_gives_the_size_and_verifies(here: Path, hub: Hub) -> None:
    assert ctadata.fetch_and_save_file("lst/data/run.h5") == len(DATA)
    assert (here / "run.h5").read_bytes() == DATA
    report = ctadata.APIClient().fetch("lst/data/run.h5")
    assert report.transfers[0].skipped
    assert report.transfers[0].verified, "the storage's checksum comes through webdav/"
    assert len([u for u in urls(hub) if u.startswith("GET fetch/")]) == 1


def test_under_another_name(here: Path) -> None:
    assert ctadata.fetch_and_save_file("lst/data/run.h5", "other.h5") == len(DATA)
    assert ctadata.fetch_and_save_file("lst/data/run.h5", save_to_fn=here / "sub" / "x") > 0
    assert (here / "sub" / "x").read_bytes() == (here / "other.h5").read_bytes() == DATA
    assert not (here / "run.h5").exists()


def test_whatever_a_listing_gives_is_a_path(here: Path) -> None:
    entry = next(e for e in ctadata.list_dir("lst/data/sub/deep") if "a b" in e)
    assert isinstance(entry, dict)
    for i, given in enumerate((entry, str(entry), entry["href"], entry["url"], dict(entry))):
        assert ctadata.fetch_and_save_file(given, f"copy{i}") == 4
        assert (here / f"copy{i}").read_bytes() == b"deep"
    assert ctadata.fetch_and_save_file(entry) == 4
    assert (here / entry.split("/")[-1]).read_bytes() == b"deep"
    assert (here / "a b%.h5").exists()


def test_an_address_elsewhere_is_refused(hub: Hub) -> None:
    with pytest.raises(ctadata.StorageException, match="not at this service"):
        ctadata.fetch_and_save_file("https://elsewhere.example/services/downloadservice/list/x")


def test_a_directory_comes_with_all_that_is_in_it(here: Path) -> None:
    total = ctadata.fetch_and_save_file_or_dir("lst/data", recursive=True)
    assert total == len(DATA) + 4
    found = {p.relative_to(here).as_posix(): p.read_bytes() for p in here.rglob("*") if p.is_file()}
    assert found == {
        "lst/data/run.h5": DATA,
        "lst/data/sub/deep/a b%.h5": b"deep",
        "lst/data/sub/empty": b"",
    }


def test_a_file_is_fetched_all_the_same(here: Path) -> None:
    assert ctadata.fetch_and_save_file_or_dir("lst/data/run.h5", recursive=True) == len(DATA)
    assert ctadata.fetch_and_save_file_or_dir("lst/data/sub/empty") == 0
    assert {p.name for p in here.iterdir()} == {"run.h5", "empty"}


def test_a_directory_is_not_fetched_as_a_file(here: Path) -> None:
    for fetch in (ctadata.fetch_and_save_file, ctadata.fetch_and_save_file_or_dir):
        with pytest.raises(ctadata.StorageException, match="directory"):
            fetch("lst/data")
    assert list(here.iterdir()) == []


def test_large_files_come_in_one_request(here: Path, box: Sandbox, hub: Hub) -> None:
    """A door's large files come in several ranges at once; the service has none."""
    size = 70 << 20
    with box.put("/lst/data/large.h5", DATA).open("r+b") as stream:
        stream.truncate(size)
    assert ctadata.fetch_and_save_file("lst/data/large.h5") == size
    assert (here / "large.h5").stat().st_size == size
    assert len([u for u in urls(hub) if u.startswith("GET fetch/")]) == 1
    assert {p.name for p in here.iterdir()} == {"large.h5"}


def test_some_of_many_fail(here: Path, hub: Hub) -> None:
    hub.troubles.add("storage_error", "*run.h5", times=None)
    with pytest.raises(ctadata.StorageException, match="1 of 3 files failed") as why:
        ctadata.fetch_and_save_file_or_dir("lst/data", recursive=True)
    assert [t.path for t in why.value.report.failed] == ["/lst/data/run.h5"]
    assert (here / "lst/data/sub/deep/a b%.h5").exists()
    assert not (here / "lst/data/run.h5").exists()


# -- uploading -------------------------------------------------------------------------------------


def test_upload_says_where(here: Path, box: Sandbox) -> None:
    (here / "latest.txt").write_bytes(DATA)
    answer = ctadata.upload_file("latest.txt", "f/new.md")
    assert answer == {
        "path": f"{OWN}/f/new.md", "status": "uploaded", "total_written": len(DATA),
    }  # fmt: skip
    assert (box.storage / OWN / "f/new.md").read_bytes() == DATA
    assert ctadata.fetch_and_save_file(answer["path"], "back") == len(DATA)
    assert (here / "back").read_bytes() == DATA


@pytest.mark.parametrize(
    ("path", "there"),
    [("f/", "f/latest.txt"), ("a/b/../", "a/latest.txt"), ("a b/%.md", "a b/%.md"), ("é", "é")],
)
def test_paths_of_uploads(path: str, there: str, here: Path, box: Sandbox) -> None:
    (here / "latest.txt").write_bytes(b"1")
    assert ctadata.upload_file(here / "latest.txt", path)["path"] == f"{OWN}/{there}"
    assert (box.storage / OWN / there).read_bytes() == b"1"


def test_an_upload_replaces(here: Path, box: Sandbox) -> None:
    for content in (b"first", b"", b"third"):
        (here / "x").write_bytes(content)
        assert ctadata.upload_file("x", "x")["total_written"] == len(content)
        assert (box.storage / OWN / "x").read_bytes() == content


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a..b"])
def test_uploads_do_not_leave_ones_own_directory(path: str, here: Path, box: Sandbox) -> None:
    (here / "x").write_bytes(b"1")
    with pytest.raises(ctadata.StorageException):
        ctadata.upload_file("x", path)
    assert not list(box.storage.rglob("x"))


def test_a_directory_goes_with_its_sub_directories(here: Path, box: Sandbox) -> None:
    (here / "d/sub").mkdir(parents=True)
    (here / "d/a").write_bytes(b"1")
    (here / "d/sub/b").write_bytes(b"22")
    for local in ("d", "d/"):
        answers = ctadata.upload_dir(local, "target/")
        assert sorted((a["path"], a["total_written"]) for a in answers) == [
            (f"{OWN}/target/a", 1), (f"{OWN}/target/sub/b", 2),
        ]  # fmt: skip
    assert (box.storage / OWN / "target/sub/b").read_bytes() == b"22"
    assert not (box.storage / "sub").exists()


def test_what_is_not_here(here: Path) -> None:
    (here / "x").write_bytes(b"1")
    with pytest.raises(FileNotFoundError):
        ctadata.upload_file("nothing", "x")
    with pytest.raises(FileNotFoundError):
        ctadata.upload_dir("nothing", "x")
    with pytest.raises(NotADirectoryError):
        ctadata.upload_dir("x", "x")
    with pytest.raises(ctadata.StorageException, match="regular files"):
        ctadata.upload_file(".", "x")


# -- settings --------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTADS_URL", "https://localhost:1/")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "none")


def test_settings_of_one_call(hub: Hub, token: str, nowhere: None) -> None:
    found = ctadata.list_dir(
        "lst", token=token, downloadservice=hub.downloadservice_url, certificateservice=None
    )
    assert "lst/data/" in found
    ctadata.fetch_and_save_file(
        "lst/data/run.h5", chunk_size=4096, token=token, downloadservice=hub.downloadservice_url
    )
    assert "GET fetch/lst/data/run.h5?chunk_size=4096" in urls(hub)


def test_settings_of_the_class(
    hub: Hub, token: str, nowhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ctadata.APIClient.downloadservice == "https://localhost:1/"
    monkeypatch.setattr(ctadata.APIClient, "downloadservice", hub.downloadservice_url)
    monkeypatch.setattr(ctadata.APIClient, "token", token)
    monkeypatch.setattr(ctadata.APIClient, "chunk_size", 8192)
    assert "lst/data/" in ctadata.list_dir("lst")
    ctadata.fetch_and_save_file("lst/data/run.h5")
    assert "GET fetch/lst/data/run.h5?chunk_size=8192" in urls(hub)
    assert ctadata.APIClient().token == token


def test_settings_of_an_instance(hub: Hub, token: str, nowhere: None) -> None:
    client = ctadata.api.APIClient()
    client.downloadservice, client.token = hub.downloadservice_url, token
    assert "lst/data/" in client.list_dir("lst")
    assert ctadata.APIClient.downloadservice == "https://localhost:1/"


def test_the_environment_is_read_at_each_call(
    hub: Hub, token: str, nowhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in hub.environment(token).items():
        monkeypatch.setenv(name, f" {value} " if "TOKEN" in name else value.rstrip("/"))
    assert "lst/data/" in ctadata.list_dir("lst")


@pytest.mark.parametrize(
    "settings",
    [{"chunk_size": 0}, {"chunk_size": "x"}, {"nonsense": 1}, {"token": "two words"},
     {"downloadservice": "nonsense"}, {"dev_instance": True, "token": "x"}],
)  # fmt: skip
def test_settings_that_can_not_be(settings: dict[str, Any]) -> None:
    with pytest.raises(CtaflowsError):
        ctadata.list_dir("lst", **settings)


# -- webdav4 ---------------------------------------------------------------------------------------


def test_webdav4_client(here: Path, box: Sandbox) -> None:
    client = ctadata.webdav4_client()
    found = client.ls("lst/data", detail=True)
    assert {f["href"] for f in found} == {
        "/services/downloadservice/webdav/lst/data/sub/",
        "/services/downloadservice/webdav/lst/data/run.h5",
    }
    client.download_file("lst/data/run.h5", str(here / "copy"))
    assert (here / "copy").read_bytes() == DATA
    client.upload_file(str(here / "copy"), f"{OWN}/up.h5")
    client.mkdir(f"{OWN}/new")
    assert (box.storage / OWN / "up.h5").read_bytes() == DATA
    client.uploadFile(str(here / "copy"), "remote/up.h5")
    assert (box.storage / OWN / "remote/up.h5").read_bytes() == DATA


def test_webdav4_refuses_what_the_service_does(here: Path, hub: Hub) -> None:
    from webdav4.client import ClientError

    with pytest.raises(ClientError):
        ctadata.webdav4_client().mkdir("lst/data/new")
    with pytest.raises(ctadata.StorageException, match="asks for a login"):
        ctadata.webdav4_client(token="wrong").ls("lst")


# -- the import ------------------------------------------------------------------------------------


def test_the_import_loads_nothing_heavy() -> None:
    code = (
        "import sys; import ctaflows; from ctaflows import ctadata; ctaflows.ctadata.list_dir\n"
        "from ctaflows.ctadata import direct\n"
        "heavy = {'httpx', 'pycurl', 'prefect', 'h5py', 'cryptography', 'webdav4', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ctadata.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(ctadata, name).__doc__


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError):
        ctadata.nothing  # noqa: B018
