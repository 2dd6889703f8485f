import subprocess
import sys

from bitfold.bench import machine


def test_facts_name_cpu_and_isa():
    facts = machine.facts()
    assert facts["cores"] >= 1
    assert facts["isa_active"] and facts["isa_detected"]
    assert str(facts["isa_active"]) in machine.one_line(facts)


def test_missing_package_is_none(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "surely-not-a-package"))
    found = machine.versions()
    assert found["numpy"] and found["surely-not-a-package"] is None


def test_no_git_gives_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() is None


def test_git_of_another_project_gives_no_commit(monkeypatch, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    assert machine.commit() is None


def test_command_has_no_folders(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/bitfold", "bench", "a b"])
    assert machine.command() == "bitfold bench 'a b'"
