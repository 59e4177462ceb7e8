"""Feed every reader of files with damaged ones, for a given time, and say what they do wrong.

    python tools/fuzz.py --minutes 10
    python tools/fuzz.py --minutes 2 --reader torch --reader npz --seed 7

A reader may read what it is given or refuse it with one of striate's errors, in one sentence.
Anything else is a finding: another exception, a crash of the process, a file outside the folder
that is unpacked to, more memory than MULTIPLE times the file and what CONSTANT says for the
reader, or no answer within SECONDS. The file of a finding is kept in --keep.

Files are made from good ones by changing bytes, numbers, lengths and order. Some are changed
before their outer form (a zip's checksums, a header's length) is put around them, so that the
change gets through to what lies within. Readers that need a package that is absent are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from striate.errors import StriateError

MULTIPLE = 64
SECONDS = 20
MIB = 1 << 20
Change = Callable[[bytes], bytes]


@dataclass
class Reader:
    """One way into the library.

    Args:
        seeds: makes good contents.
        read: reads a file; a second argument is a folder that may be written to.
        wrap: puts the outer form around a changed content.
        constant: bytes of memory that it may take for any file.
        suffix: of the file.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[Path, Path], object]
    wrap: Change = bytes
    constant: int = 128 * MIB
    suffix: str = ".bin"


# ---- good files ----------------------------------------------------------------------------------


def written(name: str, write: Callable[[str], object]) -> bytes:
    """What `write` writes to a file of this name."""
    with tempfile.TemporaryDirectory() as folder:
        write(f"{folder}/{name}")
        return Path(folder, name).read_bytes()


def arrays() -> dict[str, Any]:
    return {
        "a.weight": np.arange(12, dtype="f4").reshape(4, 3),
        "a.bias": np.ones(4, "f4"),
        "n": np.array(3, "i8"),
        "h": np.ones((2, 0), "f2"),
    }


def network() -> Any:
    from striate import nn

    layers = (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(18, 3)).eval()


def of_torch() -> list[bytes]:
    from striate.formats.torch_write import save_torch

    return [written("a.pth", lambda path: save_torch(arrays(), path))]


def entry(content: bytes, end: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith(end)))


def torch_pickles() -> list[bytes]:
    nested = {"epoch": 3, "state_dict": {"x": [1.5, (2, None, True)]}, "name": "ab", "n": -7}
    plain = [pickle.dumps(nested, protocol) for protocol in (0, 2, 4)]
    return [entry(of_torch()[0], "data.pkl"), *plain]


def as_torch(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for k, size in enumerate((48, 16, 8, 0)):
            archive.writestr(f"archive/data/{k}", bytes(size))
    return out.getvalue()


def torch_streams() -> list[bytes]:
    """The older format: five pickles, then the storages."""
    starts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}]
    content = entry(of_torch()[0], "data.pkl")
    ends = pickle.dumps(["0", "1", "2", "3"], 2)
    for count, size in ((12, 48), (4, 16), (1, 8), (0, 0)):
        ends += count.to_bytes(8, "little") + bytes(size)
    return [b"".join(pickle.dumps(k, 2) for k in starts) + content + ends]


def safetensors() -> list[bytes]:
    from striate.formats.safetensors_file import save_tensors

    return [written("a.safetensors", lambda path: save_tensors(path, arrays(), {"by": "me"}))]


def headers() -> list[bytes]:
    content = safetensors()[0]
    return [content[8 : 8 + int.from_bytes(content[:8], "little")]]


def with_length(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content + bytes(72)


def models() -> list[bytes]:
    import striate

    net = network()
    return [written("a.safetensors", lambda path: striate.save(net, path, input_shape=(1, 8, 8)))]


def descriptions() -> list[bytes]:
    from striate.formats.safetensors_file import load_tensors

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.safetensors")
        path.write_bytes(models()[0])
        return [load_tensors(path)[1]["striate"].encode()]


def as_model(content: bytes) -> bytes:
    from striate.formats.safetensors_file import save_tensors

    text = {"striate": content.decode("utf-8", "replace")}
    weights = network().state_dict()
    return written("a.safetensors", lambda path: save_tensors(path, weights, text))


def npz() -> list[bytes]:
    compressed = io.BytesIO()
    np.savez_compressed(compressed, **arrays())
    plain = io.BytesIO()
    np.savez(plain, **arrays())
    return [plain.getvalue(), compressed.getvalue()]


def npy() -> list[bytes]:
    out = io.BytesIO()
    np.save(out, np.ones((3, 4)))
    return [out.getvalue()]


def as_npz(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", content)
    return out.getvalue()


def idx() -> list[bytes]:
    images = b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in (3, 4, 5)) + bytes(range(60))
    return [images, gzip.compress(images)]


def pictures() -> list[bytes]:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8)
    found = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, kind)
        found.append(out.getvalue())
    return found


def shards() -> list[bytes]:
    return [packed({"0.png": pictures()[0], "0.cls": b"1", "1.png": pictures()[0], "1.cls": b"0"})]


def archives() -> list[bytes]:
    names = {"cat/a.png": pictures()[0], "dog/b.png": pictures()[0]}
    wild = packed({"../../escaped": b"x", "/tmp/striate-escaped": b"x", "a/../../escaped": b"x"})
    linked = packed({"a": b"x"}, [("b", tarfile.SYMTYPE, "../.."), ("c", tarfile.LNKTYPE, "/etc")])
    whole = packed(names)
    return [whole, wild, linked, gzip.compress(whole)]


def packed(files: dict[str, bytes], links: list[tuple[str, bytes, str]] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, kind, target in links or []:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return out.getvalue()


def rechecked(content: bytes) -> bytes:
    """A tar file whose headers' checksums fit again."""
    found = bytearray(content)
    for start in range(0, len(found) - 511, 512):
        header = found[start : start + 512]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            found[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return bytes(found)


def onnx_models() -> list[bytes]:
    from striate.formats.onnx import write

    net = network()
    return [written("a.onnx", lambda path: write(net, path, input_shape=(1, 8, 8)))]


# ---- readers -------------------------------------------------------------------------------------


def read_torch(path: Path, _: Path) -> None:
    from striate.formats.torch_file import load_torch

    load_torch(path)


def read_tensors(path: Path, _: Path) -> None:
    from striate.formats.safetensors_file import load_tensors

    load_tensors(path)


def read_model(path: Path, _: Path) -> None:
    """The network too, on the reference backend: compiling each would test nothing more."""
    import striate

    net = striate.load(path)
    if np.prod(net.input_shape, dtype=float) < 10_000:
        net.to_graph(net.input_shape)


def read_npz(path: Path, _: Path) -> None:
    from striate.formats.npz_file import load_npz

    load_npz(path)


def read_idx(path: Path, _: Path) -> None:
    from striate.data.idx import read_idx

    read_idx(path, axes=3)


def read_image(path: Path, _: Path) -> None:
    from striate.data.pictures import read_picture

    read_picture(path, (8, 8), 3)


def read_shards(path: Path, _: Path) -> None:
    from striate.data.shards import TarShards

    found = TarShards(path, size=(8, 8), threads=1, progress=False)
    found.batch(np.arange(len(found)))


def unpack(path: Path, folder: Path) -> None:
    from striate.data.archive import unpack

    unpack(path, folder / "unpacked", byte_limit=4 * MIB, file_limit=100, progress=False)


def read_onnx(path: Path, _: Path) -> None:
    from striate.formats.onnx import read

    read(path)


PICTURES = 1024 * MIB  # 50 million pixels, as bytes of colour and as float32 while they are resized
READERS: dict[str, Reader] = {
    "torch": Reader(of_torch, read_torch, suffix=".pth"),
    "torch-pickle": Reader(torch_pickles, read_torch, as_torch, suffix=".pth"),
    "torch-stream": Reader(torch_streams, read_torch, suffix=".pth"),
    "safetensors": Reader(safetensors, read_tensors, suffix=".safetensors"),
    "safetensors-header": Reader(headers, read_tensors, with_length, suffix=".safetensors"),
    "model": Reader(models, read_model, suffix=".safetensors"),
    "model-graph": Reader(descriptions, read_model, as_model, suffix=".safetensors"),
    "npz": Reader(npz, read_npz, suffix=".npz"),
    "npz-array": Reader(npy, read_npz, as_npz, suffix=".npz"),
    "idx": Reader(idx, read_idx),
    "picture": Reader(pictures, read_image, constant=PICTURES),
    "shards": Reader(shards, read_shards, rechecked, PICTURES, suffix=".tar"),
    "archive": Reader(archives, unpack, rechecked, suffix=".tar"),
    "onnx": Reader(onnx_models, read_onnx, suffix=".onnx"),
}


# ---- changing ------------------------------------------------------------------------------------

_NUMBERS = (0, 1, 127, 128, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_TEXTS = (b"-1", b"0", b"99999999999999999999", b"1e400", b"NaN", b"null", b"[]", b"{}", b'""')


def changed(content: bytes, seeds: list[bytes], random: np.random.Generator) -> bytes:
    """A content with one to eight changes."""
    found = bytearray(content)
    for _ in range(int(random.integers(1, 9))):
        change = _CHANGES[int(random.integers(len(_CHANGES)))]
        change(found, int(random.integers(len(found) + 1)), seeds, random)
    return bytes(found)


def _set_byte(found: bytearray, at: int, _: Any, random: np.random.Generator) -> None:
    if at < len(found):
        found[at] = int(random.integers(256))


def _flip_bit(found: bytearray, at: int, _: Any, random: np.random.Generator) -> None:
    if at < len(found):
        found[at] ^= 1 << int(random.integers(8))


def _set_number(found: bytearray, at: int, _: Any, random: np.random.Generator) -> None:
    size = (1, 2, 4, 8)[int(random.integers(4))]
    value = _NUMBERS[int(random.integers(len(_NUMBERS)))] % 256**size
    order = "little" if random.random() < 0.5 else "big"
    found[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]


def _set_text(found: bytearray, at: int, _: Any, random: np.random.Generator) -> None:
    """Another number or word in the place of the next digits."""
    start = next((k for k in range(at, len(found)) if 48 <= found[k] < 58), None)
    if start is not None:
        stop = start
        while stop < len(found) and 48 <= found[stop] < 58:
            stop += 1
        found[start:stop] = _TEXTS[int(random.integers(len(_TEXTS)))]


def _cut(found: bytearray, at: int, _: Any, random: np.random.Generator) -> None:
    del found[at : at + int(random.integers(1, 65))]


def _end(found: bytearray, at: int, _: Any, random: np.random.Generator) -> None:
    if random.random() < 0.3:
        del found[at:]


def _insert(found: bytearray, at: int, _: Any, random: np.random.Generator) -> None:
    found[at:at] = random.bytes(int(random.integers(1, 17)))


def _repeat(found: bytearray, at: int, _: Any, random: np.random.Generator) -> None:
    if len(found) < MIB:
        part = found[at : at + int(random.integers(1, 65))]
        found[at:at] = part * int(random.integers(1, 40))


def _take(found: bytearray, at: int, seeds: list[bytes], random: np.random.Generator) -> None:
    other = seeds[int(random.integers(len(seeds)))]
    start, size = int(random.integers(len(other) + 1)), int(random.integers(1, 129))
    found[at : at + size] = other[start : start + size]


_CHANGES = (*(_set_byte, _flip_bit, _set_number, _set_text, _cut, _end, _insert, _repeat, _take),)


# ---- trying --------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What came of one reader: how many files, how many of them were refused, what was wrong."""

    files: int
    refused: int
    findings: list[str]


class TooLong(BaseException):
    """No answer in time; no `except Exception` may swallow it."""


def fuzz(
    name: str, reader: Reader, seconds: float, seed: int, folder: Path, most: int = 10**9
) -> Outcome:
    """Give a reader changed files for some time.

    Args:
        name: of the reader, for the names of kept files.
        reader: it.
        seconds: how long.
        seed: of the changes.
        folder: an empty one; files of findings stay in its sub-folder `findings`.
        most: how many files at most.
    """
    random = np.random.default_rng(seed)
    seeds = reader.seeds()
    outcome = Outcome(0, 0, [])
    path, inner = folder / f"{name}{reader.suffix}", folder / "deep" / "inside"
    kept = folder / "findings"
    kept.mkdir(exist_ok=True)
    inner.mkdir(parents=True, exist_ok=True)
    there = sorted({*os.listdir(folder), path.name})
    end = time.monotonic() + seconds
    while time.monotonic() < end and outcome.files < most:
        source = seeds[int(random.integers(len(seeds)))]
        content = source if outcome.files < len(seeds) else changed(source, seeds, random)
        content = reader.wrap(content)
        path.write_bytes(content)
        outcome.files += 1
        wrong, refused = tried(reader, path, inner, len(content))
        outcome.refused += refused
        outside = sorted(os.listdir(folder)) != there or os.listdir(folder / "deep") != ["inside"]
        if outside or Path("/tmp/striate-escaped").exists():
            wrong = f"a file outside: {sorted(os.listdir(folder))}"
        if wrong:
            keep = kept / f"{name}-{len(outcome.findings)}{reader.suffix}"
            keep.write_bytes(content)
            outcome.findings.append(f"{wrong} ({keep.name})")
            if len(outcome.findings) >= 20:
                break
        shutil.rmtree(inner)
        inner.mkdir()
    return outcome


def tried(reader: Reader, path: Path, folder: Path, size: int) -> tuple[str, bool]:
    """What is wrong with how a file was read, or ""; and whether it was refused."""
    before = start_of_memory()
    try:
        with limited(SECONDS):
            reader.read(path, folder)
    except StriateError as error:
        text = str(error)
        if "\n" in text or not text.strip() or len(text) > 2000:
            return f"no sentence: {text[:300]!r}", True
        return memory_wrong(reader, before, size), True
    except TooLong:
        return f"no answer within {SECONDS} s", False
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:200]}", False
    return memory_wrong(reader, before, size), False


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """A limit of time, on systems with alarms and in the main thread."""

    def stop(*_: Any) -> None:
        raise TooLong

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def start_of_memory() -> int:
    """The memory in use, from where the peak is counted anew; 0 where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return status("VmRSS")


def memory_wrong(reader: Reader, before: int, size: int) -> str:
    allowed = reader.constant + MULTIPLE * size
    taken = status("VmHWM") - before if before else 0
    return f"{taken / MIB:,.0f} MiB for {size:,} bytes" if taken > allowed else ""


def status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


# ---- processes -----------------------------------------------------------------------------------


def child(name: str, seconds: float, seed: int, folder: Path) -> None:
    """One reader in this process, which it may end; the outcome goes to stdout as JSON."""
    warnings.simplefilter("ignore")
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    outcome = fuzz(name, READERS[name], seconds, seed, folder)
    sys.stdout.write(json.dumps(outcome.__dict__) + "\n")


def run_child(name: str, seconds: float, seed: int, keep: Path) -> tuple[str, bool]:
    """A line on one reader, and whether it did all right."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "a", "b")
        folder.mkdir(parents=True)
        words = ["--child", name, "--minutes", str(seconds / 60), "--seed", str(seed)]
        environment = {**os.environ, "STRIATE_BACKEND": "reference"}
        done = subprocess.run(
            [sys.executable, __file__, *words, "--keep", str(folder)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        findings = folder / "findings"
        if done.returncode:
            missing = "ModuleNotFoundError" in done.stderr or "pip install" in done.stderr
            if missing:
                return f"{name}: left out, {done.stderr.strip().splitlines()[-1]}", True
            keep.mkdir(parents=True, exist_ok=True)
            for last in folder.glob(f"{name}.*"):
                shutil.copy(last, keep / f"{name}-crash{last.suffix}")
            why = (done.stderr.strip().splitlines() or ["no word"])[-1]
            return f"{name}: CRASH, exit code {done.returncode}: {why}", False
        outcome = Outcome(**json.loads(done.stdout.splitlines()[-1]))
        if outcome.findings:
            shutil.copytree(findings, keep, dirs_exist_ok=True)
        lines = [f"{name}: {outcome.files:,} files, {outcome.refused:,} refused, "]
        lines[0] += f"{len(outcome.findings)} findings"
        return "\n    ".join(lines + outcome.findings), not outcome.findings


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="for all readers together")
    parser.add_argument("--reader", action="append", choices=sorted(READERS), help="only this one")
    parser.add_argument("--seed", type=int, default=0, help="of the changes")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="a folder")
    parser.add_argument("--child", choices=sorted(READERS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.minutes * 60, given.seed, given.keep)
        return 0
    names = given.reader or list(READERS)
    good = True
    for name in names:
        line, well = run_child(name, given.minutes * 60 / len(names), given.seed, given.keep)
        print(line, flush=True)
        good = good and well
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
