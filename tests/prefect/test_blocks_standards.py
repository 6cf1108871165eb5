"""Prefect's own standards for blocks, with pictures from loopback, and how they are found."""

from __future__ import annotations

import functools
import http.server
import importlib.metadata
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import addresses
import pytest

import ctaflows

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = ("CTACredentials", "CTADownloadService", "CTAStorage")
#: What `prefect.testing.standard_test_suites.BlockStandardTestSuite` looks at (Prefect 3.9.1).
STANDARDS = (
    "test_has_a_description",
    "test_has_a_documentation_url",
    "test_all_fields_have_a_description",
    "test_has_a_valid_code_example",
    "test_has_a_valid_image",
)
SLUGS = {"cta-credentials", "cta-download-service", "cta-storage"}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture(scope="module")
def docs_url() -> Iterator[str]:
    """Where docs/ is published, as a site would."""
    handler = functools.partial(_Quiet, directory=str(DOCS))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield addresses.on_loopback(server.server_port)
        server.shutdown()
        thread.join()


@pytest.fixture
def block(name: str) -> Any:
    """One of our blocks; Prefect must not be imported before its settings are those of a test."""
    return getattr(ctaflows, name)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("check", STANDARDS)
def test_prefects_standards(
    check: str, block: Any, docs_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.testing.standard_test_suites import BlockStandardTestSuite
    from pydantic import HttpUrl

    assert {t for t in dir(BlockStandardTestSuite) if t.startswith("test_")} == set(STANDARDS)
    if check == "test_has_a_valid_image":
        pytest.importorskip("PIL", reason="Pillow is not installed; the next test looks as well")
        name = str(block._logo_url).rpartition("/")[2]
        monkeypatch.setattr(block, "_logo_url", HttpUrl(f"{docs_url}/{name}"))
    getattr(BlockStandardTestSuite, check)(None, block)


@pytest.mark.parametrize("name", BLOCKS)
def test_its_picture_is_in_docs(block: Any) -> None:
    head = (DOCS / str(block._logo_url).rpartition("/")[2]).read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", head[16:24])
    assert width == height == 256
    page = str(block._documentation_url).rpartition("/")[2]
    assert (DOCS / page.replace(".html", ".md")).is_file()


def test_a_site_says_where_its_docs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from ctaflows.blocks import site

    assert site.page("logo.png").host == "ctaflows.example", "nobody's, RFC 2606"
    monkeypatch.setenv("CTAFLOWS_DOCS_URL", f"{addresses.DOCS}/")
    assert str(site.page("logo.png")) == f"{addresses.DOCS}/logo.png"


@pytest.mark.parametrize("name", BLOCKS)
def test_all_that_may_be_secret_is_declared_so(block: Any) -> None:
    from pydantic import SecretStr

    secret = {name for name in block.model_fields if name.endswith(("secret", "token"))}
    for name in secret:
        assert SecretStr in block.model_fields[name].annotation.__args__, name
    fields = set(block.model_json_schema()["secret_fields"])
    assert secret <= fields
    if block is ctaflows.CTAStorage:
        assert fields == {"credentials.client_secret", "credentials.refresh_token"}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_unit_is_told_where_a_number_has_one(block: Any) -> None:
    for field_name, field in block.model_fields.items():
        if field_name.endswith("_s"):
            assert "in seconds" in (field.description or "")
        if field_name.endswith("_bytes"):
            assert "in bytes" in (field.description or "")


@pytest.mark.parametrize("module", ["ctaflows", "ctaflows.blocks"])
def test_prefect_registers_them(prefect_server: Any, module: str) -> None:
    told = prefect_server.ask("block", "register", "-m", module)
    assert "Successfully registered 3 blocks" in told
    with prefect_server.client as client:
        for slug in SLUGS:
            assert client.read_block_type_by_slug(slug).name.startswith("CTA ")


def test_prefect_finds_them_by_itself() -> None:
    found = importlib.metadata.entry_points(group="prefect.collections")
    assert [entry.value for entry in found if entry.name == "ctaflows"] == ["ctaflows.blocks"]


def test_the_package_names_them_and_imports_no_prefect() -> None:
    from ctaflows.blocks import CTAStorage

    assert CTAStorage is ctaflows.CTAStorage
    assert set(BLOCKS) <= set(dir(ctaflows))
    code = "import sys; from ctaflows import *; assert 'prefect' not in sys.modules, 1"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    code = (
        "import sys, ctaflows.blocks; "
        "dear = {'h5py', 'matplotlib', 'ctaflows.tasks.transfers', 'ctaflows.ctadata'}; "
        "print(*dear & set(sys.modules))"
    )  # servers and workers import the entry point
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    assert not done.stdout.strip()
