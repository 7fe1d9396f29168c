"""A figure of another system comes from that system, or there is none."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import others, report
from benchmarks.bare_clients import HOST
from tools import bench

ETCD_LEADER = (
    b'{"header":{"cluster_id":"7","member_id":"42","revision":"1"},"version":"3.4.23","dbSize":"20480","leader":"42"}'
)
ZOOKEEPER = """Zookeeper version: 3.8.0-${mvngit.commit.id}, built on 2024-06-16 19:20 UTC
Latency min/avg/max: 0/0.0/0
Received: 1
Zxid: 0x0
Mode: leader
Node count: 5
"""
ETCD, ZOOKEEPER_SYSTEM = others.SYSTEMS


@pytest.mark.parametrize("system", others.SYSTEMS, ids=lambda system: system.name)
def test_what_is_not_installed_is_skipped_with_no_figure_and_nothing_is_started(system, monkeypatch, tmp_path, capsys):
    def commands(directory, ports):
        raise AssertionError("started")

    absent = replace(system, found=lambda: False, commands=commands)
    monkeypatch.setattr(others, "SYSTEMS", (absent,))
    options = bench.parse(["--beside", "--data", str(tmp_path)])
    (result,) = bench.measure_beside(options, ["W1", "W4", "W6"], ["tasks", "sessions"])
    assert f"SKIPPED: needs {system.needs}" in capsys.readouterr().err
    cells = [cell.strip() for cell in report.table([result]).splitlines()[-1].split("|")]
    assert cells == ["", f"W4, W6, {system.name}", *[""] * 7, f"SKIPPED: needs {system.needs}", ""]
    assert not list(tmp_path.iterdir())


def test_only_what_was_chosen_is_said_to_be_skipped(monkeypatch, tmp_path):
    monkeypatch.setattr(others, "SYSTEMS", (replace(ETCD, found=lambda: False),))
    options = bench.parse(["W6", "--beside", "--data", str(tmp_path)])
    assert bench.measure_beside(options, ["W6"], ["tasks"])[0].name == "W6, etcd"


def test_zookeeper_is_found_by_its_home_or_as_debians_package(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(others, "DEBIANS_ZOOKEEPER", tmp_path / "zookeeper.jar")
    monkeypatch.delenv("ZOOKEEPER_HOME", raising=False)
    assert not ZOOKEEPER_SYSTEM.found()
    monkeypatch.setenv("ZOOKEEPER_HOME", "/opt/zookeeper")
    assert ZOOKEEPER_SYSTEM.found()
    monkeypatch.delenv("ZOOKEEPER_HOME")
    (tmp_path / "zookeeper.jar").touch()
    assert ZOOKEEPER_SYSTEM.found()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not ZOOKEEPER_SYSTEM.found() and not ETCD.found()


def test_etcds_own_word_says_who_leads():
    assert others.etcd_state(ETCD_LEADER) == others.State(True, "3.4.23")
    assert others.etcd_state(ETCD_LEADER.replace(b'"leader":"42"', b'"leader":"43"')) == others.State(False, "3.4.23")
    assert others.etcd_state(ETCD_LEADER.replace(b',"leader":"42"', b"")) is None


def test_zookeepers_own_word_says_who_leads():
    assert others.zookeeper_state(ZOOKEEPER) == others.State(True, "3.8.0")
    assert others.zookeeper_state(ZOOKEEPER.replace("leader", "follower")) == others.State(False, "3.8.0")
    assert others.zookeeper_state(ZOOKEEPER.replace("Mode: leader\n", "")) is None
    assert others.zookeeper_state("This ZooKeeper instance is not currently serving requests\n") is None


@pytest.mark.parametrize("system", others.SYSTEMS, ids=lambda system: system.name)
def test_the_nodes_listen_on_loopback_only_and_keep_fsync(system, tmp_path: Path):
    said = " ".join(
        word for command in system.commands(tmp_path, [(1, 2, 3), (4, 5, 6), (7, 8, 9)]) for word in command
    )
    said += " ".join(path.read_text() for path in sorted(tmp_path.glob("*.cfg")))
    assert "0.0.0.0" not in said and said.count(HOST) >= 12
    assert "unsafe-no-fsync" not in said and "forceSync" not in said


def test_beside_is_for_the_work_that_the_others_can_do():
    assert bench.parse(["W4", "W7", "--beside"]).beside
    assert bench.parse(["--beside"]).beside
    with pytest.raises(SystemExit):
        bench.parse(["W7", "--beside"])
