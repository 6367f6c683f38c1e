"""Files are replaced whole or not at all; locks keep other processes out and say where there are none."""

import fcntl
import os
import stat
import subprocess
import sys

import pytest

from hw_base import storage
from hw_base.errors import DataError
from tests.conftest import ROOT


@pytest.mark.parametrize("durable", [True, False])
def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, durable):
    path = tmp_path / "made" / "file.txt"
    with storage.replacing(path, durable) as scratch:
        scratch.write_text("old")

    def interrupted():
        with storage.replacing(path, durable) as scratch:
            scratch.write_text("half")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [one.read_text() for one in path.parent.iterdir()] == ["old"]


def test_the_file_is_flushed_before_it_replaces_and_the_folder_after(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    kind = {True: "folder", False: "file"}
    monkeypatch.setattr(os, "fsync", lambda one: (done.append(kind[stat.S_ISDIR(os.fstat(one).st_mode)]), fsync(one)))
    monkeypatch.setattr(os, "replace", lambda *both: (done.append("replace"), replace(*both)))
    storage.write_text(tmp_path / "a", "x")
    assert done == ["file", "replace", "folder"]


def test_a_path_in_the_locale_c_is_written_as_it_was_given(tmp_path):
    storage.write_json(tmp_path / "a.json", {"command": "папка".encode().decode("ascii", "surrogateescape")})
    assert "папка" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "a"
    with storage.replacing(path) as first:
        first.write_text("first")
        with storage.replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_files_are_as_readable_as_the_user_wants_them(tmp_path):
    before = os.umask(0o027)
    try:
        storage.write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_a_lock_that_another_process_holds_is_waited_for_and_said(tmp_path, caplog):
    caplog.set_level("INFO")
    program = (
        "import sys; from hw_base.storage import exclusive\n"
        "with exclusive(sys.argv[1]): print('in', flush=True); sys.stdin.readline()"
    )
    path = tmp_path / "lock"
    arguments = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout.readline() == "in\n"
        with open(path, "a") as file:
            assert storage.lock(file, "here", wait=False) == "busy"
        flock = fcntl.flock
        try:
            fcntl.flock = lambda one, how: (how == fcntl.LOCK_EX and other.communicate("go\n"), flock(one, how))[1]
            with storage.exclusive(path, "waiting for the other") as alone:
                assert alone
                assert other.returncode == 0
        finally:
            fcntl.flock = flock
    assert "waiting for the other" in caplog.text


def test_a_file_system_without_locks_is_no_error(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with storage.exclusive(tmp_path / "lock") as alone:
        assert not alone
    assert f"{tmp_path / 'lock'}: its file system cannot lock files (No locks available)" in caplog.text


def test_where_no_lock_can_be_made_the_hint_is_given(tmp_path):
    (tmp_path / "file").write_text("in the way")
    lock = storage.exclusive(tmp_path / "file" / "lock", hint="; choose another folder")
    with pytest.raises(DataError, match="; choose another folder"), lock:
        pass
