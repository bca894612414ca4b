"""Clients for tests under fire: each writes down what it asked and what it was told, for history.py to judge."""

import collections
import itertools
import math
import random
import threading
import time

import cluster as e2e
from history import ABSENT, DELETE, GET, PUT, Operation

KEYS_IN_USE = 24
# A key retires when it has this many operations, or writes of unknown outcome: that keeps the search for an explanation short.
KEY_OPERATIONS_MAX = 150
KEY_UNKNOWN_MAX = 6
VALUE_BYTES = (0, 0, 100, 2000)
PAUSE_S = 0.012  # between a client's requests, so that the nodes and not this program set the pace
CLIENT_TIMEOUT_S = 1.0
# Errors that promise that nothing was done; any other failure may have been a success.
NOTHING_DONE = ("no_leader", "too_many_requests", "not_ready", "shutting_down", "no_space")


class Keys:
    """The keys in use; those that got many operations make room for new ones."""

    def __init__(self, prefix="key-"):
        self.prefix = prefix
        self.lock = threading.Lock()
        self.numbers = itertools.count()
        self.used = [self.fresh() for _ in range(KEYS_IN_USE)]
        self.operations = collections.Counter()
        self.unknown = collections.Counter()
        self.retired = []

    def fresh(self):
        return f"{self.prefix}{next(self.numbers)}"

    def choose(self, rng):
        with self.lock:
            place = rng.randrange(KEYS_IN_USE)
            key = self.used[place]
            if self.operations[key] >= KEY_OPERATIONS_MAX or self.unknown[key] >= KEY_UNKNOWN_MAX:
                self.retired.append(key)
                key = self.used[place] = self.fresh()
            self.operations[key] += 1
            return key

    def note_unknown(self, key):
        with self.lock:
            self.unknown[key] += 1

    def all(self):
        return self.retired + self.used


class Worker(threading.Thread):
    """One client: a request at a time, each through some node."""

    def __init__(self, number, nodes, keys, seed, value_bytes=VALUE_BYTES):
        super().__init__(name=f"client {number}", daemon=True)
        self.number = number
        self.nodes = nodes
        self.keys = keys
        self.rng = random.Random(seed)
        self.value_bytes = value_bytes
        self.clients = [node.client(CLIENT_TIMEOUT_S) for node in nodes]
        self.operations = []
        self.succeeded = 0
        self.failures = collections.Counter()
        self.stopping = False
        self.error = None
        self.writes = itertools.count()

    def run(self):
        try:
            while not self.stopping:
                self.step()
                time.sleep(PAUSE_S)
        except BaseException as error:  # reported by whoever started it
            self.error = error
        finally:
            for client in self.clients:
                client.close()

    def step(self):
        key = self.keys.choose(self.rng)
        kind = self.rng.choices((PUT, GET, DELETE), (45, 40, 15))[0]
        value = None
        if kind == PUT:
            value = f"{self.number}.{next(self.writes)}." + "x" * self.rng.choice(self.value_bytes)
        place = self.rng.randrange(len(self.nodes))
        self.attempt(place, kind, key, value)

    def attempt(self, place, kind, key, value):
        client = self.clients[place]
        where = f"{self.name}, {self.nodes[place].name}"
        begin = time.monotonic()
        try:
            if kind == PUT:
                response = client.put(key, value)
            else:
                response = client.get(key) if kind == GET else client.delete(key)
        except e2e.Unavailable as error:
            self.failures["no answer" if error.sent else "no connection"] += 1
            if error.sent:
                self.unknown(kind, key, value, begin, where)
            return
        end = time.monotonic()
        body = response.json()
        if response.status == 200:
            self.succeeded += 1
            operation = Operation(kind, key, value, begin, end, where=where)
            if kind == GET:
                assert body["k"] == key, body
                operation.value = body["v"]
            else:
                operation.revision = body["revision"]
                operation.existed = body.get("deleted")
            self.operations.append(operation)
        elif response.status == 404 and kind == GET:
            assert body["error"]["code"] == "not_found", body
            self.succeeded += 1
            self.operations.append(Operation(GET, key, ABSENT, begin, end, where=where))
        else:
            code = body["error"]["code"]
            self.failures[code] += 1
            assert response.status >= 500 or response.status == 429, response
            if code not in NOTHING_DONE:
                self.unknown(kind, key, value, begin, where)

    def unknown(self, kind, key, value, begin, where):
        if kind == GET:
            return
        self.operations.append(Operation(kind, key, value, begin, math.inf, where=where))
        self.keys.note_unknown(key)
