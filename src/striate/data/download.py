"""Fetching the files of a published data set from its mirrors, with a progress bar.

A file is kept only once it is whole and its digest is right, so that an interrupted download
goes on with the files that are missing. What the files mean is not known here.
"""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from striate.data.idx import unpack_idx
from striate.data.published import PublishedFile, PublishedSet
from striate.errors import DataError
from striate.files import make_folder, write_atomically

TIMEOUT = 15  # seconds without an answer after which the next mirror is tried
_PIECE = 1 << 16
_SLACK = 1 << 16  # bytes that a packed file may be larger than the unpacked one


def download(
    published: PublishedSet, files: Sequence[PublishedFile], folder: Path, *, progress: bool
) -> dict[str, Path]:
    """Fetch `files` of `published` into `folder`.

    Args:
        published: the data set, with its mirrors.
        files: those of its files that are wanted.
        folder: where they are written, one by one, each only when it is whole and right.
        progress: show a progress bar on the error stream.
    Returns:
        The path of each file, by its name in `files`.
    Raises:
        DataError: no mirror gave a file; the message holds each mirror's reason.
        FileError: the folder cannot be written.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    paths = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not progress) as bar:
        for file in files:
            content = _from_mirrors(published, file, bar)
            packed = content.startswith(b"\x1f\x8b")
            path = make_folder(folder) / (file.name + ".gz" * packed)
            write_atomically(path, content)
            paths[file.name] = path
    return paths


def check_digest(where: str, content: bytes, expected: str) -> None:
    """Compare the SHA-256 digest of an unpacked file with the published one.

    Raises:
        DataError: they differ.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{where}: expected the published content, SHA-256 {expected}; got {found}. "
            "Remove the file and fetch it again."
        )


def _from_mirrors(published: PublishedSet, file: PublishedFile, bar: Any) -> bytes:
    reasons = []
    task = bar.add_task(f"{published.name}/{file.name}", total=None)
    for mirror in published.mirrors:
        url = f"{mirror}{file.name}.gz"
        try:
            content = _fetch(url, file.size + _SLACK, bar, task)
            check_digest(url, unpack_idx(url, content), file.digest)
        except (OSError, HTTPException, ValueError) as error:
            reasons.append(f"{url}: {getattr(error, 'reason', None) or error or type(error)}")
        except DataError as error:
            reasons.append(str(error))
        else:
            return content
    raise DataError("; ".join(reasons))


def _fetch(url: str, limit: int, bar: Any, task: Any) -> bytes:
    """The body behind `url`, of at most `limit` bytes."""
    request = urllib.request.Request(url, headers={"User-Agent": "striate"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        bar.reset(task, total=total)
        pieces: list[bytes] = []
        size = 0
        while piece := response.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            bar.update(task, completed=size)
            if size > limit:
                raise DataError(f"{url}: expected at most {limit:,} bytes; got more.")
    if total is not None and size != total:
        raise DataError(f"{url}: expected {total:,} bytes; got {size:,}: the connection broke.")
    return b"".join(pieces)
