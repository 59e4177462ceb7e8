"""Atomic writing under every failure we can produce, and reading of what is no plain file."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from striate.errors import FileError
from striate.files import make_folder, open_for_reading, read_bytes, write_atomically

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX only")
not_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything"
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(b"old")
    return path


def check_untouched(path: Path) -> None:
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_writes_bytes_and_by_function(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    write_atomically(str(tmp_path / "a"), lambda file: file.write(b"two"))
    assert read_bytes(tmp_path / "a", 3) == b"two"
    assert os.listdir(tmp_path) == ["a"]


@posix
def test_mode_and_link_are_kept(tmp_path: Path, old: Path) -> None:
    old.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(old)
    write_atomically(link, b"new")
    assert link.is_symlink() and old.read_bytes() == b"new"
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


@posix
def test_new_file_gets_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    write_atomically(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_disk_full_leaves_the_old_file(
    old: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(FileError, match=r"model: cannot be written: the disk is full\. Free"):
        write_atomically(old, b"new")
    check_untouched(old)


def test_disk_full_within_the_writer(old: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FileError, match="the disk is full"):
        write_atomically(old, write)
    check_untouched(old)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_interruption_passes_on(old: Path, interruption: type[BaseException]) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise interruption("stop")

    with pytest.raises(interruption, match="stop"):
        write_atomically(old, write)
    check_untouched(old)


LIMITED = """
import resource, sys
from striate.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
write_atomically(sys.argv[1], bytes(1 << 20))
"""


@posix
def test_a_real_limit_on_the_size_of_files(old: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(old)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "FileError" in done.stderr and "larger than is allowed here" in done.stderr
    check_untouched(old)


KILLED = """
import os, signal, sys
from striate.files import write_atomically
def write(file):
    file.write(bytes(1 << 20))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], write)
"""


@posix
def test_kill_leaves_the_old_file(old: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(old)], check=False)
    assert done.returncode == -9
    assert old.read_bytes() == b"old"


def test_missing_folder_and_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="its folder does not exist"):
        write_atomically(tmp_path / "no" / "model", b"")
    with pytest.raises(FileError, match=r"expected a file to write; got a folder"):
        write_atomically(tmp_path, b"")
    with pytest.raises(FileError, match="NUL byte"):
        write_atomically("a\0b", b"")


@posix
def test_devices_are_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="got a device or a pipe"):
        write_atomically("/dev/null", b"")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileError, match="got a device or a pipe"):
        open_for_reading(pipe)


@not_root
def test_permissions(tmp_path: Path, old: Path) -> None:
    old.chmod(0)
    with pytest.raises(FileError, match="permission denied"):
        read_bytes(old, 10)
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="permission denied"):
        write_atomically(old, b"new")
    tmp_path.chmod(0o700)


def test_reading_refuses(tmp_path: Path, old: Path) -> None:
    with pytest.raises(FileError, match=r"nothing: expected a file; there is none"):
        read_bytes(tmp_path / "nothing", 10)
    with pytest.raises(FileError, match=r"expected a file; got a folder"):
        read_bytes(tmp_path, 10)
    with pytest.raises(FileError, match=r"expected at most 2 bytes; got 3"):
        read_bytes(old, 2)
    with pytest.raises(FileError, match=r"part of|cannot be read"):
        read_bytes(old / "below", 2)
    with pytest.raises(FileError, match="NUL byte"):
        open_for_reading("a\0b")


def test_make_folder(tmp_path: Path, old: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    make_folder(tmp_path / "a" / "b")
    with pytest.raises(FileError, match=r"expected a folder; it is a file"):
        make_folder(old)
    with pytest.raises(FileError, match="cannot be created"):
        make_folder(old / "below")
