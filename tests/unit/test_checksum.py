"""Checksums: computed in pieces, read from what servers write."""

import base64
import hashlib
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctaflows.model import Checksum
from ctaflows.storage import webdav
from ctaflows.storage.checksum import Hasher, best, format_digest, of_file, parse_digests
from ctaflows.transport import Head

ALGORITHMS = ["adler32", "md5", "sha256", "sha512"]
SIZES = {"adler32": 4, "md5": 16, "sha256": 32, "sha512": 64}

VECTORS = [
    ("adler32", b"", "00000001"),
    ("adler32", b"a", "00620062"),
    ("adler32", b"Wikipedia", "11e60398"),
    ("md5", b"", "d41d8cd98f00b204e9800998ecf8427e"),
    ("md5", b"abc", "900150983cd24fb0d6963f7d28e17f72"),
    ("sha256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        "sha512",
        b"abc",
        (
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
    ),
]


def whole(algorithm, data):
    """The checksum by other means."""
    if algorithm == "adler32":
        return Checksum(algorithm, f"{zlib.adler32(data):08x}")
    return Checksum(algorithm, getattr(hashlib, algorithm)(data).hexdigest())


@pytest.mark.parametrize(("algorithm", "data", "value"), VECTORS)
def test_known_vectors(algorithm, data, value, tmp_path):
    hasher = Hasher(algorithm)
    hasher.update(data)
    assert hasher.checksum() == Checksum(algorithm, value)
    file = tmp_path / "file"
    file.write_bytes(data)
    assert of_file(file, algorithm) == Checksum(algorithm, value)


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_pieces_give_the_checksum_of_the_whole(pieces):
    for algorithm in ALGORITHMS:
        hasher = Hasher(algorithm)
        for piece in pieces:
            hasher.update(piece)
            hasher.checksum()  # looking does not change it
        assert hasher.checksum() == whole(algorithm, b"".join(pieces))


@pytest.mark.parametrize("n_bytes", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_files_of_more_than_one_block(n_bytes, tmp_path):
    data = b"\xff" * n_bytes
    file = tmp_path / "file"
    file.write_bytes(data)
    for algorithm in ALGORITHMS:
        assert of_file(file, algorithm) == whole(algorithm, data)


digests = st.sampled_from(ALGORITHMS).flatmap(
    lambda a: st.binary(min_size=SIZES[a], max_size=SIZES[a]).map(lambda b: Checksum(a, b.hex()))
)


@given(digests)
@example(Checksum("adler32", "00000000"))
@example(Checksum("adler32", "00000001"))
def test_a_digest_is_read_as_it_was_written(checksum):
    assert parse_digests(format_digest(checksum)) == (checksum,)


@given(st.lists(digests, max_size=5))
def test_a_list_of_digests_is_read_in_order(checksums):
    assert parse_digests(", ".join(map(format_digest, checksums))) == tuple(checksums)
    assert parse_digests(",".join(map(format_digest, checksums))) == tuple(checksums)


def b64(algorithm, data=b"abc"):
    return base64.b64encode(bytes.fromhex(whole(algorithm, data).value)).decode()


READ = [
    (None, []),
    ("", []),
    ("adler32=03da0195", ["adler32:03da0195"]),
    ("adler32=3da0195", ["adler32:03da0195"]),
    ("adler32=1", ["adler32:00000001"]),
    ("adler32=3DA0195", ["adler32:03da0195"]),
    ("ADLER32=03da0195", ["adler32:03da0195"]),
    (" adler32 = 03da0195 ", ["adler32:03da0195"]),
    (f"md5={b64('md5')}", [str(whole("md5", b"abc"))]),
    (
        f"md5={b64('md5')},adler32=3da0195",
        [str(whole("md5", b"abc")), "adler32:03da0195"],
    ),
    (f"SHA-256={b64('sha256')}", [str(whole("sha256", b"abc"))]),
    (f"sha-256=:{b64('sha256')}:", [str(whole("sha256", b"abc"))]),
    (f"sha-512=:{b64('sha512')}:", [str(whole("sha512", b"abc"))]),
    (f"sha=whatever, md5={b64('md5')}", [str(whole("md5", b"abc"))]),
    ("crc32c=AAAAAA==,adler32=03da0195", ["adler32:03da0195"]),
    ("adler32=zzzz,adler32=03da0195", ["adler32:03da0195"]),
    # nothing of these is a digest
    ("adler32", []),
    ("adler32=", []),
    ("adler32= ,md5=", []),
    ("adler32=003da0195", []),
    ("adler32=0x3da019", []),
    ("adler32=-3da0195", []),
    ("adler32=١٢٣٤٥٦٧٨", []),
    ("md5", []),
    ("md5=", []),
    ("md5=900150983cd24fb0d6963f7d28e17f72", []),
    (f"md5={b64('md5')[:-2]}", []),
    (f"md5={b64('sha256')}", []),
    (f"sha-256={b64('md5')}", []),
    ("sha-256=::", []),
    ("sha-256=:", []),
    ("md5=!!!!", []),
    ("md5=éééé", []),
    (",,,=,==,", []),
]


@pytest.mark.parametrize(("text", "found"), READ)
def test_what_servers_write(text, found):
    assert [str(c) for c in parse_digests(text)] == found


def test_digests_of_either_header_count():
    """A dCache pool may answer with the header that another client has asked for."""
    sha256 = Checksum("sha256", hashlib.sha256(b"a").hexdigest())
    said = f"sha-256=:{base64.b64encode(bytes.fromhex(sha256.value)).decode()}:"
    adler32 = Checksum("adler32", "00620062")
    assert webdav.digests(Head(200, "https://x/", {"digest": "adler32=00620062"})) == (adler32,)
    assert webdav.digests(Head(200, "https://x/", {"repr-digest": said})) == (sha256,)
    assert webdav.digests(
        Head(200, "https://x/", {"digest": "adler32=00620062", "repr-digest": said})
    ) == (adler32, sha256)
    assert webdav.digests(Head(200, "https://x/", {})) == ()


@given(st.text(max_size=60) | st.from_regex(r"(adler32|md5|sha-256|sha-512)=[^,]{0,20}"))
def test_rubbish_is_passed_over(text):
    for checksum in parse_digests(text):
        assert checksum.algorithm in ALGORITHMS
        assert len(bytes.fromhex(checksum.value)) == SIZES[checksum.algorithm]
        assert checksum.value == checksum.value.lower()


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ([], None),
        (["crc32"], None),
        (["adler32"], "adler32"),
        (["adler32", "md5"], "md5"),
        (["md5", "sha256", "adler32"], "sha256"),
        (["sha512", "sha256"], "sha512"),
        (["crc32", "adler32"], "adler32"),
    ],
)
def test_the_strongest_that_we_can_compute_is_chosen(there, chosen):
    found = best(Checksum(a, "00") for a in there)
    assert (found.algorithm if found else None) == chosen
    if found:
        Hasher(found.algorithm)
