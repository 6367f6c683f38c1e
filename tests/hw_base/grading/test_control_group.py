"""Control groups; this machine may have none to give, so the files are those of a folder that looks like them."""

import os
import subprocess
from pathlib import Path

import pytest

from hw_base.grading.control_group import ControlGroup, control_group
from hw_base.grading.limits import Limits

LIMITS = Limits.parse("memory=1G,disk=1G,processes=10")


@pytest.fixture
def mount(tmp_path):
    """A folder in the place of this process's own group."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line[3:].strip() for line in lines if line.startswith("0::")), None)
    if own is None:
        pytest.skip("no control groups of version 2")
    group = tmp_path / own.lstrip("/")
    group.mkdir(parents=True, exist_ok=True)
    return tmp_path, group


def test_a_group_with_the_limits_is_made(mount):
    root, own = mount
    (own / "cgroup.controllers").write_text("cpu memory pids")
    with control_group(LIMITS, root) as group:
        assert group.folder.parent == own
        assert (group.folder / "memory.max").read_text() == str(2 << 30)
        assert (group.folder / "pids.max").read_text() == "12"
        assert (own / "cgroup.subtree_control").read_text() == "+memory +pids"
        assert (own / "grader" / "cgroup.procs").read_text() == str(os.getpid())
        assert group.hit() is None
        (group.folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
        (group.folder / "memory.peak").write_text("12345\n")
        assert (group.hit(), group.peak_memory()) == ("memory", 12345)


def test_without_controllers_there_is_none_and_nothing_is_changed(mount):
    root, own = mount
    (own / "cgroup.controllers").write_text("hugetlb")
    with control_group(LIMITS, root) as group:
        assert group is None
    assert sorted(path.name for path in own.iterdir()) == ["cgroup.controllers"]


def test_a_command_joins_before_it_starts(tmp_path):
    command = ControlGroup(tmp_path).command(["/bin/sh", "-c", "echo $$"])
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "cgroup.procs").read_text() == done.stdout
