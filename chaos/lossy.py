"""Disks that lose what wasn't synced: one lossyfs process each, mounted, commanded, and always unmounted.

CORACLE_LOSSYFS   the program (build/chaos/chaos/lossyfs); lossyfs.c says what it models, lossy_disk.h what it obeys
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "test/e2e"))
import cluster as e2e  # noqa: E402

LOSSYFS = os.environ.get("CORACLE_LOSSYFS", str(e2e.REPOSITORY / "build/chaos/chaos/lossyfs"))


class DiskFailed(Exception):
    """lossyfs itself is gone or refuses: nothing that the nodes did."""


def why_not():
    """What keeps lossyfs from running here; or None."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if os.geteuid() != 0:
        return "mounting needs root"
    if not os.access(LOSSYFS, os.X_OK):
        return f"there is no {LOSSYFS}: ./dev chaos builds it"
    directory = pathlib.Path(e2e.tempfile.mkdtemp(prefix="coracle-lossy-"))
    try:
        with Disk(directory):
            return None
    except DiskFailed as error:
        return f"lossyfs can't mount here: {error}"
    finally:
        e2e.shutil.rmtree(directory, ignore_errors=True)


def remove_stale_mounts(prefix):
    """Mounts below paths that begin so, of which nobody serves any more. (lossyfs removes the one at its own place.)"""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind != "fuse.lossyfs" or not place.startswith(prefix):
            continue
        try:
            os.stat(place)
        except OSError:
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


class Disk:
    """One disk, mounted at `mount`; what a loss of power would leave is below `backing`/durable. A context manager."""

    def __init__(self, directory, seed=1, trace=False):
        self.directory = pathlib.Path(directory)
        self.backing = self.directory / "backing"
        self.mount = self.directory / "disk"
        self.control = self.directory / "control"
        self.trace = self.directory / "disk.trace" if trace else None
        self.seed = seed
        self.log = self.directory / "lossyfs.log"
        self.process = self.connection = None
        self.mount.mkdir(parents=True, exist_ok=True)
        e2e._everything.append(self)
        self.start()

    def start(self):
        command = [LOSSYFS, f"--control={self.control}", f"--seed={self.seed}"]
        if self.trace:
            command.append(f"--trace={self.trace}")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, self.backing, self.mount],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for whoever started us, who then unmounts in order
            )
        if self.process.stdout.readline() != b"ready\n":
            self.process.wait()
            text = self.log.read_text(errors="replace").strip()
            self.close()
            raise DiskFailed(text or "it ended")
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.connection.connect(str(self.control))
        self.answers = self.connection.makefile("r")

    def command(self, *words):
        """What comes after `ok`."""
        try:
            self.connection.sendall((" ".join(map(str, words)) + "\n").encode())
            answer = self.answers.readline().strip()
        except OSError as error:
            raise DiskFailed(f"{self.mount}: {error}") from error
        status, _, rest = answer.partition(" ")
        if status != "ok":
            raise DiskFailed(f"{self.mount}: {' '.join(map(str, words))}: {rest or self.log.read_text(errors='replace')}")
        return rest

    def drop(self, seed=None):
        return self.command("drop", *([] if seed is None else [seed]))

    def stats(self):
        return json.loads(self.command("stats"))

    def pending(self):
        """Sectors, and changes of directories, that a loss of power could take now."""
        return tuple(map(int, self.command("pending").split()))

    def used_bytes(self):
        status = os.statvfs(self.mount)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def kill(self):
        """The file system dies, and leaves its mount behind."""
        self._disconnect()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def _disconnect(self):
        if self.connection is not None:
            self.answers.close()
            self.connection.close()
            self.connection = None

    def close(self):
        if self not in e2e._everything:
            return
        e2e._everything.remove(self)
        self._disconnect()
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        if os.path.ismount(self.mount) or not os.access(self.mount, os.F_OK):
            subprocess.run(["umount", "-l", self.mount], check=False, capture_output=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
