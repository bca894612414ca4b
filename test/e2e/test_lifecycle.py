"""A node's life: it starts, hands leadership over, stops, comes back with its data, or without them; and the commands around it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

import cluster as e2e


class Writer(threading.Thread):
    """Writes one key after the other through one node, and notes how each write ended."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.acknowledged = []
        self.failures = []
        self.stopping = False
        self.error = None

    def run(self):
        try:
            with self.node.client() as client:
                number = 0
                while not self.stopping:
                    number += 1
                    answer = client.put(f"written-{number}", str(number))
                    if answer.status == 200:
                        self.acknowledged.append(number)
                    else:
                        self.failures.append(answer.json()["error"]["code"])
                        time.sleep(0.01)
        except BaseException as error:
            self.error = error

    def finish(self):
        self.stopping = True
        self.join(e2e.WAIT_S)
        if self.error is not None:
            raise AssertionError("the writer failed") from self.error


class StoppingTest(e2e.TestCase):
    # Long, so that a leader who goes without a word would be missed for hundreds of writes.
    SETTINGS = {"election-timeout": 4000, "heartbeat": 200, "rpc-timeout": 8000, "api-timeout": 3000, "api-fwd-timeout": 3000}

    def test_a_leader_hands_over_and_exits_with_0(self):
        cluster = self.cluster(3, self.SETTINGS).start()
        cluster.wait_for_leader()
        cluster.wait_until_writable()
        for _ in range(2):
            leader = cluster.wait_for_leader()
            term = leader.cluster()["term"]
            others = [node for node in cluster.nodes if node is not leader]
            writer = Writer(others[0])
            writer.start()
            e2e.wait_until(lambda: len(writer.acknowledged) > 50, "writes")
            self.assertEqual(leader.stop(), 0)
            before = len(writer.acknowledged)
            e2e.wait_until(lambda: len(writer.acknowledged) > before + 50, "writes go on")
            writer.finish()
            self.assertLess(len(writer.failures), 25, "a short gap, not an election timeout")
            self.assertNotIn("timeout", writer.failures)
            successor = cluster.wait_for_leader(among=others)
            self.assertEqual(successor.cluster()["term"], term + 1, "one election, which nobody contested")
            for node in others:
                with node.client() as client:
                    for number in writer.acknowledged:
                        self.assertEqual(client.get(f"written-{number}").status, 200, number)
            leader.start()
            cluster.wait_until_writable()
            cluster.wait_until_equal()

    def test_a_follower_and_a_waiting_node_stop_too(self):
        cluster = self.cluster(3, {"election-timeout": 500, "heartbeat": 100})
        alone = cluster.nodes[0]
        alone.start()
        e2e.wait_until(lambda: alone.data.joinpath("state").exists(), "it has begun")
        e2e.wait_until(lambda: self.answers(alone, "/livez"), "it lives")
        self.assert_json_error(alone.request("GET", "/v1/data/a"), 503, "not_ready")
        self.assertEqual(alone.request("GET", "/readyz").status, 503)
        e2e.wait_until(lambda: "node-2" in alone.log() and "node-3" in alone.log(), "it says whom it waits for")
        self.assertEqual(alone.stop(), 0)
        cluster.start()
        cluster.wait_until_writable()
        for node in cluster.followers():
            self.assertEqual(node.stop(), 0)
            self.assertIn("stopping", node.log())
            node.start()
            cluster.wait_until_writable()

    def answers(self, node, path):
        try:
            return node.request("GET", path).status == 200
        except e2e.Unavailable:
            return False

    def test_all_at_once_and_by_ctrl_c(self):
        cluster = self.cluster(3, {"election-timeout": 500, "heartbeat": 100}).start()
        cluster.wait_until_writable()
        for number in (signal.SIGTERM, signal.SIGINT):
            for node in cluster.nodes:
                node.process.send_signal(number)
            self.assertEqual([node.wait() for node in cluster.nodes], [0, 0, 0])
            cluster.start()
            cluster.wait_until_writable()

    def test_whoever_asks_twice_does_not_want_to_wait(self):
        cluster = self.cluster(3, {"election-timeout": 500, "heartbeat": 100}).start()
        leader = cluster.wait_for_leader()
        for node in cluster.nodes:
            if node is not leader:
                node.pause()
        leader.process.terminate()  # it has nobody to hand over to
        leader.process.terminate()
        self.assertIn(leader.wait(), (0, 1))

    def test_requests_under_way_are_answered(self):
        cluster = self.cluster(1).start()
        cluster.wait_until_writable()
        node = cluster.nodes[0]
        writers = [Writer(node) for _ in range(8)]
        for writer in writers:
            writer.start()
        e2e.wait_until(lambda: all(len(writer.acknowledged) > 20 for writer in writers), "writes")
        self.assertEqual(node.stop(), 0)
        for writer in writers:
            writer.join(e2e.WAIT_S)  # its connection ended
            self.assertIsInstance(writer.error, e2e.Unavailable)
        node.start()
        cluster.wait_until_writable()
        with node.client() as client:
            for number in max((writer.acknowledged for writer in writers), key=len):
                self.assertEqual(client.get(f"written-{number}").status, 200)


class LogTest(e2e.TestCase):
    def test_quiet_in_steady_state(self):
        cluster = self.cluster(3, {"election-timeout": 1500, "heartbeat": 100}).start()
        cluster.wait_until_writable()
        logs = [node.log() for node in cluster.nodes]
        with cluster.nodes[0].client() as client:
            for i in range(1000):
                self.assertEqual(client.put(f"key-{i % 10}", str(i)).status, 200)
                self.assertEqual(client.get(f"key-{i % 10}").status, 200)
        time.sleep(4)  # idle, too
        for node, before in zip(cluster.nodes, logs):
            new = [line for line in node.log()[len(before) :].splitlines() if "log segment begins" not in line]
            # A machine that stalls may be told so; nothing else.
            new = [line for line in new if "is slow" not in line]
            self.assertEqual(new, [], node.name)

    def test_json_lines(self):
        cluster = self.cluster(1, {"log-format": "json", "log-level": "debug"}).start()
        cluster.wait_until_writable()
        node = cluster.nodes[0]
        self.assertEqual(node.stop(), 0)
        lines = node.log().splitlines()
        self.assertGreater(len(lines), 2)
        for line in lines:
            record = json.loads(line)
            self.assertIsInstance(record, dict)
            self.assertIn(record["level"].lower(), ("debug", "info", "warn", "error"))

    def test_a_peer_that_is_away_is_named(self):
        cluster = self.cluster(3, {"election-timeout": 500, "heartbeat": 100, "max-conn-retry-attempts": 2}).start()
        leader = cluster.wait_for_leader()
        gone = cluster.followers()[0]
        gone.kill()
        others = [node for node in cluster.nodes if node is not gone]
        e2e.wait_until(lambda: any(f"lost the connection to a member node={gone.name}" in node.log() for node in others), "a line")
        member = lambda: next(m for m in leader.cluster()["members"] if m["node_id"] == gone.name)
        e2e.wait_until(lambda: not member()["reachable"], "its status")
        gone.start()
        e2e.wait_until(lambda: member()["reachable"], "its status")


class RestartTest(e2e.TestCase):
    SETTINGS = {"election-timeout": 500, "heartbeat": 100}

    def fill(self, cluster, count=300):
        held = {f"key-{i}": f"value {i}" for i in range(count)}
        with cluster.nodes[0].client() as client:
            for key, value in held.items():
                self.assertEqual(client.put(key, value).status, 200)
            for i in range(0, count, 10):
                self.assertEqual(client.delete(f"key-{i}").json()["deleted"], True)
                held[f"key-{i}"] = None
        return held

    def assert_holds(self, nodes, held):
        for node in nodes:
            with node.client() as client:
                for key, value in held.items():
                    answer = client.get(key)
                    found = answer.json()["v"] if answer.status == 200 else None
                    self.assertIn(answer.status, (200, 404))
                    self.assertEqual(found, value, (node.name, key))

    def test_all_keep_their_data(self):
        cluster = self.cluster(3, self.SETTINGS).start()
        cluster.wait_until_writable()
        held = self.fill(cluster)
        before = cluster.wait_until_equal()[0]
        for kill in (True, False, True):
            for node in cluster.nodes:
                node.kill() if kill else self.assertEqual(node.stop(), 0)
            cluster.start()
            cluster.wait_until_writable()
            self.assert_holds(cluster.nodes, held)
            after = cluster.wait_until_equal()[0]
            self.assertEqual(after["cluster_id"], before["cluster_id"])
            self.assertGreater(after["revision"], before["revision"])
            before = after

    def test_one_after_the_other_is_upgraded(self):
        """A rolling restart, under load: nobody loses anything."""
        cluster = self.cluster(3, self.SETTINGS).start()
        cluster.wait_until_writable()
        for node in cluster.nodes:
            others = [other for other in cluster.nodes if other is not node]
            writer = Writer(others[0])
            writer.start()
            self.assertEqual(node.stop(), 0)
            node.start()
            cluster.wait_until_writable()
            writer.finish()
            with node.client() as client:
                for number in writer.acknowledged:
                    self.assertEqual(client.get(f"written-{number}").status, 200)
        cluster.wait_until_equal()

    def test_one_alone(self):
        cluster = self.cluster(1)
        cluster.config_file.unlink()  # no cluster configuration at all
        node = cluster.nodes[0]
        node.flags = [f"--api-port={node.api_port}", f"--rpc-port={node.rpc_port}"]
        node.start()
        cluster.wait_until_writable()
        held = self.fill(cluster)
        status = node.cluster()
        self.assertEqual([member["node_id"] for member in status["members"]], ["node-1"])
        for kill in (True, False):
            node.kill() if kill else self.assertEqual(node.stop(), 0)
            node.start()
            cluster.wait_until_writable()
            self.assert_holds([node], held)
        self.assertEqual(node.cluster()["cluster_id"], status["cluster_id"])

    def test_a_wiped_disk_catches_up_and_counts_again(self):
        cluster = self.cluster(3, self.SETTINGS).start()
        cluster.wait_until_writable()
        held = self.fill(cluster)
        for node in cluster.nodes:  # each in turn, whoever leads
            node.kill()
            node.wipe()
            node.start()
            cluster.wait_until_writable()
            self.assertIn("wiped", node.log())
            e2e.wait_until(lambda: (status := node.cluster()) and not status["uncertain"], "it is certain again")
            # Its vote is needed now.
            other = next(one for one in cluster.nodes if one is not node)
            other.kill()
            cluster.wait_until_writable()
            self.assert_holds(cluster.running(), held)
            other.start()
            cluster.wait_until_writable()
        cluster.wait_until_equal()
        self.assert_holds(cluster.nodes, held)

    def test_a_wiped_disk_and_nobody_to_ask(self):
        """Two of three lose their disks: the third alone can't know what they had acknowledged, so nothing is served until an
        operator decides. Then what the third one has is kept."""
        cluster = self.cluster(3, self.SETTINGS).start()
        cluster.wait_until_writable()
        held = self.fill(cluster)
        cluster.wait_until_equal()
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes[1:]:
            node.wipe()
        cluster.start()
        for node in cluster.nodes[1:]:
            e2e.wait_until(lambda: "wiped" in node.log(), "it knows that it was wiped")
        time.sleep(3)  # several election timeouts
        for node in cluster.nodes:
            self.assert_json_error(node.request("GET", "/v1/data/key-1"), 503)
            self.assert_json_error(node.request("POST", "/v1/data", {"k": "key-1", "v": "lost?"}), 503)
        # The operator's decision: one of them counts as it is, and the other one catches up from the two.
        forced = cluster.nodes[1]
        forced.kill()
        forced.wipe()
        forced.flags = [*forced.flags, "--force-start"]
        forced.start()
        cluster.wait_until_writable()
        self.assert_holds(cluster.nodes, held)
        e2e.wait_until(lambda: not any(node.cluster()["uncertain"] for node in cluster.nodes), "all are certain")
        cluster.wait_until_equal()


class MembershipTest(e2e.TestCase):
    """The file seeds the cluster at its first start. Afterwards other members in it are reported, and not obeyed."""

    def test_an_absent_member_is_missed_by_all(self):
        cluster = self.cluster(settings={"rpc-timeout": 300}).start()
        cluster.wait_until_writable()
        for away in cluster.nodes:
            away.kill()
            there = [node for node in cluster.nodes if node is not away]
            pattern = re.compile(rf"WARN (a member can't be reached|a member is away) node={away.name} ")
            e2e.wait_until(lambda: all(pattern.search(node.log()) for node in there), "both warn")
            away.start()
            cluster.wait_until_writable()
            e2e.wait_until(
                lambda: all(f"a member can be reached again node={away.name}" in node.log() for node in there), "and say when it is back"
            )

    def write(self, cluster, node, members):
        path = node.directory / "cluster.json"
        path.write_text(json.dumps(members))
        node.flags = [flag for flag in node.flags if "cluster-config-path" not in flag] + [f"--cluster-config-path={path}"]

    def test_a_file_with_fewer_members(self):
        cluster = self.cluster(3, {"election-timeout": 500, "heartbeat": 100}).start()
        cluster.wait_until_writable()
        members = json.loads(cluster.config_file.read_text())
        for node in cluster.nodes:
            self.assertEqual(node.stop(), 0)
        node = cluster.nodes[0]
        self.write(cluster, node, members[:1])
        node.start()
        e2e.wait_until(lambda: node.cluster(), "it answers")
        time.sleep(2)  # it would lead by now
        status = node.cluster()
        self.assertEqual([member["node_id"] for member in status["members"]], ["node-1", "node-2", "node-3"])
        self.assert_json_error(node.request("POST", "/v1/data", {"k": "a", "v": "alone?"}), 503, "no_leader")
        self.assertRegex(node.log(), r"WARN.*node-2")
        for other in cluster.nodes[1:]:
            other.start()
        cluster.wait_until_writable()
        cluster.wait_until_equal()

    def test_a_file_with_more_members(self):
        cluster = self.cluster(3, {"election-timeout": 500, "heartbeat": 100}).start()
        cluster.wait_until_writable()
        members = json.loads(cluster.config_file.read_text())
        node = cluster.nodes[0]
        self.assertEqual(node.stop(), 0)
        self.write(cluster, node, [*members, {"node_id": "node-9", "rpc_url": "localhost:1", "api_url": "localhost:2"}])
        node.start()
        cluster.wait_until_writable()
        self.assertRegex(node.log(), r"WARN.*node-9")
        self.assertEqual([member["node_id"] for member in node.cluster()["members"]], ["node-1", "node-2", "node-3"])
        # It still counts: with one of the others there is a quorum.
        cluster.nodes[1].kill()
        cluster.wait_until_writable()
        cluster.nodes[1].start()
        cluster.wait_until_equal()

    def test_new_addresses_are_taken(self):
        cluster = self.cluster(3, {"election-timeout": 500, "heartbeat": 100}).start()
        cluster.wait_until_writable()
        members = json.loads(cluster.config_file.read_text())
        for node in cluster.nodes:
            self.assertEqual(node.stop(), 0)
        ports = e2e.free_ports(3)
        for node, member, port in zip(cluster.nodes, members, ports):
            member["rpc_url"] = f"127.0.0.1:{port}"
            node.rpc_port = port
        cluster.config_file.write_text(json.dumps(members))
        cluster.start()
        cluster.wait_until_writable()
        self.assertEqual([m["rpc_address"] for m in cluster.nodes[2].cluster()["members"]], [m["rpc_url"] for m in members])
        cluster.wait_until_equal()


class CommandsTest(e2e.TestCase):
    def run_ok(self, *arguments, **named):
        result = e2e.coracle(*arguments, **named)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result)
        return result.stdout

    def run_failing(self, code, *arguments, **named):
        result = e2e.coracle(*arguments, **named)
        self.assertEqual(result.returncode, code, result)
        return result

    def test_put_get_del_status(self):
        cluster = self.cluster(3, {"election-timeout": 1000, "heartbeat": 100}).start()
        cluster.wait_until_writable()
        environment = {"CORACLE_ENDPOINTS": cluster.endpoints()}
        run = lambda *arguments, **named: self.run_ok(*arguments, environment=environment, **named)
        self.assertEqual(run("put", "greeting", "hello"), "ok\n")
        self.assertEqual(run("get", "greeting"), "hello\n")
        self.assertEqual(run("get", "greeting", "--raw"), "hello")
        self.assertEqual(json.loads(run("get", "greeting", "--json")), {"k": "greeting", "v": "hello"})
        self.assertGreater(json.loads(run("put", "--json", "greeting", "again"))["revision"], 0)
        for key, value in (("a/b c", "ü"), ("empty", ""), ("--", "--dashes"), ("100%", "%41"), ("k" * 65536, "long")):
            self.assertEqual(run("put", "--", key, value), "ok\n")
            self.assertEqual(run("get", "--raw", "--", key), value)
        self.assertEqual(run("put", "from stdin", "--file=-", stdin="line\n"), "ok\n")
        self.assertEqual(run("get", "--raw", "from stdin"), "line\n")
        raw = self.directory() / "raw"
        raw.write_bytes(b"\xff\x00\xfe")
        run("put", "bytes", f"--file={raw}")
        result = subprocess.run(
            [e2e.BINARY, "get", "--raw", "bytes"], env={**os.environ, **environment}, capture_output=True, timeout=e2e.WAIT_S
        )
        self.assertEqual(result.stdout, b"\xff\x00\xfe")
        self.assertEqual(json.loads(run("del", "greeting", "--json"))["deleted"], True)
        self.assertEqual(json.loads(run("del", "greeting", "--json"))["deleted"], False)

        result = self.run_failing(1, "get", "greeting", environment=environment)
        self.assertEqual(result.stdout, "")
        self.assertIn("no such key", result.stderr)
        result = self.run_failing(1, "get", "greeting", "--json", environment=environment)
        self.assertEqual(json.loads(result.stdout or result.stderr)["error"]["code"], "not_found")
        self.run_failing(1, "put", "k", f"--file={raw}-missing", environment=environment)
        large = self.directory() / "large"
        large.write_bytes(b"x" * (1536 * 1024 + 1))
        self.assertIn("request_too_large", self.run_failing(1, "put", "k", f"--file={large}", environment=environment).stderr)

        status = json.loads(run("status", "--json"))
        self.assertEqual(status["leader"], cluster.wait_for_leader().name)
        text = run("status")
        for node in cluster.nodes:
            self.assertIn(node.name, text)
        # Columns stand under their headings, however long names and addresses are.
        heading, *rows = text.split("\n\n")[1].splitlines()
        for row in rows:
            self.assertIn(row[heading.index("REACHABLE") :].split()[0], ("yes", "no"))

    def test_endpoints(self):
        cluster = self.cluster(3, {"election-timeout": 500, "heartbeat": 100}).start()
        cluster.wait_until_writable()
        (nobody,) = e2e.free_ports(1)
        dead = f"127.0.0.1:{nobody}"
        self.assertEqual(self.run_ok("put", "k", "v", f"--endpoints={dead},{cluster.nodes[2].endpoint()}"), "ok\n")
        self.assertEqual(self.run_ok("get", "k", f"--endpoints={dead},{cluster.nodes[1].endpoint()}"), "v\n")
        cluster.nodes[0].kill()
        cluster.wait_until_writable()
        self.assertEqual(self.run_ok("put", "k", "v2", f"--endpoints={cluster.endpoints()}", "--timeout=30000"), "ok\n")
        flag_wins = self.run_ok("get", "k", f"--endpoints={cluster.nodes[1].endpoint()}", environment={"CORACLE_ENDPOINTS": dead})
        self.assertEqual(flag_wins, "v2\n")
        result = self.run_failing(1, "get", "k", f"--endpoints={dead}", "--timeout=500")
        self.assertIn(dead, result.stderr)
        for bad in ("", "host:", ":1", "host:0", "a:1,,b:2"):
            self.run_failing(2, "get", "k", f"--endpoints={bad}")

    def local_cluster(self):
        place = self.directory()
        ports = e2e.free_ports(6)
        api, rpc = ports[0], None
        while True:  # three neighbours each
            api, rpc = e2e.free_ports(1)[0], e2e.free_ports(1)[0]
            if all(e2e.is_free("127.0.0.1", port + i) for port in (api, rpc) for i in range(3)) and abs(api - rpc) > 3:
                break
        flags = [f"--cluster-dir={place}/c", "--cluster-size=3", f"--api-port-start={api}", f"--rpc-port-start={rpc}", "--node-prefix=n"]
        self.assertIn("n-3", self.run_ok("cluster", "init", *flags))
        directory = f"--cluster-dir={place}/c"
        self.addCleanup(e2e.coracle, "cluster", "down", directory)
        return place / "c", directory, f"127.0.0.1:{api},127.0.0.1:{api + 1},127.0.0.1:{api + 2}"

    def test_cluster_commands(self):
        place, directory, endpoints = self.local_cluster()
        again = self.run_failing(1, "cluster", "init", directory)
        self.assertIn("already", again.stderr)
        self.assertIn("already", self.run_failing(1, "cluster", "init", directory, "--dry-run").stderr)
        # What a dry run prints is what the real one writes.
        lines = self.run_ok("cluster", "init", f"--cluster-dir={place}-dry", "--cluster-size=2", "--dry-run").splitlines()
        self.assertFalse(pathlib.Path(f"{place}-dry").exists())
        self.run_ok("cluster", "init", f"--cluster-dir={place}-dry", "--cluster-size=2")
        for name in ("cluster.json", "node-1/config.json", "node-2/config.json"):
            written = pathlib.Path(f"{place}-dry", name)
            at = lines.index(str(written)) + 1
            text = written.read_text().splitlines()
            self.assertEqual(lines[at : at + len(text)], text)
        commands = self.run_ok("cluster", "up", directory, "--dry-run").splitlines()
        self.assertEqual(len(commands), 3)
        for i, command in enumerate(commands):
            self.assertIn(f"n-{i + 1}", command)
        self.assertEqual(self.run_ok("cluster", "down", directory), "none was running\n")
        self.run_failing(1, "cluster", "status", directory)

        self.assertIn("leads", self.run_ok("cluster", "up", directory, "--detach"))
        self.run_failing(1, "cluster", "up", directory, "--detach")
        self.assertEqual(self.run_ok("put", "k", "v", f"--endpoints={endpoints}"), "ok\n")
        statuses = json.loads(self.run_ok("cluster", "status", directory, "--json"))
        self.assertEqual([row["node_id"] for row in statuses], ["n-1", "n-2", "n-3"])
        self.assertEqual(len({row["status"]["leader"] for row in statuses}), 1)
        self.assertIn("n-2", self.run_ok("cluster", "status", directory))
        os.kill(statuses[0]["pid"], signal.SIGKILL)
        e2e.wait_until(lambda: e2e.coracle("cluster", "status", directory).returncode == 1, "one is missing")
        self.assertIn("leads", self.run_ok("cluster", "up", directory, "--detach"))  # starts what is missing
        e2e.wait_until(lambda: e2e.coracle("cluster", "status", directory).returncode == 0, "all answer")
        self.assertEqual(self.run_ok("cluster", "down", directory), "stopped 3\n")
        self.assertIn("leads", self.run_ok("cluster", "up", directory, "--detach"))
        self.assertEqual(self.run_ok("get", "k", f"--endpoints={endpoints}", "--timeout=30000"), "v\n")
        self.assertEqual(self.run_ok("cluster", "down", directory), "stopped 3\n")
        self.run_failing(1, "cluster", "up", f"--cluster-dir={place}/nowhere")

    def test_cluster_up_in_the_foreground(self):
        place, directory, endpoints = self.local_cluster()
        for number in (signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen(
                [e2e.BINARY, "cluster", "up", directory], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=e2e.clean_environment(), text=True
            )
            self.addCleanup(process.stdout.close)
            self.addCleanup(process.kill)
            line = ""
            while "Ctrl-C" not in line:
                line = process.stdout.readline()
                self.assertNotEqual(line, "", "it ended")
            self.assertEqual(self.run_ok("put", "k", "v", f"--endpoints={endpoints}", "--timeout=30000"), "ok\n")
            process.send_signal(number)
            self.assertIn("stopped", process.stdout.read())
            self.assertEqual(process.wait(e2e.WAIT_S), 0)
            self.assertEqual(self.run_ok("cluster", "down", directory), "none was running\n")
        # When it is killed, its nodes don't stay behind.
        process = subprocess.Popen([e2e.BINARY, "cluster", "up", directory], stdout=subprocess.PIPE, env=e2e.clean_environment(), text=True)
        self.addCleanup(process.stdout.close)
        line = ""
        while "Ctrl-C" not in line:
            line = process.stdout.readline()
            self.assertNotEqual(line, "", "it ended")
        process.kill()
        process.wait()
        e2e.wait_until(lambda: e2e.coracle("cluster", "down", directory).stdout == "none was running\n", "they end too")

    def test_backup_restore_debug(self):
        cluster = self.cluster(1, {"snapshot-log-bytes": "64KiB"}).start()
        cluster.wait_until_writable()
        node = cluster.nodes[0]
        with node.client() as client:
            for i in range(400):
                self.assertEqual(client.put(f"key-{i % 50}", f"{i} " + "x" * 500).status, 200)
        e2e.wait_until(lambda: node.cluster()["snapshot_index"] > 0, "a snapshot")
        place = self.directory()
        backup = place / "backup.snap"
        self.run_ok("backup", backup, f"--data-dir={node.data}")
        self.run_ok("backup", backup, "--check")
        # A new one is made when it is asked for, and holds all that was acknowledged.
        endpoint = f"--endpoints=127.0.0.1:{node.api_port}"
        for i in range(2):
            with node.client() as client:
                self.assertEqual(client.put(f"late-{i}", "x").status, 200)
            answer = self.run_ok("backup", backup, f"--data-dir={node.data}", "--now", endpoint, "--json")
            self.assertEqual(json.loads(answer)["keys"], 52 + i)  # one is of wait_until_writable
            self.assertEqual(json.loads(answer)["revision"], node.cluster()["revision"])
        self.run_failing(1, "backup", backup, f"--data-dir={node.data}", "--now", "--endpoints=127.0.0.1:1", "--timeout=300")
        other = self.cluster(1).start()
        other.wait_until_writable()
        elsewhere = place / "elsewhere.snap"
        result = self.run_failing(1, "backup", elsewhere, f"--data-dir={other.nodes[0].data}")
        self.assertIn("--now", result.stderr)
        self.assertFalse(elsewhere.exists())
        self.assertGreater(json.loads(self.run_ok("backup", backup, "--check", "--json"))["index"], 0)
        for kind, pattern in (("log", "log/*.seg"), ("snapshot", "snapshot/*.snap"), ("state", "state")):
            for path in node.data.glob(pattern):
                self.assertNotEqual(self.run_ok("debug", kind, path), "")

        # A restored node is another cluster with the same contents, and takes new ones, also under the name that it had.
        for name in ("restored", "node-1"):
            self.restore(node, backup, name, place / f"as-{name}")

        garbled = bytearray(backup.read_bytes())
        garbled[len(garbled) // 2] ^= 1
        backup.write_bytes(garbled)
        result = self.run_failing(1, "backup", backup, "--check")
        self.assertIn(str(backup), result.stderr)
        self.run_failing(1, "restore", backup, "--id=another", f"--data-dir={place}/another")
        self.assertFalse((place / "another" / "state").exists())

    def test_version(self):
        text = self.run_ok("version")
        self.assertEqual(json.loads(self.run_ok("version", "--json")), {"coracle": text.split()[1]})
        for asked in (("version", "--help"), ("help", "version")):
            self.assertIn("Usage: coracle version", self.run_ok(*asked))
        for wrong in ("extra", "--jsno"):
            result = self.run_failing(2, "version", wrong)
            self.assertEqual(result.stdout, "")
            self.assertIn(wrong, result.stderr)

    def test_failing_backups_say_why(self):
        place = self.directory()
        backup = place / "backup.snap"
        result = self.run_failing(1, "backup", backup, f"--data-dir={place}/nowhere")
        self.assertIn(f"no directory {place}/nowhere/snapshot", result.stderr)
        backup.write_bytes(b"nonsense" * 10)
        for arguments, code in ((("--check",), "damaged"), ((f"--data-dir={place}/nowhere",), "no_file")):
            result = self.run_failing(1, "backup", backup, "--json", *arguments)
            self.assertEqual((json.loads(result.stdout)["error"]["code"], result.stderr), (code, ""))
            self.assertTrue(json.loads(result.stdout)["error"]["message"])
        for kind in ("log", "snapshot", "state"):
            self.assertRegex(self.run_failing(1, "debug", kind, backup).stdout, "this is (no|neither)")

    def restore(self, node, backup, name, data):
        ports = e2e.free_ports(2)
        flags = [f"--id={name}", f"--data-dir={data}", f"--api-port={ports[0]}", f"--rpc-port={ports[1]}"]
        self.run_ok("restore", backup, *flags)
        self.run_failing(1, "restore", backup, *flags)
        other = self.cluster(1)
        restored = other.nodes[0]
        restored.command = lambda: [e2e.BINARY, *flags]
        restored.api_port, restored.rpc_port = ports
        other.start()
        other.wait_until_writable()
        self.assertNotEqual(restored.cluster()["cluster_id"], node.cluster()["cluster_id"])
        with restored.client() as client:
            for i in range(50):
                self.assertEqual(client.get(f"key-{i}").status, 200)


if __name__ == "__main__":
    e2e.main()
