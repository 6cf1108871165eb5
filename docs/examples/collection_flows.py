"""A flow for each task of the collection; docs/collection.md shows them, a test runs them."""

from pathlib import Path

from prefect import flow

from ctaflows.blocks import CTACredentials, CTADownloadService, CTAStorage
from ctaflows.reporting.artifacts import publish_census
from ctaflows.tasks import (
    disk_usage,
    fetch_dir,
    fetch_file,
    fetch_files,
    fetch_tables,
    fetch_tables_of_files,
    find,
    find_uploads,
    get_token_info,
    inspect_dl1,
    inspect_dl1_files,
    inspect_remote_dl1,
    inspect_remote_dl1_files,
    keep_token,
    list_dir,
    list_night,
    list_tree,
    look_at_night,
    make_dir,
    move,
    plot_night,
    prune_tree,
    refresh_token,
    remove,
    share_token,
    stat,
    upload_dir,
    upload_file,
    upload_files,
    verify_dir,
    write_page,
)


@flow
def list_a_directory(path: str, profile: str) -> list[str]:
    """List a directory."""
    return [entry.name for entry in list_dir(path, profile=profile)]


@flow
def find_first_subruns(night: str, profile: str) -> list[str]:
    """Find each run's first file."""
    found = find(night, include=["dl1_*.0000.h5"], exclude=["datacheck"], profile=profile)
    return [entry.path for entry in found]


@flow
def describe_file(path: str, profile: str) -> str:
    """Return a file's size and checksums."""
    entry = stat(path, profile=profile)
    return f"{entry.size_bytes} bytes, {', '.join(map(str, entry.checksums))}"


@flow
def measure_night(night: str, profile: str) -> int:
    """Return the size of a night in bytes."""
    return disk_usage(night, depth=0, profile=profile)[-1].size_bytes


@flow
def tell_night(date: str, profile: str) -> str:
    """Return the version of a night and its number of files."""
    night = list_night(date, profile=profile)
    return f"{night.date} {night.version}: {len(night.entries)} files"


@flow
def judge_night(date: str, profile: str) -> str:
    """Return whether a night is complete, and publish what it lacks in Prefect's UI."""
    census = look_at_night(date, remember=False, profile=profile)
    publish_census(census)
    return census.verdict


@flow
def fetch_one_file(path: str, dest: str, profile: str) -> bool:
    """Fetch a file, and return whether its checksum was verified."""
    return fetch_file(path, dest, profile=profile).verified


@flow
def fetch_first_subruns(night: str, dest: str, profile: str) -> int:
    """Fetch each run's first file, in parallel."""
    found = find(night, include=["dl1_*.0000.h5"], exclude=["datacheck"], profile=profile)
    return len(fetch_files(found, dest, profile=profile).transfers)


@flow
def fetch_and_verify(night: str, dest: str, profile: str) -> list[str]:
    """Fetch a directory, and check its files once more against the manifest."""
    fetch_dir(night, dest, manifest=Path(dest) / "manifest.jsonl", profile=profile)
    return [verdict.verdict for verdict in verify_dir(dest)]


@flow
def mirror_directory(path: str, dest: str, profile: str) -> list[str]:
    """Fetch a directory, and delete local files that it no longer has."""
    tree = list_tree(path, profile=profile)
    fetch_files(tree.files, dest, base=tree.path, profile=profile)
    deleted, _ = prune_tree(tree, dest)
    return deleted


@flow
def look_inside(path: str, dest: str, profile: str) -> int:
    """Fetch a DL1 file, and return its number of events."""
    transfer = fetch_file(path, dest, profile=profile)
    return inspect_dl1(transfer.local).n_events or 0


@flow
def look_inside_many(folder: str) -> list[str]:
    """Return the damaged DL1 files of a folder."""
    found = inspect_dl1_files(sorted(Path(folder).rglob("dl1_*.h5")))
    return [one.file for one in found if one.error]


@flow
def look_inside_there(path: str, profile: str) -> int:
    """Return the run of a DL1 file, without fetching it."""
    return inspect_remote_dl1(path, whole=False, profile=profile).run or 0


@flow
def look_inside_many_there(folder: str, profile: str) -> list[int]:
    """Return the numbers of events in DL1 files, read in parallel without fetching them."""
    files = find(folder, include=["dl1_*.h5"], exclude=["datacheck"], profile=profile)
    found = inspect_remote_dl1_files(files, profile=profile)
    return [one.summary.n_events or 0 for one in found if one.summary]


@flow
def draw_night(folder: str) -> list[str]:
    """Plot the content of a folder's DL1 files, and write a page that opens offline."""
    found = inspect_dl1_files(sorted(Path(folder).rglob("*dl1_*.h5")))
    return [str(plot_night(found, "night.pdf")), str(write_page(found, "night.html"))]


@flow
def fetch_parameters(path: str, dest: str, profile: str) -> str:
    """Fetch a DL1 file without its images."""
    return fetch_tables(path, dest, drop=["images"], profile=profile).local


@flow
def fetch_all_parameters(night: str, dest: str, profile: str) -> int:
    """Fetch the parameters of many DL1 files, in parallel."""
    found = find(night, include=["dl1_*.h5"], exclude=["datacheck"], profile=profile)
    return len(fetch_tables_of_files(found, dest, drop=["images"], profile=profile).transfers)


@flow
def upload_result(local: str, folder: str, profile: str) -> bool:
    """Create a directory, and upload a file into it."""
    make_dir(folder, parents=True, profile=profile)
    return upload_file(local, f"{folder}/", profile=profile).verified


@flow
def upload_results(local: str, folder: str, profile: str) -> int:
    """Upload a directory, and move it to its final name."""
    report = upload_dir(local, f"{folder}/incoming", profile=profile)
    move(f"{folder}/incoming", f"{folder}/done", profile=profile)
    return len(report.transfers)


@flow
def upload_selected(local: str, folder: str, profile: str) -> int:
    """Upload the text files of a folder."""
    found = find_uploads([local], folder, include=["*.txt"])
    pairs = [(file, entry.path) for file, entry in found]
    return len(upload_files(pairs, profile=profile).transfers)


@flow
def tidy_up(folder: str, profile: str) -> int:
    """Remove a directory with all that is below it."""
    return len(remove(folder, recursive=True, profile=profile))


@flow
def keep_login(profile: str) -> int:
    """Renew the token if it expires soon, and return the seconds it has left."""
    keep_token(profile=profile)
    return get_token_info(profile=profile).expires_in_s or 0


@flow
def renew_login(profile: str, copy_in: str) -> int:
    """Renew the token now, and copy the access token to a Secret block."""
    info = refresh_token(profile=profile)
    share_token(copy_in, profile=profile)
    return info.expires_in_s or 0


@flow
def with_blocks(storage: str, credentials: str, night: str, dest: str) -> int:
    """Use the blocks' own methods: the tasks, with the block's storage and login."""
    CTACredentials.load(credentials).keep()
    door = CTAStorage.load(storage)
    found = door.find(night, include=["*.0000.h5"])
    return len(door.fetch_files(found, dest).transfers)


@flow
def from_platform(service: str, path: str, dest: str) -> bool:
    """Fetch a file through the platform's download service."""
    platform = CTADownloadService.load(service)
    entries = [entry for entry in platform.list_dir(path) if not entry.is_dir]
    return platform.fetch_file(entries[0], dest).verified
