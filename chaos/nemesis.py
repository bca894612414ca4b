"""What is done to real nodes on disks that lose unsynced writes, round for round, from one seed."""

import collections
import pathlib
import shutil
import subprocess
import time

import cluster as e2e
import lossy

FAULTS = {
    "kill": "kill -9 of one, of the leader, of all at once",
    "loss": "what wasn't synced is lost with the killed: all of it, or a random part, with torn sectors",
    "pause": "SIGSTOP, SIGCONT",
    "partition": "cables between nodes are cut: all of a node's, one pair's, one way only, a node hears nobody",
    "slow": "syncs take up to 200 ms; unsynced sectors that last all the same; short writes",
    "full": "a disk has no room, until it has again",
    "error": "a write, a sync or a rename fails: the node must end by itself, name the file, and rejoin",
    "flip": "bits of log, snapshot or raft state of one node flip while it is down, or can't be read when it starts",
    "wipe": "one node's disk is empty",
}

SETTINGS = {
    "election-timeout": 300,
    "heartbeat": 50,
    "rpc-timeout": 500,
    "api-timeout": 900,
    "api-fwd-timeout": 700,
    # The least that is possible: segments end, snapshots are made, sent and installed, and log goes all the time.
    "snapshot-log-bytes": "256KiB",
    "snapshot-state-percent": 50,
    "log-segment-bytes": "4MiB",
    "log-tail-bytes": "128KiB",
    "log-cache-bytes": "64KiB",
}

ROUND_S = 0.8
# What a sync takes on a good day. Writes are unsynced only while one is under way: without it, a kill would rarely find any.
SYNC_MS = (1, 3, 8, 20)
AIM_S = 0.3  # for a moment when there is something unsynced
ERROR_WAIT_S = 3  # for a call that is to fail to be made; there may be none


class Broken(AssertionError):
    """A node did what it must not, or didn't what it must."""


class ChaosCluster(e2e.Cluster):
    """Each node on its own disk; nodes end with this process, even if it is killed."""

    def __init__(self, size, network, seed, binary, mutant=None):
        super().__init__(size, SETTINGS, network, binary)
        try:
            for i, node in enumerate(self.nodes):
                node.disk = lossy.Disk(node.directory, seed + i, trace=True)
                node.data = node.disk.mount / "data"
                node.prefix = ["setpriv", "--pdeathsig", "KILL", *node.prefix]
                if mutant:
                    node.environment["CORACLE_MUTANT"] = mutant
        except BaseException:
            self.close()
            raise

    def close(self):
        if self.closed:
            return
        for node in self.nodes:
            node.end()
        for node in self.nodes:
            if hasattr(node, "disk"):
                node.disk.close()
        super().close()


def flippable(node):
    """Files of the node in which a bit may flip, with their sizes. Of two flips in the raft state both slots could be hit."""
    files = {}
    for path in sorted(node.data.rglob("*")):
        if path.is_file() and path.name != "lock" and path.stat().st_size > 0:
            files[path] = path.stat().st_size
    return files


class Nemesis:
    def __init__(self, cluster, network, rng, faults):
        self.cluster = cluster
        self.network = network
        self.rng = rng
        self.faults = faults
        self.done = collections.Counter()
        self.story = collections.deque(maxlen=200)  # the last things done, for people
        for node in cluster.nodes:
            node.sync_ms = rng.choice(SYNC_MS)
            node.disk.command("slow", node.sync_ms)

    def tell(self, text):
        self.story.append(f"{time.monotonic():.6f} {text}")

    def count(self, what, text=""):
        self.done[what] += 1
        self.tell(f"{what} {text}")

    def may(self, fault, chance=1.0):
        # The number is drawn even when the fault is off, so that leaving one out changes the others little.
        return self.rng.random() < chance and fault in self.faults

    # ---- processes ----

    def start_all(self):
        down = [node for node in self.cluster.nodes if not node.running()]
        self.rng.shuffle(down)
        for node in down:
            node.assert_alive()
            node.start()
            self.tell(f"start {node.name}")
            time.sleep(self.rng.choice((0, 0, 0.05, 0.2)))

    def aim(self, node):
        """At a moment when the node's power could take something: mostly, a sync is under way."""
        wanted = 0 if self.rng.random() < 0.7 else 1  # sectors, or names
        deadline = time.monotonic() + AIM_S
        while node.running() and not node.paused and time.monotonic() < deadline:
            if node.disk.pending()[wanted] > 0:
                return

    def kill(self, nodes, what):
        """With the power, or without. A loss of power ends the process first: what it says afterwards would be no one's."""
        loss = self.rng.choice(("all", "random")) if self.may("loss", 0.75) else None
        if loss and self.rng.random() < 0.7:
            self.aim(self.rng.choice(nodes))
        for node in nodes:
            node.assert_alive()
            node.told_to_end = True
            node.process.kill()
        if loss:
            for node in nodes:
                node.disk.command("cut")
        for node in nodes:
            node.wait()
            node.paused = False
        names = " ".join(node.name for node in nodes)
        self.count(what, names)
        self.done["kills"] += len(nodes)
        if loss:
            for node in nodes:
                seed = self.rng.randrange(1 << 32)
                answer = node.disk.drop(seed if loss == "random" else None)
                self.tell(f"  {node.name}: {answer}")
            self.count(f"{what}, unsynced writes lost" if loss == "all" else f"{what}, a random part of them kept")

    def running(self):
        return [node for node in self.cluster.nodes if node.running()]

    def kill_all(self):
        running = self.running()
        if running:
            self.kill(running, "all killed")

    def kill_one(self):
        running = self.running()
        if not running:
            return
        node, what = self.rng.choice(running), "one killed"
        if self.rng.random() < 0.5:
            leader = self.cluster.leader()
            if leader is not None:
                node, what = leader, "leader killed"
        self.kill([node], what)

    def pause(self):
        running = [node for node in self.running() if not node.paused]
        if running:
            node = self.rng.choice(running)
            node.pause()
            self.count("paused", node.name)

    def resume(self):
        for node in self.cluster.nodes:
            if node.paused:
                self.tell(f"resume {node.name}")
                node.resume()

    # ---- cables ----

    def partition(self):
        size = len(self.cluster.nodes)
        if size < 2:
            return
        a, b = self.rng.sample(range(size), 2)
        kind = self.rng.choice(("unplugged", "unplugged", "pair cut", "one way cut", "deaf", "halved"))
        if kind == "unplugged":
            self.network.unplug(a)
        elif kind == "pair cut":
            self.network.cut(a, b)
            self.network.cut(b, a)
        elif kind == "one way cut":
            self.network.cut(a, b)
        elif kind == "deaf":
            for other in range(size):
                if other != a:
                    self.network.cut(other, a)
        else:
            side = set(self.rng.sample(range(size), size // 2))
            for i in side:
                for j in set(range(size)) - side:
                    self.network.cut(i, j)
                    self.network.cut(j, i)
        self.count(kind, f"node-{a + 1} node-{b + 1}")

    # ---- disks ----

    def disk_weather(self):
        """What a disk may do without being broken."""
        node = self.rng.choice(self.cluster.nodes)
        kind = self.rng.choice(("slow syncs", "early write-back", "short writes"))
        if kind == "slow syncs":
            node.disk.command("slow", self.rng.choice((20, 60, 200)))
        elif kind == "early write-back":
            node.disk.command("writeback", self.rng.choice((50, 300)))
        else:
            node.disk.command("fail", "short", self.rng.randint(1, 20))
        self.count(kind, node.name)

    def fill(self):
        """Of one node, or of all: there is room for a little more, or for nothing."""
        nodes = self.cluster.nodes if self.rng.random() < 0.3 else [self.rng.choice(self.cluster.nodes)]
        for node in nodes:
            room = self.rng.choice((0, 100_000, 2_000_000))
            node.disk.command("limit", max(1, node.disk.used_bytes() + room))
        self.count("disk full" if len(nodes) == 1 else "all disks full", " ".join(node.name for node in nodes))

    def break_disk(self):
        """A call fails. If it is made, the node must end by itself, and say which file."""
        running = [node for node in self.running() if not node.paused]
        if not running:
            return
        node = self.rng.choice(running)
        call = self.rng.choice(("sync", "sync", "sync", "write", "syncdir", "name"))
        part = self.rng.choice(("", "/log/", "/snapshot/", "/state"))
        before, log_bytes = node.disk.stats()[f"failed_{call}"], len(node.log())
        node.assert_alive()
        node.told_to_end = True
        node.disk.command("fail", call, 1, *([part] if part else []))
        self.tell(f"{call} of {node.name}{part} shall fail")
        deadline = time.monotonic() + ERROR_WAIT_S
        while node.running() and time.monotonic() < deadline:
            time.sleep(0.01)
        if node.disk.stats()[f"failed_{call}"] == before:
            node.disk.command("fail", call, 0)
            if node.disk.stats()[f"failed_{call}"] == before:
                node.told_to_end = False
                node.assert_alive()
                self.done["errors nobody met"] += 1
                return
        self.count(f"failed {call}", f"{node.name}{part}")
        self.assert_ended_over_error(node, call, log_bytes)
        if self.may("loss", 0.5):
            node.disk.drop()

    def assert_ended_over_error(self, node, call, log_bytes):
        try:
            code = node.wait()
        except subprocess.TimeoutExpired:
            raise Broken(f"{node.name} goes on after a failed {call}\n{node.tail()}") from None
        said = node.log().encode()[log_bytes:].decode(errors="replace")
        if code != 1:
            raise e2e.EndedByItself(f"{node.name} ended with exit code {code}, not 1, after a failed {call}\n{node.tail()}")
        if "Input/output error" not in said or str(node.disk.mount) not in said:
            raise Broken(f"{node.name} doesn't say which file's {call} failed\n{node.tail()}")

    def heal(self):
        self.tell("heal")
        if self.network is not None:
            self.network.heal()
        for node in self.cluster.nodes:
            for command in (("heal",), ("slow", node.sync_ms), ("writeback", 0), ("limit", 0)):
                node.disk.command(*command)

    # ---- one at a time, while the others are well: the last good copy must not go ----

    def wait_until_certain(self):
        for node in self.cluster.nodes:
            e2e.wait_until(
                lambda: node.assert_alive() or ((status := node.cluster()) and not status["uncertain"]), f"{node.name} is certain"
            )

    def flip_bits(self):
        self.wait_until_certain()
        node = self.rng.choice(self.cluster.nodes)
        self.kill([node], "killed for bit flips")
        files = flippable(node)
        if not files:
            return
        # Most interesting is the log, and there what is in use: a file's beginning. Of the raft state one bit only.
        chosen = [self.rng.choice(sorted(files)) for _ in range(self.rng.choice((1, 1, 3)))]
        for path in chosen:
            if path.name == "state" and chosen.count(path) > 1:
                continue
            end = self.rng.choice((files[path], min(files[path], 256 * 1024), min(files[path], 8192)))
            offset, bit = self.rng.randrange(end), self.rng.randrange(8)
            node.disk.command("flip", f"/{path.relative_to(node.disk.mount)}", offset, bit)
            self.count("bits flipped", f"{node.name}/{path.relative_to(node.disk.mount)} byte {offset} bit {bit}")
        node.start()
        self.wait_until_certain()

    def hide_sectors(self):
        """Some reads of a node that starts fail: what it can't read it must take for damaged."""
        self.wait_until_certain()
        node = self.rng.choice(self.cluster.nodes)
        self.kill([node], "killed for unreadable files")
        part, count = self.rng.choice(("", "/log/", "/snapshot/", "/state")), self.rng.choice((1, 1, 5))
        node.disk.command("fail", "read", count, *([part] if part else []))
        self.count("unreadable at the start", f"{node.name}{part} {count} times")
        node.start()
        self.wait_until_certain()
        node.disk.command("heal")

    def wipe(self):
        self.wait_until_certain()
        node = self.rng.choice(self.cluster.nodes)
        self.kill([node], "killed for wiping")
        shutil.rmtree(node.data)
        node.disk.command("sync")
        self.count("wiped", node.name)
        node.start()
        self.wait_until_certain()

    # ---- rounds ----

    def calm(self):
        """All is well again: now the cluster must serve through every node."""
        self.heal()
        self.resume()
        self.start_all()
        self.cluster.wait_until_writable()

    def careful_fault(self):
        """Expects calm, and leaves calm."""
        size = len(self.cluster.nodes)
        acts = {"flip": (self.flip_bits, self.flip_bits, self.hide_sectors), "wipe": (self.wipe,)}
        acts = [act for fault in acts if fault in self.faults and size > 1 for act in acts[fault]]
        if acts:
            self.rng.choice(acts)()
            self.cluster.wait_until_writable()

    def round(self, number, linger):
        """`linger` returns when clients got enough done, or a while has passed."""
        self.tell(f"round {number}")
        for node in self.cluster.nodes:
            node.assert_alive()
        if self.rng.random() < 0.5:
            self.heal()
            self.resume()
        if self.may("partition", 0.3) and self.network is not None:
            self.partition()
        if self.may("pause", 0.15):
            self.pause()
        if self.may("slow", 0.25):
            self.disk_weather()
        if self.may("full", 0.1):
            self.fill()
        time.sleep(self.rng.random() * 0.4)
        if self.may("error", 0.2):
            self.break_disk()
        elif "kill" in self.faults:
            (self.kill_all if number % 3 == 0 else self.kill_one)()
        if self.rng.random() < 0.3:
            time.sleep(self.rng.random() * 0.4)  # fewer nodes, or none, for a while
        if number % 3 == 0 or self.rng.random() < 0.8:
            self.start_all()
        linger()


def disk_totals(cluster):
    total = collections.Counter()
    for node in cluster.nodes:
        total.update(node.disk.stats())
    return dict(total)


def log_counts(cluster):
    """How often the nodes' logs say so."""
    marks = {
        "snapshots made": "made a snapshot",
        "snapshots installed": "installed a leader's snapshot",
    }
    text = "\n".join(node.log() for node in cluster.nodes)
    return {name: text.count(mark) for name, mark in marks.items()}


def copy_evidence(cluster, target):
    """Logs, traces and what is durable, to where they outlive the run."""
    target = pathlib.Path(target)
    for node in cluster.nodes:
        place = target / node.name
        place.mkdir(parents=True, exist_ok=True)
        for path in node.directory.iterdir():
            if path.is_file():
                shutil.copy2(path, place / path.name)
        if (node.disk.backing / "durable").exists():
            shutil.copytree(node.disk.backing / "durable", place / "durable", dirs_exist_ok=True)
