"""The promise itself: nodes are killed, paused and cut off for hundreds of rounds, and no acknowledged write is lost.

Clients put, get and delete through all nodes the whole time. In a third of the rounds all three nodes are killed at once, and
now and then one loses its disk. At the end everything that clients saw must have one explanation (history.py), each node must
show it, and all three must have the same apply hash. With root, each node has a network of its own, whose cables are cut;
without, nodes are only killed and paused.

CORACLE_TEST_SEED replays the order of faults (not their timing); the seed is printed.
"""

import collections
import itertools
import json
import math
import os
import random
import time
import unittest

import cluster as e2e
import history
from history import ABSENT, DELETE, GET, PUT, Operation
from workload import Keys, Worker

ROUNDS = 20 if e2e.QUICK else 200
CLIENTS = 16
ROUND_S = 0.8

SETTINGS = {
    "election-timeout": 300,
    "heartbeat": 50,
    "rpc-timeout": 500,
    "api-timeout": 900,
    "api-fwd-timeout": 700,
    # Small, so that snapshots, segments' ends and installed snapshots happen under fire too.
    "snapshot-log-bytes": "256KiB",
    "log-tail-bytes": "256KiB",
    "log-cache-bytes": "64KiB",
}


class Nemesis:
    """What is done to the nodes, round for round."""

    def __init__(self, cluster, network, workers, rng):
        self.cluster = cluster
        self.network = network
        self.workers = workers
        self.rng = rng
        self.done = collections.Counter()

    def succeeded(self):
        for worker in self.workers:
            if worker.error is not None:
                raise AssertionError(f"{worker.name} failed") from worker.error
        return sum(worker.succeeded for worker in self.workers)

    def start_all(self):
        down = [node for node in self.cluster.nodes if not node.running()]
        self.rng.shuffle(down)
        for node in down:
            node.start()
            time.sleep(self.rng.choice((0, 0, 0.05, 0.2)))

    def kill_all(self):
        for node in self.cluster.nodes:
            if node.running():
                node.told_to_end = True
                node.process.kill()
        for node in self.cluster.nodes:
            node.wait()
            node.paused = False
        self.done["all killed"] += 1

    def kill_one(self):
        running = [node for node in self.cluster.nodes if node.running()]
        if not running:
            return
        node = self.rng.choice(running)
        if self.rng.random() < 0.5:  # most interesting is the one that leads
            node = self.cluster.leader() or node
        node.kill()
        node.paused = False
        self.done["one killed"] += 1

    def partition(self):
        if self.network is None:
            return
        size = len(self.cluster.nodes)
        a, b = self.rng.sample(range(size), 2)
        kind = self.rng.choice(("unplugged", "unplugged", "pair cut", "one way cut", "deaf"))
        if kind == "unplugged":
            self.network.unplug(a)
        elif kind == "pair cut":
            self.network.cut(a, b)
            self.network.cut(b, a)
        elif kind == "one way cut":
            self.network.cut(a, b)
        else:
            for other in range(size):
                if other != a:
                    self.network.cut(other, a)
        self.done[kind] += 1

    def heal(self):
        if self.network is not None:
            self.network.heal()

    def pause(self):
        running = [node for node in self.cluster.nodes if node.running() and not node.paused]
        if running:
            self.rng.choice(running).pause()
            self.done["paused"] += 1

    def resume(self):
        for node in self.cluster.nodes:
            if node.paused:
                node.resume()

    def calm(self):
        """All is well again: now the cluster must serve through every node."""
        self.heal()
        self.resume()
        self.start_all()
        self.cluster.wait_until_writable()

    def wipe_one(self):
        """A disk is lost. It must not be the next one before the node has caught up, or there would be no quorum of disks."""
        for node in self.cluster.nodes:
            e2e.wait_until(lambda: (status := node.cluster()) and not status["uncertain"], f"{node.name} is certain")
        node = self.rng.choice(self.cluster.nodes)
        node.kill()
        node.wipe()
        node.start()
        self.done["wiped"] += 1

    def linger(self):
        """A round's time, shorter when clients got enough done in it."""
        before = self.succeeded()
        deadline = time.monotonic() + ROUND_S
        while time.monotonic() < deadline:
            time.sleep(0.02)
            if self.succeeded() - before > 200:
                break

    def round(self, number):
        for node in self.cluster.nodes:
            node.assert_alive()
        if self.rng.random() < 0.5:
            self.heal()
            self.resume()
        if self.rng.random() < 0.45:
            self.rng.choice((self.partition, self.partition, self.pause))()
            time.sleep(self.rng.random() * 0.4)
        if number % 3 == 0:
            self.kill_all()
        else:
            self.kill_one()
        if self.rng.random() < 0.3:
            time.sleep(self.rng.random() * 0.4)  # two nodes, or none, for a while
        if number % 3 == 0 or self.rng.random() < 0.8:
            self.start_all()
        self.linger()
        if number % 10 == 9:
            self.calm()
        if number % 20 == 19:
            self.wipe_one()


class KillTest(e2e.TestCase):
    def test_no_acknowledged_write_is_lost(self):
        seed = int(os.environ.get("CORACLE_TEST_SEED", random.randrange(1 << 32)))
        network = self.network() if e2e.namespaces_work() else None
        print(f"seed {seed}, {ROUNDS} rounds, {'cables are cut too' if network else 'no network namespaces: no partitions'}")
        rng = random.Random(seed)
        cluster = self.cluster(settings=SETTINGS, network=network).start()
        cluster.wait_until_writable()

        keys = Keys()
        workers = [Worker(i, cluster.nodes, keys, rng.random()) for i in range(CLIENTS)]
        nemesis = Nemesis(cluster, network, workers, rng)
        for worker in workers:
            worker.start()
        try:
            for number in range(ROUNDS):
                nemesis.round(number)
            nemesis.calm()
            before = nemesis.succeeded()
            e2e.wait_until(lambda: nemesis.succeeded() >= before + 200, "clients are served again")
        finally:
            for worker in workers:
                worker.stopping = True
            for worker in workers:
                worker.join(e2e.WAIT_S)
        nemesis.succeeded()

        operations = [operation for worker in workers for operation in worker.operations]
        operations += self.read_everything(cluster, keys)
        statuses = cluster.wait_until_equal()
        cluster.assert_alive()
        self.show(workers, nemesis, operations, statuses, cluster)

        found = history.problems(operations)
        if found:
            self.fail(f"{len(found)} problems, seed {seed}\n" + "\n".join(found[:5]) + self.keep(operations))
        self.assertGreater(sum(operation.kind == PUT for operation in operations), ROUNDS * 10)

    def read_everything(self, cluster, keys):
        """Every key that was ever used, through every node."""
        operations = []
        for node in cluster.nodes:
            with node.client() as client:
                for key in keys.all():
                    begin = time.monotonic()
                    response = e2e.wait_until(
                        lambda: (answer := client.get(key)).status in (200, 404) and answer, f"{key} through {node.name}"
                    )
                    value = response.json()["v"] if response.status == 200 else ABSENT
                    operations.append(Operation(GET, key, value, begin, time.monotonic(), where=f"at the end, {node.name}"))
        return operations

    def show(self, workers, nemesis, operations, statuses, cluster):
        failures = collections.Counter()
        for worker in workers:
            failures += worker.failures
        unknown = sum(math.isinf(operation.end) for operation in operations)
        print(f"{len(operations)} operations, {unknown} of unknown outcome, failures {dict(failures)}")
        print(f"faults {dict(nemesis.done)}")
        installed = sum("installed a leader's snapshot" in line for node in cluster.nodes for line in node.log().splitlines())
        made = sum("made a snapshot" in line for node in cluster.nodes for line in node.log().splitlines())
        print(f"{made} snapshots made, {installed} installed; term {statuses[0]['term']}, index {statuses[0]['applied_index']}")

    def keep(self, operations):
        """Writes the history to where the test's log is, for whoever looks for the cause."""
        path = e2e.REPOSITORY / "build" / f"kill-history-{os.getpid()}.json"
        path.parent.mkdir(exist_ok=True)
        fields = [name for name in Operation.__slots__]
        path.write_text(json.dumps([{name: getattr(operation, name) for name in fields} for operation in operations]))
        return f"\nall operations: {path}"


class CheckerTest(unittest.TestCase):
    """That the judge of the test above can tell right from wrong."""

    def judge(self, *operations):
        return history.problems([Operation(*operation) for operation in operations])

    def test_accepts_what_one_order_explains(self):
        inf = math.inf
        good = [
            # one after the other
            [(PUT, "k", "a", 0, 1, 1), (GET, "k", "a", 2, 3), (DELETE, "k", None, 4, 5, 2, True), (GET, "k", None, 6, 7)],
            # two at once, seen in both orders by readers who overlap them
            [(PUT, "k", "a", 0, 9, 1), (PUT, "k", "b", 0, 9, 2), (GET, "k", "a", 1, 2), (GET, "k", "b", 3, 4)],
            # unknown: it happened late, or not at all
            [(PUT, "k", "a", 0, inf), (GET, "k", None, 1, 2), (GET, "k", "a", 3, 4)],
            [(PUT, "k", "a", 0, inf), (GET, "k", None, 1, 2)],
            # an unknown delete explains why a value is gone; an unknown put why a delete found something
            [(PUT, "k", "a", 0, 1, 1), (DELETE, "k", None, 2, inf), (GET, "k", "a", 3, 4), (GET, "k", None, 5, 6)],
            [(PUT, "k", "a", 0, inf), (DELETE, "k", None, 2, 3, 2, True), (GET, "k", None, 4, 5)],
            [(DELETE, "k", None, 0, 1, 0, False), (PUT, "k", "a", 2, 3, 1)],
        ]
        for operations in good:
            self.assertEqual(self.judge(*operations), [], operations)

    def test_rejects_what_none_explains(self):
        inf = math.inf
        bad = {
            "a lost write": [(PUT, "k", "a", 0, 1, 1), (GET, "k", None, 2, 3)],
            "a lost overwrite": [(PUT, "k", "a", 0, 1, 1), (PUT, "k", "b", 2, 3, 2), (GET, "k", "a", 4, 5)],
            "a stale read": [(PUT, "k", "a", 0, 1, 1), (PUT, "k", "b", 2, inf), (GET, "k", "b", 3, 4), (GET, "k", "a", 5, 6)],
            "a deleted value again": [(PUT, "k", "a", 0, 1, 1), (DELETE, "k", None, 2, 3, 2, True), (GET, "k", "a", 4, 5)],
            "a value from nowhere": [(PUT, "k", "a", 0, 1, 1), (GET, "k", "z", 2, 3)],
            "another key's value": [(PUT, "k", "a", 0, 1, 1), (PUT, "j", "b", 0, 1, 2), (GET, "k", "b", 2, 3)],
            "a read before its write": [(GET, "k", "a", 0, 1), (PUT, "k", "a", 2, 3, 1)],
            "applied twice": [
                (PUT, "k", "a", 0, inf),
                (GET, "k", "a", 1, 2),
                (PUT, "k", "b", 3, 4, 2),
                (GET, "k", "b", 5, 6),
                (GET, "k", "a", 7, 8),
            ],
            "a delete of nothing": [(DELETE, "k", None, 0, 1, 1, True)],
            "a delete that missed": [(PUT, "k", "a", 0, 1, 1), (DELETE, "k", None, 2, 3, 0, False)],
            "one revision twice": [(PUT, "k", "a", 0, 1, 1), (PUT, "j", "b", 0, 1, 1)],
            "revisions back in time": [(PUT, "k", "a", 0, 1, 2), (PUT, "j", "b", 2, 3, 1)],
        }
        for name, operations in bad.items():
            self.assertNotEqual(self.judge(*operations), [], name)

    def test_agrees_with_brute_force(self):
        """On small random histories, with the plain definition: try every order."""
        rng = random.Random(1)
        verdicts = collections.Counter()
        for _ in range(1500):
            operations = random_history(rng)
            expected = explains_by_brute_force(operations)
            self.assertEqual(history._explains(operations), expected, "\n".join(map(str, operations)))
            verdicts[expected] += 1
        self.assertGreater(min(verdicts[True], verdicts[False]), 200, verdicts)


def random_history(rng):
    """Up to six operations on one key; puts are numbered in the order of their revisions, if they have one."""
    operations, revision = [], 0
    values = [f"v{i}" for i in range(3)]
    for _ in range(rng.randint(2, 6)):
        begin = rng.randrange(12)
        end = begin + rng.randrange(1, 6) + 0.5
        kind = rng.choice((PUT, PUT, GET, GET, DELETE))
        if kind == PUT and not values:
            kind = GET
        if kind == GET:
            operations.append(Operation(GET, "k", rng.choice((ABSENT, "v0", "v1")), begin, end))
            continue
        value = values.pop(0) if kind == PUT else None
        if rng.random() < 0.35:
            operations.append(Operation(kind, "k", value, begin, math.inf))
        elif kind == DELETE and rng.random() < 0.4:
            operations.append(Operation(kind, "k", None, begin, end, 0, False))
        else:
            revision += 1
            operations.append(Operation(kind, "k", value, begin, end, revision, True if kind == DELETE else None))
    return operations


def explains_by_brute_force(operations):
    known = [o for o in operations if not math.isinf(o.end)]
    unknown = [o for o in operations if math.isinf(o.end)]
    return any(
        order_is_good(order)
        for count in range(len(unknown) + 1)
        for some in itertools.combinations(unknown, count)
        for order in itertools.permutations([*known, *some])
    )


def order_is_good(order):
    value, revision = ABSENT, 0
    for i, operation in enumerate(order):
        if any(later.end < operation.begin for later in order[i + 1 :]):
            return False
        if operation.revision:
            if operation.revision < revision:
                return False
            revision = operation.revision
        if operation.kind == GET and operation.value != value:
            return False
        if operation.kind == DELETE and operation.existed is not None and operation.existed != (value is not ABSENT):
            return False
        if operation.kind != GET:
            value = operation.value
    return True


if __name__ == "__main__":
    e2e.main()
