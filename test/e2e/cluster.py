"""Real nodes for the end-to-end tests: started, killed, paused, cut off, and always cleaned up.

CORACLE_BINARY          the program under test (build/release/coracle)
CORACLE_BINARY_CHECKED  the same under sanitizers, for tests that ask for it; absent, the first is taken
CORACLE_TEST_QUICK=1    shorter rounds
CORACLE_TEST_KEEP=1     leaves the directories of data and logs, and says where they are
CORACLE_TEST_WAIT_S=N   gives up waiting after so many seconds; for tests of what must not happen

No test measures time: waiting ends when something has happened, and gives up only after WAIT_S, which no sane machine needs.
"""

import atexit
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("CORACLE_BINARY", str(REPOSITORY / "build/release/coracle"))
BINARY_CHECKED = os.environ.get("CORACLE_BINARY_CHECKED", BINARY)
QUICK = os.environ.get("CORACLE_TEST_QUICK", "") not in ("", "0")
KEEP = os.environ.get("CORACLE_TEST_KEEP", "") not in ("", "0")

# Sanitizers keep shadow and freed memory: what a node needs with them says nothing.
SANITIZED = any(mark in pathlib.Path(BINARY).read_bytes() for mark in (b"__asan_init", b"__tsan_init"))

WAIT_S = int(os.environ.get("CORACLE_TEST_WAIT_S", "90"))
LOG_TAIL_LINES = 25

# Below the range that the system takes ports for outgoing connections from, and far from those of ./dev run.
PORT_FIRST, PORT_END = 20000, 32000


class TimedOut(AssertionError):
    """Something didn't happen."""


class EndedByItself(AssertionError):
    """A node ended that nobody had told to."""


def wait_until(condition, what, seconds=WAIT_S, interval=0.02):
    """Returns condition()'s first true value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimedOut(f"not within {seconds} s: {what}")
        time.sleep(interval)


def is_free(host, port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


_ports = iter(())


def free_ports(count, host="127.0.0.1"):
    """Ports that nobody listens on, none of them given out before by this process."""
    global _ports
    found = []
    while len(found) < count:
        port = next(_ports, None)
        if port is None:
            start = random.randrange(PORT_FIRST, PORT_END)
            _ports = iter([*range(start, PORT_END), *range(PORT_FIRST, start)])
        elif is_free(host, port):
            found.append(port)
    return found


# ---- a small HTTP client ----


class Unavailable(Exception):
    """No answer. `sent`: the request may have reached the node all the same."""

    def __init__(self, text, sent):
        super().__init__(text)
        self.sent = sent


@dataclasses.dataclass
class Response:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


def read_response(read, head_request=False):
    """One response; `read` returns more bytes or b"". Returns it and the bytes after it."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = read()
        if not more:
            raise ConnectionError(f"the connection ended after {data!r}")
        data += more
    lines = data[:end].decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    data = data[end + 4 :]
    status = int(lines[0].split(" ")[1])
    length = 0 if head_request or status == 100 else int(headers.get("content-length", 0))
    parts, size = [data], len(data)
    while size < length:
        more = read()
        if not more:
            raise ConnectionError("the connection ended within a body")
        parts.append(more)
        size += len(more)
    data = b"".join(parts)
    return Response(status, headers, data[:length]), data[length:]


class Client:
    """One kept-alive connection to one node; not for several threads."""

    def __init__(self, host, port, timeout_s=WAIT_S):
        self.host, self.port, self.timeout_s = host, port, timeout_s
        self.socket = None

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def request(self, method, path, body=None, headers=None):
        fresh = self.socket is None
        head = [f"{method} {path} HTTP/1.1", f"Host: {self.host}"]
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        if body is not None:
            head.append(f"Content-Length: {len(body)}")
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        data = "\r\n".join([*head, "", ""]).encode("latin-1") + (body or b"")
        try:
            if fresh:
                self.socket = socket.create_connection((self.host, self.port), self.timeout_s)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self.close()
            raise Unavailable(f"{self.host}:{self.port}: {error}", sent=False) from error
        try:
            self.socket.sendall(data)
            response, _ = read_response(lambda: self.socket.recv(65536), method == "HEAD")
        except (OSError, ValueError) as error:
            self.close()
            raise Unavailable(f"{self.host}:{self.port}: {error}", sent=True) from error
        if response.headers.get("connection", "").lower() == "close":
            self.close()
        return response

    def put(self, key, value):
        return self.request("POST", "/v1/data", {"k": key, "v": value})

    def get(self, key):
        return self.request("GET", f"/v1/data/{key}")

    def delete(self, key):
        return self.request("DELETE", f"/v1/data/{key}")


# ---- processes ----

_everything = []  # what to clean up should a test fail to


def _clean_up():
    for thing in reversed(list(_everything)):
        thing.close()


atexit.register(_clean_up)
signal.signal(signal.SIGTERM, lambda *_: os._exit((_clean_up(), 143)[1]))


class Node:
    """One process, its data and its log."""

    def __init__(self, name, directory, api, rpc, flags=(), prefix=(), binary=BINARY, environment=None):
        self.name = name
        self.directory = pathlib.Path(directory)
        self.data = self.directory / "data"
        self.log_file = self.directory / "server.log"
        self.api_host, self.api_port = api
        self.rpc_host, self.rpc_port = rpc
        self.flags = list(flags)
        self.prefix = list(prefix)
        self.binary = binary
        self.environment = environment or {}
        self.process = None
        self.paused = self.told_to_end = False
        self.directory.mkdir(parents=True, exist_ok=True)

    def command(self):
        return [*self.prefix, self.binary, "serve", f"--id={self.name}", f"--data-dir={self.data}", *self.flags]

    def start(self):
        assert not self.running(), f"{self.name} runs already"
        self.paused = self.told_to_end = False
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environment(), **self.environment},
            )

    def running(self):
        return self.process is not None and self.process.poll() is None

    def assert_alive(self):
        """That it didn't end by itself."""
        if self.process is not None and self.process.poll() is not None and not self.told_to_end:
            raise EndedByItself(f"{self.name} ended by itself with exit code {self.process.returncode}\n{self.tail()}")

    def kill(self):
        self.assert_alive()
        self.told_to_end = True
        self.process.kill()
        self.process.wait()

    def pause(self):
        if self.running():
            self.process.send_signal(signal.SIGSTOP)
            self.paused = True

    def resume(self):
        if self.running():
            self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def stop(self, seconds=WAIT_S):
        """SIGTERM; returns the exit code."""
        self.resume()
        self.told_to_end = True
        self.process.terminate()
        return self.process.wait(timeout=seconds)

    def wait(self, seconds=WAIT_S):
        return self.process.wait(timeout=seconds)

    def end(self):
        self.told_to_end = True
        if self.running():
            self.process.kill()
            self.process.wait()

    def assert_clean(self):
        """That no sanitizer had anything to say; most only write it down, and a killed node has no exit code of its own."""
        marks = ("Sanitizer:", "runtime error:")
        found = [line for line in self.log().splitlines() if any(mark in line for mark in marks)]
        assert not found, f"{self.name}: {found[:5]}\n{self.log()[-20000:]}"

    def wipe(self):
        assert not self.running()
        shutil.rmtree(self.data)

    def client(self, timeout_s=WAIT_S):
        return Client(self.api_host, self.api_port, timeout_s)

    def endpoint(self):
        return f"{self.api_host}:{self.api_port}"

    def request(self, method, path, body=None, headers=None, timeout_s=WAIT_S):
        with self.client(timeout_s) as client:
            return client.request(method, path, body, headers)

    def cluster(self, timeout_s=5):
        """What the node says of itself and the cluster, or None when it doesn't."""
        try:
            response = self.request("GET", "/v1/cluster", timeout_s=timeout_s)
        except Unavailable:
            return None
        return response.json() if response.status == 200 else None

    def metrics(self):
        response = self.request("GET", "/metrics")
        assert response.status == 200, response
        values = {}
        for line in response.body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def tail(self):
        lines = self.log().splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"--- the end of {self.name}'s log ---", *lines])

    def resident_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def peak_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")


def clean_environment():
    """Nothing of the caller's environment may configure a node."""
    names = ("NODE_ID", "CLUSTER_CONFIG_PATH", "RUNNING_IN_K8S_ENV")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in names and not (name.startswith("CORACLE_") and not name.startswith("CORACLE_TEST"))
    }


def coracle(*arguments, environment=None, prefix=(), seconds=WAIT_S, stdin=None, cwd=None):
    """Runs a command to its end; stdout and stderr as text."""
    return subprocess.run(
        [*prefix, BINARY, *map(str, arguments)],
        env={**clean_environment(), **(environment or {})},
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=cwd,
    )


class Cluster:
    """Nodes node-1 … node-N under a temporary directory. A context manager; `settings` are flags without dashes."""

    def __init__(self, size=3, settings=None, network=None, binary=BINARY):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="coracle-e2e-"))
        self.network = network
        self.flags = [f"--{name}={value}" for name, value in (settings or {}).items()]
        self.nodes = []
        self.closed = False
        _everything.append(self)
        if network is None:
            ports = free_ports(2 * size)
            addresses = [(("127.0.0.1", ports[2 * i]), ("127.0.0.1", ports[2 * i + 1])) for i in range(size)]
        else:
            addresses = [((network.client_address(i), 7777), (network.peer_address(i), 6666)) for i in range(size)]
            self.flags.append("--listen-host=0.0.0.0")
        members = [
            {"node_id": f"node-{i + 1}", "rpc_url": "%s:%d" % rpc, "api_url": "%s:%d" % api}
            for i, (api, rpc) in enumerate(addresses)
        ]
        self.config_file = self.directory / "cluster.json"
        self.config_file.write_text(json.dumps(members))
        self.flags.append(f"--cluster-config-path={self.config_file}")
        for i, (api, rpc) in enumerate(addresses):
            prefix = () if network is None else network.prefix(i)
            name = members[i]["node_id"]
            self.nodes.append(Node(name, self.directory / name, api, rpc, self.flags, prefix, binary))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            print(self.tails(), flush=True)
        self.close()

    def start(self):
        for node in self.nodes:
            node.start()
        return self

    def close(self):
        if self.closed:
            return
        self.closed = True
        _everything.remove(self)
        for node in self.nodes:
            node.end()
        try:
            for node in self.nodes:
                node.assert_clean()
        finally:
            if KEEP:
                print(f"data and logs are in {self.directory}", flush=True)
            else:
                shutil.rmtree(self.directory, ignore_errors=True)

    def tails(self):
        return "\n".join(node.tail() for node in self.nodes)

    def running(self):
        return [node for node in self.nodes if node.running() and not node.paused]

    def assert_alive(self):
        for node in self.nodes:
            node.assert_alive()

    def endpoints(self):
        return ",".join(node.endpoint() for node in self.nodes)

    def leader(self):
        """The node that leads, as a majority of the running nodes says; or None."""
        names = {}
        for node in self.running():
            status = node.cluster()
            if status is None or status["leader"] is None:
                continue
            names.setdefault((status["term"], status["leader"]), []).append(node)
        for (_, name), voters in names.items():
            if len(voters) > len(self.nodes) // 2 or len(voters) == len(self.running()) > 0:
                return next(node for node in self.nodes if node.name == name)
        return None

    def wait_for_leader(self, among=None):
        def found():
            self.assert_alive()
            leader = self.leader()
            return leader if leader is not None and (among is None or leader in among) else None

        return wait_until(found, "a leader")

    def followers(self):
        leader = self.wait_for_leader()
        return [node for node in self.nodes if node is not leader]

    def wait_until_writable(self, node=None):
        """Until a write through `node`, or through each running node, succeeds."""

        def writes(one):
            one.assert_alive()
            try:
                return one.request("POST", "/v1/data", {"k": "are-you-there", "v": "yes"}).status == 200
            except Unavailable:
                return False

        for one in [node] if node else self.running():
            wait_until(lambda: writes(one), f"a write through {one.name}")

    def wait_until_equal(self, nodes=None):
        """Until all have applied the same index, and then with the same hash. Returns what they say."""
        nodes = nodes or self.nodes

        def equal():
            self.assert_alive()
            statuses = [node.cluster() for node in nodes]
            if None in statuses:
                return None
            return statuses if len({status["applied_index"] for status in statuses}) == 1 else None

        statuses = wait_until(equal, "the same applied index everywhere")
        hashes = {status["apply_hash"] for status in statuses}
        assert len(hashes) == 1, f"apply hashes differ at index {statuses[0]['applied_index']}: {statuses}"
        for status in statuses:
            assert not status["diverged"], status
        return statuses


# ---- networks that can be cut ----


def run_ip(*arguments, check=True):
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def namespaces_work():
    """Whether this process may make network namespaces and bridges."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"cor{os.getpid()}t"
    try:
        run_ip("netns", "add", name)
        run_ip("link", "add", name, "type", "bridge")
        return True
    except subprocess.CalledProcessError:
        return False
    finally:
        run_ip("link", "del", name, check=False)
        run_ip("netns", "del", name, check=False)


class Network:
    """A network namespace for each node, with two cables: one to its peers, one to the clients, which are here.

    The peers' cable, or what goes from one node to another one, can be cut, silently as in reality: nobody is told.
    """

    def __init__(self, size=3):
        self.size = size
        pid = os.getpid()
        self.names = [f"cor{pid}n{i}" for i in range(size)]
        self.bridges = {"p": f"cor{pid}pb", "c": f"cor{pid}cb"}
        self.cut_links, self.cut_ways = set(), set()
        self.lock = threading.Lock()
        self.closed = False
        self._remove_left_overs()
        _everything.append(self)
        used = run_ip("-o", "-4", "addr").stdout
        self.octet = next(n for n in random.sample(range(1, 255), 254) if f"198.19.{n}." not in used)
        try:
            self._make()
        except subprocess.CalledProcessError as error:
            self.close()
            raise AssertionError(f"{error.cmd}: {error.stderr}") from error

    @staticmethod
    def _remove_left_overs():
        """Namespaces of processes that were killed."""
        for line in run_ip("netns", "list").stdout.splitlines():
            name = line.split()[0]
            pid, _, _ = name.removeprefix("cor").partition("n")
            if name.startswith("cor") and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                for kind in "pc":
                    run_ip("link", "del", f"{name}{kind}", check=False)
                    run_ip("link", "del", f"cor{pid}{kind}b", check=False)
                run_ip("netns", "del", name, check=False)

    def _make(self):
        for kind, bridge in self.bridges.items():
            run_ip("link", "add", bridge, "type", "bridge")
            run_ip("link", "set", bridge, "up")
        run_ip("addr", "add", f"198.19.{self.octet}.254/24", "dev", self.bridges["c"])
        for i, name in enumerate(self.names):
            run_ip("netns", "add", name)
            run_ip("-n", name, "link", "set", "lo", "up")
            for kind, address in (("p", self.peer_address(i)), ("c", self.client_address(i))):
                port = self._port(kind, i)
                run_ip("link", "add", port, "type", "veth", "peer", "name", f"eth{kind}", "netns", name)
                run_ip("link", "set", port, "master", self.bridges[kind], "up")
                run_ip("-n", name, "addr", "add", f"{address}/24", "dev", f"eth{kind}")
                run_ip("-n", name, "link", "set", f"eth{kind}", "up")

    def _port(self, kind, i):
        return f"{self.names[i]}{kind}"

    def peer_address(self, i):
        return f"198.18.{self.octet}.{i + 1}"

    def client_address(self, i):
        return f"198.19.{self.octet}.{i + 1}"

    def prefix(self, i):
        return ["ip", "netns", "exec", self.names[i]]

    def unplug(self, i):
        """Nothing passes between node i and the others."""
        self.cut_links.add(i)
        run_ip("link", "set", self._port("p", i), "down")

    def cut(self, i, j):
        """Nothing passes from node i to node j; the way back stays."""
        self.cut_ways.add((i, j))
        nobody = "02:00:00:00:00:99"
        run_ip("-n", self.names[i], "neigh", "replace", self.peer_address(j), "lladdr", nobody, "dev", "ethp")

    def heal(self):
        for i in self.cut_links:
            run_ip("link", "set", self._port("p", i), "up")
        for i, j in self.cut_ways:
            run_ip("-n", self.names[i], "neigh", "del", self.peer_address(j), "dev", "ethp", check=False)
        self.cut_links.clear()
        self.cut_ways.clear()

    def close(self):
        if self.closed:
            return
        self.closed = True
        _everything.remove(self)
        for i, name in enumerate(self.names):
            # A namespace's cables go some time after it, and keep their names until then.
            for kind in self.bridges:
                run_ip("link", "del", self._port(kind, i), check=False)
            run_ip("netns", "del", name, check=False)
        for bridge in self.bridges.values():
            run_ip("link", "del", bridge, check=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class TestCase(unittest.TestCase):
    """Clusters that end with the test, and show their logs when it fails."""

    def assert_memory(self, used, limit, whose=""):
        if not SANITIZED:
            self.assertLess(used, limit, whose)

    def cluster(self, *arguments, **named):
        cluster = Cluster(*arguments, **named)
        self.addCleanup(cluster.close)
        self.addCleanup(self._show_logs, cluster)
        return cluster

    def network(self, size=3):
        network = Network(size)
        self.addCleanup(network.close)
        return network

    def directory(self):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="coracle-e2e-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        return directory

    def _show_logs(self, cluster):
        result = self._outcome.result
        failed = any(test is self for test, _ in [*result.failures, *result.errors])
        if failed or not self._outcome.success:
            print(cluster.tails(), flush=True)

    def assert_json_error(self, response, status, code=None):
        self.assertEqual(response.status, status, response)
        self.assertTrue(response.headers["content-type"].startswith("application/json"), response)
        error = response.json()["error"]
        self.assertEqual(set(error), {"code", "message"})
        self.assertTrue(error["code"] and error["message"], error)
        if code is not None:
            self.assertEqual(error["code"], code, error)
        return error["message"]


def main():
    unittest.main(verbosity=2)
