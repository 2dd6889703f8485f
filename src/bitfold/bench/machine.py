"""What must stand beside every number: the machine, the versions, the commit, the date and the command."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("bitfold", "numpy", "torch", "onnx", "onnxruntime", "openvino", "nncf")


def facts() -> dict[str, object]:
    """CPU model, cores, ISA found and used, governor, memory (GB), OS, load (running programs, mean of the last minute) at this moment.
    What cannot be read is None."""
    detected, active = _isa()
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa_detected": detected,
        "isa_active": active,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_gb": _memory_gb(),
        "os": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that take part in a comparison; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def commit() -> str | None:
    """The commit of the source tree this package runs from, with "+" if tracked files differ; None outside a checkout."""
    here = Path(__file__).resolve().parent
    head = _git(here, "rev-parse", "--short=12", "HEAD")
    if not head or not _git(here, "ls-files", Path(__file__).name):
        return None  # no repository, or this package is a guest in someone else's
    return head + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def command() -> str:
    """This process's command line, without the folders of the interpreter and the script."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def one_line(machine: dict[str, object]) -> str:
    """For the head of a table."""
    cpu = f"{machine['cpu']}, {machine['cores']} cores, {machine['isa_active']} (of {machine['isa_detected']})"
    return f"{cpu}, {machine['os']}, load {machine['load']}"


def _isa() -> tuple[str | None, str | None]:
    from bitfold import _core

    return str(_core.detected_isa()), str(_core.active_isa())


def _cpu_model() -> str | None:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError):
        return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _git(folder: Path, *args: str) -> str | None:
    """Output of a git command; None if there is no git or it fails."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
