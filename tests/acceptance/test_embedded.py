"""The built-in stores as real processes: as this user, as a plain user, and as what a killed parent leaves behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rota.cli.supervisor import Stores
from rota.embedded import EmbeddedPostgres, EmbeddedValkey, Place
from rota.embedded import place as place_module
from rota.embedded import postgres as postgres_module
from rota.embedded import valkey as valkey_module
from rota.embedded.child import Child
from rota.errors import StoreError
from rota.settings import Settings
from tests.unit.sdk_peer import eventually

PLAIN = "nobody"
USERS = ["as it is", "plain"] if os.geteuid() == 0 else ["as it is"]
"""As root the tests also become a plain user; as a plain user there is nothing else to be."""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="re-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def become(user: str) -> None:
    if user == "plain":
        entry = pwd.getpwnam(PLAIN)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def in_child(user: str, work: Callable[[], None]) -> None:
    """Does the work in a process of its own, as this user."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            become(user)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - a forked test must never reach pytest's own end
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def query(postgres: EmbeddedPostgres, sql: str, database: str = "rota") -> str:
    command = [str(postgres.program("psql")), "-h", str(postgres.sockets), "-U", "rota", "-d", database, "-Atc", sql]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("user", USERS)
def test_stores_keep_their_data_from_one_start_to_the_next(folder: Path, user: str) -> None:
    if user == "plain":
        os.chown(folder, pwd.getpwnam(PLAIN).pw_uid, -1)

    def work() -> None:
        for round_ in (1, 2):
            place = Place(folder / "data")
            place.open()
            with EmbeddedValkey(place), EmbeddedPostgres(place) as postgres:
                query(postgres, "CREATE TABLE IF NOT EXISTS rounds (n int)")
                query(postgres, "INSERT INTO rounds VALUES (1)")
                assert query(postgres, "SELECT count(*) FROM rounds") == str(round_)
                assert query(postgres, "SHOW listen_addresses") == ""
            place.close()
        assert (folder / "data").stat().st_mode & 0o777 == 0o700

    in_child(user, work)


def test_a_second_rota_is_kept_out_of_a_data_directory(folder: Path) -> None:
    first = Place(folder / "data")
    first.open()
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()}: stop it, or choose another --data-dir"):
        Place(folder / "data").open()
    first.close()
    second = Place(folder / "data")
    second.open()
    second.close()


def test_a_data_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(StoreError, match=r"cannot use the data directory /proc/rota: .*choose another with --data-dir"):
        Place(Path("/proc/rota")).open()


def test_a_long_path_does_not_keep_the_stores_from_their_sockets(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    place = Place(deep)
    place.open()
    with EmbeddedValkey(place), EmbeddedPostgres(place) as postgres:
        assert query(postgres, "SELECT 1") == "1"
        sockets = place.sockets()
        assert sockets.stat().st_mode & 0o777 == 0o700
    place.close()
    assert not sockets.exists()


if os.geteuid() == 0:

    def test_where_the_stores_user_cannot_reach_the_data_directory_they_live_elsewhere(
        folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        monkeypatch.setattr(place_module, "FALLBACK", folder / "fallback")
        place = Place(closed / "data")
        place.open()
        with EmbeddedValkey(place), EmbeddedPostgres(place) as postgres:
            assert query(postgres, "SELECT 1") == "1"
        told = (closed / "data" / "stores-are-in").read_text().strip()
        assert Path(told) == place.home
        assert place.home.parent == folder / "fallback"
        place.close()
        assert closed.stat().st_mode & 0o777 == 0o700, "no permission is loosened on the way"
        closed.chmod(0o755)
        again = Place(closed / "data")
        again.open()
        assert again.home == place.home, "what was put elsewhere is found again"
        again.close()


PARENT = """
import sys, time
from pathlib import Path
from rota.embedded import EmbeddedPostgres, EmbeddedValkey, Place
place = Place(Path(sys.argv[1]))
place.open()
valkey, postgres = EmbeddedValkey(place), EmbeddedPostgres(place)
valkey.start()
postgres.start()
print("up", flush=True)
time.sleep(600)
"""


def working_in(folder: Path) -> set[int]:
    """Processes whose working directory lies below the folder."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.resolve(strict=True).is_relative_to(folder):
                found.add(int(link.parent.name))
        except OSError:
            continue
    return found


def killed_parent(folder: Path) -> None:
    """A process that started its stores in this folder and was killed."""
    command = [sys.executable, "-c", PARENT, str(folder / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"up\n"
        assert working_in(folder)
        parent.kill()


async def test_a_killed_parent_takes_its_stores_with_it_and_the_next_start_finds_their_data(folder: Path) -> None:
    killed_parent(folder)
    place = Place(folder / "data")
    place.open()
    with EmbeddedValkey(place), EmbeddedPostgres(place) as postgres:
        assert query(postgres, "SELECT 1") == "1"
    place.close()
    await eventually(lambda: not working_in(folder))


def test_an_orphan_that_outlived_its_parent_does_not_block_the_next_start(folder: Path) -> None:
    first = Place(folder / "data")
    first.open()
    orphans = EmbeddedValkey(first), EmbeddedPostgres(first)
    for orphan in orphans:
        orphan.start()
    first.close()
    place = Place(folder / "data")
    place.open()
    with EmbeddedValkey(place), EmbeddedPostgres(place) as postgres:
        assert query(postgres, "SELECT 1") == "1"
        assert not any(orphan.child.running for orphan in orphans)
    place.close()


def test_a_store_that_was_killed_says_so_and_starts_again(folder: Path) -> None:
    place = Place(folder / "data")
    place.open()
    with EmbeddedValkey(place) as valkey, EmbeddedPostgres(place) as postgres:
        with pytest.raises(subprocess.CalledProcessError):
            query(postgres, "SELECT 1", database="nowhere")
        for store in (valkey, postgres):
            assert store.child.failed() is None
            store.child.kill()
            assert f"ended by itself ({-signal.SIGKILL})" in str(store.child.failed())
            assert "FATAL" not in str(store.child.failed()), "what clients were refused is no reason"
            store.start()
            assert store.child.failed() is None
        assert query(postgres, "SELECT 1") == "1"
    place.close()


def test_a_start_that_is_given_up_counts_as_a_failure_and_may_be_repeated(folder: Path) -> None:
    place = Place(folder / "data")
    place.open()
    with EmbeddedPostgres(place) as postgres:
        postgres.child.kill()
        with pytest.raises(StoreError, match="PostgreSQL does not start"):
            postgres.start(lambda: False)
        assert "does not start" in str(postgres.child.failed())
        postgres.start()
        assert postgres.child.failed() is None
        postgres.stop()
        assert postgres.child.failed() is None, "what was stopped has not failed"
    place.close()


def test_rota_gives_its_stores_as_long_as_they_live(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (postgres_module, valkey_module):
        monkeypatch.setattr(module, "START_WITHIN", 0.0)
    stores = Stores(Settings(data_dir=folder / "data"))
    stores.open(lambda: True)
    stores.close(4)


def test_the_reason_why_a_store_ended_is_its_own_and_not_its_last_line(folder: Path) -> None:
    place = Place(folder / "data")
    place.open()
    log = place.home / "postgres.log"
    child = Child("PostgreSQL", place, folder=place.home, log=log, ending=signal.SIGINT)
    said = (
        "PANIC:  could not write to file pg_wal/xlogtemp.7: No space left on device",
        "FATAL:  the database system is not yet accepting connections",
        "LOG:  database system is shut down",
    )
    log.write_text("PANIC:  of an earlier run\n")
    with pytest.raises(StoreError, match=r"could not write to file .*: No space left on device"):
        child.start(["/bin/sh", "-c", 'printf "%s\\n" "$@"', "sh", *said], lambda: False, lambda: True)
    with pytest.raises(StoreError, match="it said nothing"):
        child.start(["/bin/true"], lambda: False, lambda: True)
    place.close()


def test_a_database_that_has_gone_is_not_made_anew_behind_its_users_back(folder: Path) -> None:
    place = Place(folder / "data")
    place.open()
    with EmbeddedPostgres(place) as postgres:
        postgres.child.kill()
        cluster = place.home / "postgres"
        cluster.rename(place.home / "away")
        place.folder("postgres")
        with pytest.raises(StoreError, match="is gone: is its disk mounted"):
            postgres.start()
        assert not list(cluster.iterdir())
    place.close()


def test_files_of_another_postgresql_are_left_alone(folder: Path) -> None:
    place = Place(folder / "data")
    place.open()
    version = place.folder("postgres") / "PG_VERSION"
    version.write_text("9\n")
    with pytest.raises(StoreError, match=r"is PostgreSQL 9's and the built-in one is .*: move it with pg_dump"):
        EmbeddedPostgres(place).start()
    assert version.read_text() == "9\n"
    place.close()
