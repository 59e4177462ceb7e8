"""Threads, quotas of control groups, the seed, folders."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from striate import settings
from striate.errors import OptionError


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    monkeypatch.setattr(settings._Threads, "chosen", None)
    for name in ("STRIATE_NUM_THREADS", "STRIATE_CACHE", "STRIATE_TARGET", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_threads_by_call_by_variable_and_by_machine(monkeypatch):
    assert settings.get_num_threads() == settings.available_cores() >= 1
    monkeypatch.setenv("STRIATE_NUM_THREADS", " 3 ")
    assert settings.get_num_threads() == 3
    settings.set_num_threads(5)
    assert settings.get_num_threads() == 5


@pytest.mark.parametrize("bad", [0, -1, 2.5, "two", None, True, 5000])
def test_bad_thread_numbers(bad, monkeypatch):
    with pytest.raises(OptionError, match="set_num_threads: expected a number of threads from 1"):
        settings.set_num_threads(bad)
    monkeypatch.setenv("STRIATE_NUM_THREADS", str(bad))
    with pytest.raises(OptionError, match="STRIATE_NUM_THREADS: expected a number of threads"):
        settings.get_num_threads()


def group(tmp_path: Path, membership: str, files: dict[str, str]) -> float | None:
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "cgroup").write_text(membership)
    return settings.cgroup_quota(tmp_path / "fs", tmp_path / "cgroup")


def test_quota_of_control_groups_version_2(tmp_path):
    files = {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n"}
    assert group(tmp_path, "0::/a/b\n", files) == 1.5


def test_quota_of_control_groups_version_1(tmp_path):
    files = {"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}
    files |= {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}
    assert group(tmp_path, "4:cpu,cpuacct:/x\n3:memory:/y\n", files) == 3


@pytest.mark.parametrize("text", ["", "max 100000", "junk", "1 2 3", "0 0", "-5 100"])
def test_no_quota(tmp_path, text):
    assert group(tmp_path, "0::/\n", {"cpu.max": text}) is None
    assert settings.cgroup_quota(tmp_path / "none", tmp_path / "none") is None


def test_a_quota_limits_the_cores(monkeypatch):
    monkeypatch.setattr(settings, "cgroup_quota", lambda: 1.9)
    assert settings.available_cores() == 1
    monkeypatch.setattr(settings, "cgroup_quota", lambda: 0.2)
    assert settings.available_cores() == 1


def test_seed():
    settings.manual_seed(3)
    first = [settings.next_generator().random() for _ in range(3)]
    settings.manual_seed(3)
    assert [settings.next_generator().random() for _ in range(3)] == first
    assert len(set(first)) == 3
    settings.manual_seed(2**64 - 1)
    assert settings.next_generator().random() not in first
    settings.manual_seed(0)


@pytest.mark.parametrize("bad", [-1, 2**64, 1.5, "1", None, True])
def test_bad_seeds(bad):
    with pytest.raises(OptionError, match="manual_seed: expected a whole number from 0"):
        settings.manual_seed(bad)


def test_cache_folder(monkeypatch, tmp_path):
    assert settings.cache_folder().is_absolute()
    monkeypatch.setattr(settings.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert settings.cache_folder() == Path("/x/striate")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert settings.cache_folder() == Path.home() / ".cache" / "striate"
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path))
    assert settings.cache_folder() == tmp_path


def test_target(monkeypatch):
    assert settings.target_name() is None
    monkeypatch.setenv("STRIATE_TARGET", "x86-64-v3")
    assert settings.target_name() == "x86-64-v3"


def test_within_is_of_its_thread_and_its_block_alone() -> None:
    settings.manual_seed(5)
    first, second = (settings.next_generator().random() for _ in range(2))
    settings.manual_seed(5)
    found: list[int] = []
    before = settings.get_num_threads()
    with settings.within(threads=before + 3, seed=5):
        assert settings.next_generator().random() == first
        other = threading.Thread(target=lambda: found.append(settings.get_num_threads()))
        other.start()
        other.join()
        with settings.within(seed=5):
            assert settings.next_generator().random() == first
        assert settings.get_num_threads() == before + 3
        assert settings.next_generator().random() == second
    assert found == [before] and settings.get_num_threads() == before
    assert settings.next_generator().random() == first
    with (
        pytest.raises(OptionError, match="within: expected a whole number"),
        settings.within(seed=-1),
    ):
        pass
    with pytest.raises(OptionError, match="within: expected a number"), settings.within(threads=0):
        pass
