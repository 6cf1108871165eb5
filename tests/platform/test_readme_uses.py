"""All uses that ctadata's READMEs (0.5 to 0.7) show, run in processes of their own.

Only the import is changed, as docs/migration.md says; names of files are those of the sample.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nights import make_night
from proxykit import proxy_pem

if TYPE_CHECKING:
    from ctaflows.sandbox import Sandbox
    from ctaflows.sandbox.hub import Hub

OWN = "lst/users/jane_doe__example_org"
SERVICE = "from ctaflows import ctadata\n"
DIRECT = "from ctaflows.ctadata import direct as ctadata\n"
FIRST_LOOP = """
for url in ctadata.list_dir("cta/DL1/20241114/v0.1/"):
    if 'datacheck' not in url and '.0100' in url and '11111' in url:
        print("stored", ctadata.fetch_and_save_file(url) / 1024 / 1024, "Mb")
        print("found keys", h5py.File(url.split("/")[-1]).keys())
"""


@pytest.fixture(autouse=True)
def sample(box: Sandbox, here: Path) -> None:
    night = box.storage / "cta/DL1/20241114/v0.1"
    make_night(box.storage, dt.date(2024, 11, 14), runs=(11111,), subruns=(1,))
    source = next(night.rglob("dl1_LST-1.Run11111.0000.h5"))
    for name in (
        "dl1_LST-1.Run11111.0100.h5", "dl1_LST-1.Run11111.0101.h5", "dl1_LST-1.Run11113.0100.h5",
        "datacheck_dl1_LST-1.Run11111.0100.h5",
    ):  # fmt: skip
        shutil.copy(source, night / name)
    box.put("/lst/some-data-dir/some-data-file", b"some data")
    box.put("/lst/some-data-dir/sub/more", b"more")
    for name in ("latest.txt", "example.txt", "latest-file-list"):
        (here / name).write_text(f"{name}\n")


def python(code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=False, timeout=240,
        env={**os.environ, **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def shell(line: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        line, shell=True, text=True, capture_output=True, check=False, timeout=240,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- 0.5 and 0.6, on the platform ------------------------------------------------------------------


def test_list_fetch_open(token: str, here: Path) -> None:
    said = python(SERVICE + "import h5py\n" + FIRST_LOOP)
    size = (here / "dl1_LST-1.Run11111.0100.h5").stat().st_size
    assert said == (
        f"stored {size / 1024 / 1024} Mb\n"
        "found keys <KeysViewHDF5 ['configuration', 'dl1', 'source_filenames']>\n"
    )
    assert [p.name for p in here.glob("*.h5")] == ["dl1_LST-1.Run11111.0100.h5"]


def test_a_directory(token: str, here: Path) -> None:
    python(SERVICE + 'ctadata.fetch_and_save_file_or_dir("lst/some-data-dir", recursive=True)')
    assert (here / "lst/some-data-dir/some-data-file").read_bytes() == b"some data"
    assert (here / "lst/some-data-dir/sub/more").read_bytes() == b"more"
    shell("ctadata get --recursive lst/some-data-dir")


def test_uploads(token: str, here: Path, box: Sandbox) -> None:
    said = python(
        SERVICE
        + 'print(ctadata.upload_file("latest.txt", "your-folder/new-file-name.md"))\n'
        + 'ctadata.upload_file("latest.txt", "your-folder/")\n'
        + f'ctadata.fetch_and_save_file("{OWN}/your-folder/new-file-name.md")\n'
    )
    path = f"{OWN}/your-folder/new-file-name.md"
    assert said == str({"path": path, "status": "uploaded", "total_written": 11}) + "\n"
    folder = box.storage / OWN / "your-folder"
    assert {p.name for p in folder.iterdir()} == {"new-file-name.md", "latest.txt"}
    assert (here / "new-file-name.md").read_text() == "latest.txt\n"


@pytest.mark.parametrize("script", ["cta-data", "ctadata"])
def test_put_on_the_platform(script: str, token: str, box: Sandbox) -> None:
    (box.config_dir / "tokens/sandbox.json").unlink()  # nobody has logged in to the storage
    said = shell(f"{script} put latest-file-list latest-file-list-bla-bla")
    assert f'"path": "{OWN}/latest-file-list-bla-bla"' in said
    assert (box.storage / OWN / "latest-file-list-bla-bla").exists()


def test_from_outside(hub: Hub, here: Path) -> None:
    token = hub.add_user("someone")
    code = f"""
import os
os.environ["CTADS_URL"] = "{hub.downloadservice_url}"
os.environ["CTACS_URL"] = "{hub.certificateservice_url}"
os.environ["JUPYTERHUB_API_TOKEN"] = "{token}"
"""
    said = python(SERVICE + "import h5py\n" + code + FIRST_LOOP.replace('v0.1/"', 'v0.1"'))
    assert said.startswith("stored 0.")


def test_webdav(token: str, box: Sandbox) -> None:
    said = python(
        SERVICE
        + "client = ctadata.webdav4_client()\n"
        + 'print([e["name"] for e in client.ls("/")])\n'
        + 'client.uploadFile("example.txt", "remote/example.txt")\n'
    )
    assert said == "['cta', 'lst']\n"
    assert (box.storage / OWN / "remote/example.txt").exists()


def test_delegation(token: str, hub: Hub, here: Path) -> None:
    (here / "yourcertificate.crt").write_text(proxy_pem())
    python(SERVICE + "ctadata.upload_certificate('yourcertificate.crt')")
    assert len(hub.certificates) == 3


# -- 0.6's direct, and all of 0.7 ------------------------------------------------------------------


@pytest.mark.parametrize("imported", [SERVICE, DIRECT])
def test_storage_lists_and_fetches(imported: str, here: Path) -> None:
    said = python(
        imported
        + 'for path in ctadata.list_dir("cta"):\n    print(path)\n'
        + 'ctadata.fetch_and_save_file_or_dir("lst/some-data-dir/some-data-file")\n'
        + 'ctadata.fetch_and_save_file_or_dir("lst/some-data-dir", recursive=True)\n'
    )
    assert said == "DL1\n"
    assert (here / "some-data-file").read_bytes() == b"some data"
    assert (here / "some-data-dir/sub/more").read_bytes() == b"more"


@pytest.mark.parametrize("script", ["cta-data", "cta-data-direct"])
def test_storage_scripts(script: str, here: Path, box: Sandbox) -> None:
    shell(f"{script} get lst/some-data-dir/some-data-file")
    shell(f"{script} get --recursive lst/some-data-dir")
    shell(f"{script} put latest-file-list latest-file-list-bla-bla")
    assert (here / "some-data-file").read_bytes() == b"some data"
    assert (here / "some-data-dir/sub/more").read_bytes() == b"more"
    assert (box.storage / "latest-file-list-bla-bla").exists()


@pytest.mark.parametrize(
    "code",
    [
        SERVICE + 'ctadata.upload_file("latest.txt", "your-folder/new-file-name.md")\n'
        'ctadata.upload_file("latest.txt", "your-folder/")\n',
        DIRECT + 'ctadata.direct.upload_file("latest.txt", "your-folder/new-file-name.md")\n'
        'ctadata.direct.upload_file("latest.txt", "your-folder/")\n',
    ],
)
def test_storage_uploads(code: str, box: Sandbox) -> None:
    python(code)
    folder = box.storage / "your-folder"
    assert {p.name for p in folder.iterdir()} == {"new-file-name.md", "latest.txt"}


def test_the_migration_page(token: str, here: Path) -> None:
    page = Path(__file__).parents[2] / "docs/migration.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    assert [python(block).split()[0] for block in blocks] == ["stored", "DL1"]


def test_print_token(box: Sandbox, here: Path) -> None:
    printed = shell("cta-data print-token").strip()
    assert printed.count(".") == 2
    assert "\n" not in printed
