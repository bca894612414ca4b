"""A million keys, overwritten ten times over: memory and disk stay bounded, because snapshots, compaction and the removal of old log
run meanwhile; and a follower that was away for longer than the log reaches back catches up from a snapshot while writes go on.

CORACLE_TEST_KEYS changes the number of keys.
"""

import json
import os
import pathlib
import subprocess
import threading
import time

import cluster as e2e

KEYS = int(os.environ.get("CORACLE_TEST_KEYS", 30_000 if e2e.QUICK or e2e.SANITIZED else 1_000_000))
OVERWRITES = 10
KEY_BYTES, VALUE_BYTES = 16, 64
MIB = 1024 * 1024
# In proportion to the state, as by default with the default's larger state.
LOG_MIB = max(1, KEYS * (KEY_BYTES + VALUE_BYTES) // (2 * MIB))
SETTINGS = {
    "election-timeout": 2000,
    "heartbeat": 200,
    "snapshot-log-bytes": f"{LOG_MIB}MiB",
    "log-tail-bytes": f"{LOG_MIB}MiB",
    "log-segment-bytes": f"{max(4, LOG_MIB // 2)}MiB",
}
# A key's cost beside its own bytes, and what a node needs besides its keys: history, log and snapshot buffers, connections.
KEY_OVERHEAD_BYTES = 100
STATE_BYTES_MAX = KEYS * (KEY_BYTES + VALUE_BYTES + KEY_OVERHEAD_BYTES)
RESIDENT_BYTES_MAX = STATE_BYTES_MAX + 160 * MIB


def bytes_in(directory):
    """Allocated on the disk by what is in a directory."""
    total = 0
    for path in pathlib.Path(directory).rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            pass  # removed meanwhile
    return total


class Watch(threading.Thread):
    """The most that each node ever had of memory and of log on the disk."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes = nodes
        self.resident = {node.name: 0 for node in nodes}
        self.log = {node.name: 0 for node in nodes}
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.wait(0.25):
            for node in self.nodes:
                try:
                    self.resident[node.name] = max(self.resident[node.name], node.resident_bytes())
                except (OSError, AssertionError):
                    pass  # it is down
                self.log[node.name] = max(self.log[node.name], bytes_in(node.data / "log"))


class SnapshotTest(e2e.TestCase):
    def test_a_million_keys_ten_times_over(self):
        began = time.monotonic()
        cluster = self.cluster(3, SETTINGS).start()
        cluster.wait_until_writable()
        leader = cluster.wait_for_leader()
        follower, other = cluster.followers()
        watch = Watch(cluster.nodes)
        watch.start()
        self.addCleanup(watch.stopping.set)

        load = subprocess.Popen(
            [e2e.BINARY, "bench", "--quiet", "--json", f"--endpoints={leader.endpoint()}", "--connections=64", "--fill", "--op=put"]
            + [f"--keys={KEYS}", f"--count={KEYS * OVERWRITES}", f"--value-size={VALUE_BYTES}", "--verify", "--timeout=30000"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=e2e.clean_environment(),
            text=True,
        )
        self.addCleanup(load.stdout.close)
        self.addCleanup(load.stderr.close)
        self.addCleanup(load.kill)

        def goes_on():
            cluster.assert_alive()
            self.assertIsNone(load.poll(), "the load ended too early" if load.poll() == 0 else load.stderr.read() if load.poll() else "")

        def revision(node):
            goes_on()
            return node.cluster()["revision"]

        patience = 20 * e2e.WAIT_S
        e2e.wait_until(lambda: revision(leader) > 3 * KEYS, "two rounds", patience, 0.1)
        self.assertGreater(follower.metrics()["coracle_snapshots_made_total"], 0)
        last_index = follower.cluster()["last_index"]
        follower.kill()
        e2e.wait_until(lambda: goes_on() or leader.cluster()["first_index"] > last_index + 1, "the log is cut", patience, 0.1)
        away = leader.cluster()["last_index"]
        follower.start()

        def caught_up():
            goes_on()
            status = follower.cluster()
            return status is not None and status["applied_index"] > away

        e2e.wait_until(caught_up, "it caught up, while writes went on", patience, 0.1)
        self.assertGreaterEqual(follower.metrics()["coracle_snapshots_installed_total"], 1)
        self.assertIn("installed a leader's snapshot", follower.log())
        index = follower.cluster()["applied_index"]
        e2e.wait_until(lambda: goes_on() or follower.cluster()["applied_index"] > index + 1000, "and keeps up", patience, 0.1)

        output, errors = load.communicate(timeout=patience)
        self.assertEqual(load.returncode, 0, errors)
        watch.stopping.set()
        watch.join()
        self.show(output, cluster, watch, time.monotonic() - began)

        cluster.wait_until_equal()
        for node in cluster.nodes:
            metrics = node.metrics()
            self.assertEqual(metrics["etcd_debugging_mvcc_keys_total"], KEYS + 1)
            self.assertGreater(metrics["coracle_snapshots_made_total"], 0)
            self.assertGreater(metrics["etcd_debugging_mvcc_compact_revision"], 0)
            self.assertGreater(metrics["coracle_raft_first_index"], KEYS)
            self.assertLess(metrics["coracle_store_history_bytes"], 64 * MIB)
            # While a follower loads a leader's snapshot, it holds its old state too.
            installing = STATE_BYTES_MAX if node is follower else 0
            self.assert_memory(watch.resident[node.name], RESIDENT_BYTES_MAX + installing, node.name)
            # The tail, what came since the snapshot, what comes while the next one is made, and spare segments.
            self.assertLess(watch.log[node.name], 8 * LOG_MIB * MIB + 64 * MIB, node.name)
            self.assertLessEqual(len(list((node.data / "snapshot").glob("*.snap"))), 2)
        self.assertIs(cluster.wait_for_leader(), leader, "nothing of this costs an election")

        # What is on the disks is all of it.
        for node in cluster.nodes:
            node.kill()
        cluster.start()
        cluster.wait_until_writable()
        cluster.wait_until_equal()
        for node in cluster.nodes:
            self.assertEqual(node.metrics()["etcd_debugging_mvcc_keys_total"], KEYS + 1)

    def show(self, result, cluster, watch, seconds):
        print(f"{KEYS} keys, {OVERWRITES} times over: {seconds:.0f} s in all")
        for line in result.splitlines():
            row = json.loads(line)
            print({name: value for name, value in row.items() if not isinstance(value, (list, dict))})
        for node in cluster.nodes:
            metrics = node.metrics()
            print(
                f"{node.name}: at most {watch.resident[node.name] // MIB} MiB resident (allowed {RESIDENT_BYTES_MAX // MIB}), "
                f"log {watch.log[node.name] // MIB} MiB, snapshots made {metrics['coracle_snapshots_made_total']:.0f}, "
                f"installed {metrics['coracle_snapshots_installed_total']:.0f}, history {metrics['coracle_store_history_bytes'] / MIB:.0f} MiB"
            )


if __name__ == "__main__":
    e2e.main()
