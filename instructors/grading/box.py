"""Run a command in a box: limits of time, memory, processes and file size, always.

Where bubblewrap is installed, the command also has no network, sees of the disk only Python, and
none of the processes outside; all that it started ends with it. Without bubblewrap it can talk to
the network, and can read what the user who grades can read: `isolation()` says which. Root does not
grade without bubblewrap.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

MEGABYTE = 1024**2
MOST_FILES, MOST_FOLDERS_DEEP = 5000, 50


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Attributes
    ----------
    seconds
        Of wall time, for all of it.
    seconds_a_cell
        For one cell, or for one question to a function.
    memory
        In bytes, of all its processes together.
    file
        In bytes, of one file that it writes.
    processes
        How many processes and threads.
    """

    seconds: float = 90.0
    seconds_a_cell: float = 15.0
    memory: int = 3072 * MEGABYTE
    file: int = 32 * MEGABYTE
    processes: int = 64


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and the limit that it ran into, if any."""

    status: int | None
    limit: str = ""
    too_slow: bool = False


def isolation() -> str:
    """In one sentence, what a submission cannot do on this machine.

    Raises
    ------
    PermissionError
        If root grades, and bubblewrap is not there.
    """
    if _bubblewrap():
        return (
            "bubblewrap: no network, no sight of other processes, of other submissions or of the "
            "solutions; limits of time, memory, processes and file size"
        )
    if os.getuid() == 0:
        raise PermissionError(
            "a stranger's code would run as root: install bubblewrap, or grade as another user"
        )
    return (
        "limits only (time, memory, processes, file size): bubblewrap is not installed or not "
        "allowed here, so that a submission can use the network, and read and write what you can"
    )


@contextlib.contextmanager
def box(limits: Limits) -> Iterator[Box]:
    """A folder and, where root grades, a user of its own for one submission."""
    folder = tempfile.mkdtemp(prefix="submission-")
    try:
        yield Box(Path(folder), limits)
    finally:
        # Not shutil: a submission may have nested folders deeper than Python recurses.
        subprocess.run(["chmod", "-R", "u+rwX", folder], capture_output=True, check=False)
        subprocess.run(["rm", "-rf", folder], capture_output=True, check=False)


class Box:
    """One boxed process, which is spoken to by lines of text."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.user = _a_user()
        (folder / "tmp").mkdir()
        for path in (folder, folder / "tmp"):
            path.chmod(0o700)
            if self.user is not None:
                os.chown(path, self.user, self.user)

    def start(self, command: list[str], package: Path) -> None:
        """Start the command; `package` is a package that it may read and import."""
        home, imported = ("/box", "/package") if _bubblewrap() else (self.folder, package.parent)
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "IPYTHONDIR": str(home),
            "TMPDIR": f"{home}/tmp",
            "PYTHONPATH": str(imported),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
            "LC_ALL": "C.UTF-8",
        }
        self._others = 0 if self.user is not None else _threads_of_this_user()
        self.process = subprocess.Popen(
            [*_wrapping(self.folder, package, self.user), *command],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=self._limit,
            text=True,
        )
        self._over = ""
        self._ends = time.monotonic() + self.limits.seconds
        self._watch = threading.Thread(target=self._watch_over, daemon=True)
        self._watch.start()

    def say(self, line: str) -> None:
        """Send a line; one who is not there any more does not hear it."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def end(self) -> Ended:
        """Wait until it ends or runs into a limit, and see to it that nothing of it is left."""
        self._watch.join()
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        too_slow = time.monotonic() > self._ends
        return Ended(self.process.returncode, self._over, too_slow)

    def read(self, name: str, most: int) -> str:
        """The text of a file that it wrote, if that is an ordinary file of a fair size."""
        try:
            handle = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return ""
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            return ""
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(file.fileno())
            if about.st_size > most:
                return ""
            return file.read().decode("utf-8", "replace")

    def _limit(self) -> None:
        limits = self.limits
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file, limits.file))
        cpu = int(limits.seconds) + 5
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        # A little below the watched limit, so that a cell gets a MemoryError before all is ended.
        data = int(0.9 * limits.memory)
        resource.setrlimit(resource.RLIMIT_DATA, (data, data))
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        # Counted for a user, who may have other processes.
        most = 2 * limits.processes + self._others
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))

    def _watch_over(self) -> None:
        ours: dict[int, psutil.Process] = {}
        try:
            self._wait_for_a_limit(ours)
        except Exception as error:  # whatever happens here, nothing runs on unwatched
            self._over = f"it could not be watched ({type(error).__name__})"
        finally:
            self._kill(ours)

    def _wait_for_a_limit(self, ours: dict[int, psutil.Process]) -> None:
        while self.process.poll() is None and not self._over:
            memory = threads = 0
            beside: dict[tuple[int, int], int] = {}
            for process in family(self.process.pid):
                ours[process.pid] = process
                try:
                    with process.oneshot():
                        memory += process.memory_info().rss
                        threads += process.num_threads()
                    for held, size in (*_nameless(process), *_shared(process)):
                        beside[held] = max(size, beside.get(held, 0))
                except psutil.Error:
                    continue
            if time.monotonic() > self._ends:
                self._over = f"it ran for more than {self.limits.seconds:g} seconds"
            elif memory + sum(beside.values()) > self.limits.memory:
                self._over = f"it used more than {self.limits.memory // MEGABYTE} MB of memory"
            elif threads > self.limits.processes:
                self._over = f"it started more than {self.limits.processes} processes or threads"
            elif _written(self.folder) > 4 * self.limits.file:
                self._over = (
                    f"it wrote more than {4 * self.limits.file // MEGABYTE} MB, or "
                    f"{MOST_FILES} files"
                )
            else:
                time.sleep(0.05)

    def _kill(self, ours: dict[int, psutil.Process]) -> None:
        """End the session, and what left it: until nothing answers any more."""
        for _ in range(200):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            ours |= {process.pid: process for process in family(self.process.pid)}
            alive = [process for process in ours.values() if _lives(process)]
            if not alive:
                break
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)
        self.process.wait()


def family(pid: int | None) -> list[psutil.Process]:
    """A process and all below it, as far as they are there."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _lives(process: psutil.Process) -> bool:
    """Whether it runs still; one that waits to be reaped does not."""
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _nameless(process: psutil.Process) -> Iterator[tuple[tuple[int, int], int]]:
    """The open files that have no name in any folder, and their bytes on disk or in memory."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{process.pid}/fd") as opened:
        for file in opened:
            with contextlib.suppress(OSError):
                if os.readlink(file.path).endswith(" (deleted)"):
                    about = os.stat(file.path)
                    yield (about.st_dev, about.st_ino), about.st_blocks * 512


def _shared(process: psutil.Process) -> Iterator[tuple[tuple[int, int], int]]:
    """The mappings that processes may share, and their bytes: those need not be resident."""
    with contextlib.suppress(OSError), open(f"/proc/{process.pid}/maps", errors="replace") as maps:
        for line in maps:
            addresses, mode, _, device, inode = line.split()[:5]
            if mode.endswith("s"):
                start, end = (int(address, 16) for address in addresses.split("-"))
                major, minor = (int(number, 16) for number in device.split(":"))
                yield (os.makedev(major, minor), int(inode)), end - start


def _threads_of_this_user() -> int:
    count = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        if process.info["uids"] and process.info["uids"].real == os.getuid():
            count += process.info["num_threads"] or 0
    return count


def _written(folder: Path) -> float:
    """Bytes of the files in a folder; infinitely many if there are too many or too deep ones.

    Files come and go while this looks, and folders may be nested without end.
    """
    size, count, waiting = 0.0, 0, [(str(folder), 0)]
    while waiting:
        path, depth = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                count += 1
                if count > MOST_FILES or depth > MOST_FOLDERS_DEEP:
                    return math.inf
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                    else:
                        size += entry.stat(follow_symlinks=False).st_size
    return size


def _above(*paths: str) -> list[str]:
    """The folders that these lie in, from the root down; bubblewrap would make them private."""
    above = {str(parent) for path in paths for parent in Path(path).parents} - {"/"}
    return sorted(above - {"/usr", "/lib", "/bin", "/tmp"})


_BOXES = itertools.count()


@cache
def _bubblewrap() -> tuple[list[str], list[str]] | None:
    """Bubblewrap in words, and what follows its mounts; None where it is not there or forbidden.

    Others than root get a namespace of users, root goes down to one user behind the mounts. In
    either case no further such namespace can be made where bubblewrap knows how (0.8): who makes
    one may mount memory as a disk.
    """
    if shutil.which("bwrap") is None:
        return None
    words = ["bwrap", "--die-with-parent", "--new-session"]
    no_more = ["--unshare-user", "--disable-userns"]
    if os.getuid() == 0:
        words += [f"--unshare-{kind}" for kind in ("pid", "net", "ipc", "uts", "cgroup-try")]
        ways = [(words, ["bwrap", *no_more, "--dev-bind", "/", "/"]), (words, [])]
    else:
        words += ["--unshare-all", "--cap-drop", "ALL"]
        ways = [([*words, *no_more], []), (words, [])]
    for outer, inner in ways:
        mounts = ["--ro-bind", "/", "/", "--proc", "/proc"]
        tried = [*outer, *mounts, *_as(_a_user()), *inner, "true"]
        if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            return outer, inner
    return None


def _a_user() -> int | None:
    """Where root grades, a user that nobody has: limits are counted for a user.

    Each process that grades has a hundred of its own.
    """
    if os.getuid() != 0:
        return None
    return 200_000 + 100 * os.getpid() + next(_BOXES) % 100


def _as(user: int | None) -> list[str]:
    if user is None:
        return []
    ids = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return [*ids, "--no-new-privs", "--bounding-set=-all"]


def _wrapping(folder: Path, package: Path, user: int | None) -> list[str]:
    """The words in front of the command: nothing without bubblewrap."""
    wrapped = _bubblewrap()
    if wrapped is None:
        return []
    words, inner = [*wrapped[0]], wrapped[1]
    # First, since Python itself may lie below /tmp.
    words += ["--bind", str(folder / "tmp"), "/tmp"]
    for path in _above(sys.prefix, sys.base_prefix, "/package/boxed", "/etc/alternatives"):
        words += ["--perms", "0755", "--dir", path]
    for path in ("/usr", "/lib", "/lib64", "/bin", "/etc/alternatives", "/etc/ld.so.cache"):
        words += ["--ro-bind-try", path, path]
    # Python, and what it was made from.
    for prefix in sorted({sys.prefix, sys.base_prefix}):
        if not prefix.startswith("/usr/"):
            words += ["--ro-bind", prefix, prefix]
    words += ["--proc", "/proc", "--dev", "/dev"]
    words += ["--ro-bind", str(package), f"/package/{package.name}"]
    # What is written counts as a file of the box: no memory disguised as a file system.
    words += ["--bind", str(folder), "/box", "--remount-ro", "/dev", "--remount-ro", "/"]
    return [*words, "--chdir", "/box", *_as(user), *inner]
