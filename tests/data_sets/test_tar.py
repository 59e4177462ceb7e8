"""Tar shards and archives: what is read, what is refused, and that nothing lands elsewhere."""

from __future__ import annotations

import io
import itertools
import lzma
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.data import ImageFolder, TarShards, load, unpack
from striate.data.tar import open_tar
from striate.errors import DataError, FileError

RNG = np.random.Generator(np.random.Philox(key=6))
MODES = {"": "w", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}


def png(value: int, size: tuple[int, int] = (4, 4)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def entry(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def write(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], **options: Any) -> Path:
    with tarfile.open(path, **{"mode": "w", **options}) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(key: str, label: int | str, value: int = 9) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [entry(f"{key}.png", png(value)), entry(f"{key}.cls", f"{label}\n".encode())]


# ---- shards ----------------------------------------------------------------------------------


def shards(folder: Path, ending: str = "") -> str:
    """Three shards of 2, 3 and 1 samples; the value of sample k is 10·k, its label k mod 2."""
    k = 0
    for number, count in enumerate((2, 3, 1)):
        entries = []
        for _ in range(count):
            entries += sample(f"set/{k:04d}", k % 2, 10 * k)
            entries.append(entry(f"set/{k:04d}.json", b"{}"))
            k += 1
        write(folder / f"train-{number:03d}.tar{ending}", entries, mode=MODES[ending])
    return str(folder / f"train-{{000..002}}.tar{ending}")


@pytest.mark.parametrize("ending", list(MODES))
@pytest.mark.parametrize("cache", [True, False])
def test_shards_in_any_order(tmp_path: Path, ending: str, cache: bool) -> None:
    data = TarShards(shards(tmp_path, ending), cache=cache)
    assert len(data) == 6 and data.shape == (3, 4, 4) and data.classes == ("0", "1")
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1]
    images, labels = data.batch([5, 0, 3])
    assert (np.rint(255 * images[:, 0, 0, 0]).astype(int).tolist(), labels.tolist()) == (
        [50, 0, 30],
        [1, 0, 1],
    )
    assert {p.name for p in tmp_path.iterdir()} == {f"train-00{k}.tar{ending}" for k in range(3)}


def test_patterns_lists_and_names_of_classes(tmp_path: Path) -> None:
    shards(tmp_path)
    assert len(TarShards(tmp_path / "train-*.tar")) == 6
    assert len(TarShards([tmp_path / "train-001.tar"])) == 3
    write(tmp_path / "named.tar", [*sample("a", "dog"), *sample("b", "0")])
    data = TarShards(tmp_path / "named.tar", classes=["cat", "dog"])
    assert data.labels.tolist() == [1, 0] and data.classes == ("cat", "dog")
    train, test = load(tmp_path / "train-{000..001}.tar", size=(2, 2))
    assert train.shape == (3, 2, 2) and len(train) + len(test) == 5


def test_long_names_of_both_kinds(tmp_path: Path) -> None:
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        key = "/".join(["folder" * 6] * 4) + "/ä" if kind != tarfile.USTAR_FORMAT else "d/k"
        data = TarShards(write(tmp_path / f"{kind}.tar", sample(key, 0), format=kind))
        assert data._samples[0].key == key


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([entry("../a.png", png(1))], r"expected names within the archive; got '\.\./a\.png'"),
        ([entry("/etc/a.png", png(1))], "names within the archive"),
        ([entry("a\\..\\b.png", png(1))], "names within the archive"),
        ([entry("C:/a.png", png(1))], "names within the archive"),
        ([entry("a.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "got a symbolic link"),
        ([entry("a.png", type=tarfile.LNKTYPE, linkname="b")], "got a link, 'a.png'"),
        ([entry("a.png", type=tarfile.CHRTYPE)], "got a device"),
        ([entry("a.png", type=tarfile.FIFOTYPE)], "got a pipe"),
    ],
)
@pytest.mark.parametrize("reader", [TarShards, unpack])
def test_entries_that_are_refused(
    tmp_path: Path, entries: Any, match: str, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in" / "x.tar", [*sample("first", 0), *entries])
    with pytest.raises(DataError, match=match) as found:
        reader(path)
    assert "\n" not in str(found.value)
    left = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert left == [path]


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([], "expected pictures with labels"),
        ([entry("a.png", png(1))], "'a'; got a picture without a label"),
        ([entry("a.cls", b"0")], "'a'; got a label without a picture"),
        (sample("a", 0) + sample("a", 0), "expected one picture for 'a'; got two"),
        (sample("a", "dog"), "a whole number from 0 in a.cls; got 'dog'"),
        (sample("a", -1), "a whole number from 0 in a.cls; got '-1'"),
        (sample("a", "9" * 2000), "at most 1,024 bytes"),
        ([entry("a.png", b"none"), entry("a.cls", b"0")], "expected a readable picture"),
    ],
)
def test_shards_that_are_wrong(tmp_path: Path, entries: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        TarShards(write(tmp_path / "x.tar", entries))


def test_shards_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="expected a file; there is none"):
        TarShards(tmp_path / "x-{0..1}.tar")
    with pytest.raises(DataError, match="names none"):
        TarShards(tmp_path / "x-*.tar")
    with pytest.raises(DataError, match="a range of 1 to 100,000 shards"):
        TarShards(tmp_path / "x-{0..999999999}.tar")


def test_a_shard_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = Path(write(tmp_path / "x.tar", sample("a", 0) + sample("b", 1))).read_bytes()
    used = 4 * 512 + 4 * 512  # headers, and contents of less than a block each
    for end in (0, 100, 512, 700, 1024, 2048, used - 512, used):
        (tmp_path / "x.tar").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"x\.tar: expected .*(truncated|damaged|no tar)"):
            TarShards(tmp_path / "x.tar")


@pytest.mark.parametrize("ending", list(MODES))
def test_damaged_shards(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / "x.tar", sample("a", 0) + sample("b", 1), mode=MODES[ending])
    whole = path.read_bytes()
    outcomes = set()
    for _ in range(60):
        content = bytearray(whole[: RNG.integers(len(whole) // 2, len(whole))])
        for place in RNG.integers(0, len(content), 3):
            content[place] = RNG.integers(0, 256)
        path.write_bytes(content)
        try:
            data = TarShards(path)
            assert len(data) <= 2
            outcomes.add("read")
        except (DataError, FileError) as error:
            assert "\n" not in str(error) and "expected" in str(error)
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.size, info.type = 1 << 40, kind
    path = tmp_path / "x.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    with pytest.raises(DataError, match="at most 65,536 bytes; got an entry of 1,099,511"):
        TarShards(path)


@pytest.mark.parametrize(
    "record", [b"9 path=..", b"99 path=x\n", b"path", b"-3 a=b\n", b"17 size=99999999\n"]
)
def test_extended_attributes_that_are_wrong(tmp_path: Path, record: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.size, info.type = len(record), tarfile.XHDTYPE
    path = tmp_path / "x.tar"
    path.write_bytes(info.tobuf() + record.ljust(512, b"\0") + bytes(1024))
    with pytest.raises(DataError, match="extended"):
        TarShards(path)


def test_a_path_in_extended_attributes_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    write(path, [entry("x.png", png(1), pax_headers={"path": "../x.png"})], format=2)
    with pytest.raises(DataError, match="names within the archive"):
        TarShards(path)


def test_packed_shards_within_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("striate.data.shards.available_memory", lambda: 100)
    assert len(TarShards(shards(tmp_path))) == 6
    with pytest.raises(DataError, match="packed shards that fit into memory"):
        TarShards(shards(tmp_path, ".gz"))


def test_a_shard_that_changes_under_way(tmp_path: Path) -> None:
    data = TarShards(shards(tmp_path), cache=False)
    (tmp_path / "train-002.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"train-002\.tar: expected .* changed while"):
        data.batch([5])


# ---- archives --------------------------------------------------------------------------------


def archive(path: Path, ending: str = ".xz") -> Path:
    entries = [entry("train", type=tarfile.DIRTYPE)]
    for part, count in (("train", 3), ("test", 1)):
        for name in ("cat", "dog"):
            entries += [entry(f"{part}/{name}/{k}.png", png(k)) for k in range(count)]
    return write(path.with_name(path.name + ending), entries, mode=MODES[ending])


@pytest.mark.parametrize("ending", list(MODES))
def test_an_archive_of_a_folder(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    path = archive(tmp_path / "pets.tar", ending)
    folder = unpack(path)
    assert folder.parent == tmp_path / "cache" / "data" and folder.name.startswith("pets-")
    assert (folder / "test" / "dog" / "0.png").read_bytes() == png(0)
    (folder / "test" / "dog" / "0.png").write_bytes(png(7))
    assert unpack(path) == folder  # not again
    assert (folder / "test" / "dog" / "0.png").read_bytes() == png(7)
    if ending:
        train, test = load(path)
        assert (len(train), len(test), train.name) == (6, 2, "pets")


def test_load_finds_an_archive_by_the_name_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "pets").mkdir(parents=True)
    archive(tmp_path / "data" / "pets" / "all.tar")
    assert load("pets")[0].name == "pets"


def test_the_real_archive_of_cifar_10(tmp_path: Path) -> None:
    """Its first 300 pictures, streamed to a folder; the rest is of the same kind."""
    path = Path(os.environ.get("STRIATE_DATA", "none"), "cifar10", "cifar10-jpeg.tar.xz")
    if not path.is_file():
        pytest.skip(f"STRIATE_DATA has no {path.name}")
    with open_tar(path) as (stream, packed):
        assert packed
        members = (member for member in stream if not member.is_folder)
        for member in itertools.islice(members, 300):
            file = tmp_path / member.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(stream.read(member.size, 1 << 16))
    data = ImageFolder(tmp_path / "train")
    assert (len(data), data.shape, data.classes) == (300, (3, 32, 32), ("airplane",))
    assert 0.4 < data.batch(range(300))[0].mean() < 0.7


def test_unpacking_to_a_folder_that_exists(tmp_path: Path) -> None:
    path = archive(tmp_path / "pets.tar")
    assert unpack(path, tmp_path / "new" / "pets") == tmp_path / "new" / "pets"
    with pytest.raises(FileError, match="expected a new folder to unpack to; it exists"):
        unpack(path, tmp_path / "new")
    with pytest.raises(FileError, match="expected an archive; No such file"):
        unpack(tmp_path / "none.tar")


@pytest.mark.parametrize("limits", [{"byte_limit": 100}, {"file_limit": 3}])
def test_limits_of_unpacking(tmp_path: Path, limits: dict[str, int]) -> None:
    path = archive(tmp_path / "pets.tar")
    with pytest.raises(DataError, match=r"expected at most .* Check the archive, or raise"):
        unpack(path, tmp_path / "out", **limits)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_name_that_comes_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", [entry("a", b"1"), entry("a", b"2")])
    with pytest.raises(DataError, match="each name once; got 'a' again"):
        unpack(path, tmp_path / "out")
    path = write(tmp_path / "x.tar", [entry("a", b"1"), entry("a/b", b"2")])
    with pytest.raises(FileError, match="cannot be written"):
        unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_xz_of_several_streams_and_one_that_wants_memory(tmp_path: Path) -> None:
    path = archive(tmp_path / "pets.tar", "")
    whole = path.read_bytes()
    packed = tmp_path / "two.tar.xz"
    packed.write_bytes(lzma.compress(whole[:3000]) + bytes(8) + lzma.compress(whole[3000:]))
    assert (unpack(packed, tmp_path / "a") / "train" / "cat" / "2.png").read_bytes() == png(2)
    packed.write_bytes(lzma.compress(whole)[:-30])
    unpack(packed, tmp_path / "b")  # what is missing is behind the archive's end mark
    header = bytearray(lzma.compress(whole))
    header[16] = 38  # a dictionary of 2 GiB
    header[20:24] = zlib.crc32(bytes(header[12:20])).to_bytes(4, "little")
    packed.write_bytes(header)
    with pytest.raises(DataError, match=r"two\.tar\.xz: .* \(Memory usage limit"):
        unpack(packed, tmp_path / "c")
