"""The API of ctadata 0.6's `direct` and of 0.7: the storage itself."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import pytest

from ctaflows import ctadata
from ctaflows.auth.store import Store
from ctaflows.ctadata import direct
from ctaflows.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = bytes(range(256)) * 2000


@pytest.fixture(autouse=True)
def files(box: Sandbox, here: Path) -> None:
    box.put("/lst/data/run.h5", DATA)
    box.put("/lst/data/sub/deep/a b%.h5", b"deep")
    box.put("/lst/data/sub/empty", b"")


@pytest.fixture
def dev(box: Sandbox) -> Iterator[Sandbox]:
    """Another door and issuer, as the development instance."""
    with Sandbox() as dev:
        dev.put("/only-here", b"dev")
        text = (dev.config_dir / "config.toml").read_text()
        table = text.partition("[profiles.sandbox]")[2]
        config = box.config_dir / "config.toml"
        config.write_text(f"{config.read_text()}\n[profiles.cscs-dev]\n{table}")
        tokens = (dev.config_dir / "tokens" / "sandbox.json").read_bytes()
        (box.config_dir / "tokens" / "cscs-dev.json").write_bytes(tokens)
        yield dev


# -- listing ---------------------------------------------------------------------------------------


def test_names_or_all_paths_below() -> None:
    assert direct.list_dir("lst/data") == ["run.h5", "sub"]
    assert direct.list_dir("/") == ["lst"]
    assert direct.list_dir("lst/", recursive=True, n_threads=8) == [
        "lst/data", "lst/data/run.h5", "lst/data/sub", "lst/data/sub/deep",
        "lst/data/sub/deep/a b%.h5", "lst/data/sub/empty",
    ]  # fmt: skip
    assert all(isinstance(name, str) for name in direct.list_dir("lst"))


def test_a_name_can_be_handed_on(here: Path) -> None:
    for name in direct.list_dir("lst/data/sub/deep"):
        assert name == "a b%.h5"
        assert direct.fetch_and_save_file(name) == 4
        assert direct.fetch_and_save_file("lst/data/sub/deep/" + name, "x") == 4
    assert (here / "a b%.h5").read_bytes() == (here / "x").read_bytes() == b"deep"


# -- fetching --------------------------------------------------------------------------------------


def test_fetch(here: Path) -> None:
    assert direct.fetch_and_save_file("lst/data/run.h5") == len(DATA)
    assert direct.fetch_and_save_file("/lst/data/run.h5", save_to_fn="other") == len(DATA)
    assert direct.fetch_and_save_file_or_dir(" lst/data/run.h5 ") == len(DATA)
    assert (here / "run.h5").read_bytes() == (here / "other").read_bytes() == DATA
    assert direct.APIClient().fetch("lst/data/run.h5").transfers[0].verified


@pytest.mark.parametrize("path", ["lst/data", "/lst/data/", "lst/data/"])
def test_each_file_comes_in_its_own_place(path: str, here: Path) -> None:
    """ctadata fetched the directory in place of each of its files."""
    assert direct.fetch_and_save_file_or_dir(path, recursive=True) == len(DATA) + 4
    found = {p.relative_to(here).as_posix(): p.read_bytes() for p in here.rglob("*") if p.is_file()}
    assert found == {
        "data/run.h5": DATA, "data/sub/deep/a b%.h5": b"deep", "data/sub/empty": b"",
    }  # fmt: skip


def test_a_directory_is_not_fetched_as_a_file(here: Path) -> None:
    for fetch in (direct.fetch_and_save_file, direct.fetch_and_save_file_or_dir):
        with pytest.raises(direct.StorageException, match="directory"):
            fetch("lst/data")
    assert list(here.iterdir()) == []


def test_some_of_many_fail(box: Sandbox, here: Path) -> None:
    box.locality("/lst/data/run.h5", "NEARLINE")
    with pytest.raises(direct.StorageException, match="1 of 3 files failed") as why:
        direct.fetch_and_save_file_or_dir("lst/data", recursive=True)
    assert [t.path for t in why.value.report.failed] == ["/lst/data/run.h5"]
    assert why.value.exit_code == 10
    assert (here / "data/sub/empty").exists()


def test_a_directory_that_can_t_be_read_fails(box: Sandbox, here: Path) -> None:
    box.deny("/lst/data/sub")
    with pytest.raises(direct.StorageException, match="1 of 2 files failed") as why:
        direct.fetch_and_save_file_or_dir("lst/data", recursive=True)
    [unread] = why.value.report.failed
    assert (unread.path, unread.local) == ("/lst/data/sub", "data/sub")
    assert (here / "data/run.h5").exists()


# -- uploading -------------------------------------------------------------------------------------


def test_upload(here: Path, box: Sandbox) -> None:
    (here / "latest.txt").write_bytes(DATA)
    answer = direct.upload_file("latest.txt", "f/new.md")
    assert answer == {"path": "f/new.md", "status": "uploaded", "total_written": len(DATA)}
    assert direct.upload_file(here / "latest.txt", "f/")["path"] == "f/latest.txt"
    assert (box.storage / "f/latest.txt").read_bytes() == DATA
    (here / "latest.txt").write_bytes(b"newer")
    direct.upload_file("latest.txt", "f/new.md")
    assert (box.storage / "f/new.md").read_bytes() == b"newer"
    assert {p.name for p in (box.storage / "f").iterdir()} == {"new.md", "latest.txt"}


def test_sub_directories_stay_below(here: Path, box: Sandbox) -> None:
    """ctadata uploaded them to the door's root."""
    (here / "d/sub").mkdir(parents=True)
    (here / "d/a").write_bytes(b"1")
    (here / "d/sub/b").write_bytes(b"22")
    for local in ("d", here / "d", "d/"):
        answers = direct.upload_dir(local, "lst/target")
        assert sorted(a["path"] for a in answers) == ["lst/target/a", "lst/target/sub/b"]
    assert (box.storage / "lst/target/sub/b").read_bytes() == b"22"
    assert {p.name for p in box.storage.iterdir()} == {"lst"}


def test_what_is_not_here(here: Path) -> None:
    with pytest.raises(FileNotFoundError):
        direct.upload_file("nothing", "x")
    with pytest.raises(FileNotFoundError):
        direct.upload_dir("nothing", "x")


# -- instances -------------------------------------------------------------------------------------


def test_the_development_instance(dev: Sandbox, here: Path) -> None:
    assert direct.list_dir("/", dev_instance=True) == ["only-here"]
    assert ctadata.list_dir("/", dev_instance=True) == ["only-here"]
    assert direct.list_dir("/", dev_instance=False) == ["lst"]
    assert direct.fetch_and_save_file("only-here", dev_instance=True) == 3
    (here / "up").write_bytes(b"1")
    direct.upload_file("up", "up", dev_instance=True)
    assert (dev.storage / "up").exists()
    assert direct.APIClient(dev_instance=True).list_dir("/") == ["only-here", "up"]


# -- errors ----------------------------------------------------------------------------------------


def test_the_tree() -> None:
    assert issubclass(direct.StorageException, direct.DirectApiError)
    assert issubclass(direct.TokenError, direct.DirectApiError)
    assert issubclass(direct.TokenExpiredError, direct.TokenError)
    assert issubclass(direct.ClientSecretNotFound, direct.DirectApiError)
    from ctaflows.ctadata.direct.api import DirectApiError

    assert DirectApiError is direct.DirectApiError is ctadata.api.DirectApiError
    assert direct.direct is direct


def test_what_is_not_there() -> None:
    for call in (direct.list_dir, direct.fetch_and_save_file):
        with pytest.raises(direct.StorageException, match="nothing at this path") as why:
            call("nowhere")
        assert why.value.exit_code == 3
        assert type(pickle.loads(pickle.dumps(why.value))) is direct.StorageException


def test_a_door_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTAFLOWS_DOOR_URL", "https://localhost:1")
    with pytest.raises(direct.StorageException, match="can't be reached"):
        direct.list_dir("lst")


def test_no_token(box: Sandbox) -> None:
    Store(box.settings()).remove()
    with pytest.raises(direct.TokenError, match="no token") as why:
        direct.list_dir("lst")
    assert not isinstance(why.value, direct.TokenExpiredError)
    assert "ctaflows token login" in why.value.__notes__[0]


def test_an_expired_token(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTAFLOWS_TOKEN_SOURCE", "environment")
    expired = box.issue_token(lifetime_s=-10)
    monkeypatch.setenv("BEARER_TOKEN", expired)
    with pytest.raises(direct.TokenExpiredError, match="expired") as why:
        direct.list_dir("lst")
    assert expired not in f"{why.value}{vars(why.value)}"


def test_a_token_that_the_door_refuses(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTAFLOWS_TOKEN_SOURCE", "environment")
    monkeypatch.setenv("BEARER_TOKEN", "nonsense")
    with pytest.raises(direct.StorageException, match="401") as why:
        direct.list_dir("lst")
    assert why.value.exit_code == 5


def test_secret(box: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert direct.APIClient().secret == box.client_secret
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(tmp_path / "empty"))
    client = direct.APIClient()
    with pytest.raises(direct.ClientSecretNotFound):
        client.secret  # noqa: B018
    client.secret = "hunter2"
    assert direct.APIClient().secret == "hunter2"
    kept = tmp_path / "empty/tokens/cscs.secret"
    assert kept.stat().st_mode & 0o077 == 0


def test_ctadatas_own_files_are_found(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What ctadata 0.7 keeps serves the first call here, without a new login."""
    config = tmp_path / "config"
    config.mkdir()
    values = f'door_url = "{box.door_url}"\nca_file = "{box.ca_file}"\n'
    (config / "config.toml").write_text(f"[profiles.cscs]\n{values}")
    monkeypatch.setenv("CTAFLOWS_CONFIG_DIR", str(config))
    theirs = tmp_path / "home/.config/cta-data"
    theirs.mkdir(parents=True)
    (theirs / "token").write_text(box.issue_token() + "\n")
    assert direct.list_dir("lst/data") == ["run.h5", "sub"]
    assert direct.APIClient().token == (theirs / "token").read_text().strip()
