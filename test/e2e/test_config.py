"""Bad configuration, bad files, bad neighbours: everything is refused with the reason, and nothing is harmed."""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

import cluster as e2e
import peer_frames

# As the original's users start it; D is a directory, and three such nodes share one machine.
LAUNCH_LINE = (
    "--id=node-1 --api-port=7777 --rpc-port=6666 --log-entry-path=D/log --log-metadata-path=D/log/metadata.json "
    "--raft-state-path=D/state/state.json --election-timeout=3000 --heartbeat=500 --rpc-timeout=1000 --api-timeout=2000 "
    "--api-fwd-timeout=1500 --max-conn-retry-attempts=5 --snapshot-path=D/snapshot --join-mode=cluster-file "
    "--cluster-config-path=D/cluster/config.json"
)


class ProblemsTest(e2e.TestCase):
    """Exit code 2, one line a problem, each beginning with its field; and no trace on the disk."""

    def setUp(self):
        self.place = self.directory()

    def problems(self, *flags, environment=None, exit_code=2):
        before = sorted(self.place.rglob("*"))
        result = e2e.coracle("serve", *flags, environment=environment, cwd=self.place)
        self.assertEqual(result.returncode, exit_code, result)
        self.assertEqual(result.stdout, "", result)
        self.assertEqual(sorted(self.place.rglob("*")), before, "nothing is made")
        lines = result.stderr.splitlines()
        for line in lines:
            self.assertRegex(line, r"^[-a-z0-9_]+: .+; .+$")
        return [line.split(": ", 1)[0] for line in lines], result.stderr

    def cluster_file(self, content):
        path = self.place / "cluster.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return f"--cluster-config-path={path}"

    def members(self, *rows):
        return self.cluster_file([dict(zip(("node_id", "rpc_url", "api_url"), row)) for row in rows])

    def test_all_at_once(self):
        fields, _ = self.problems(
            "--id=-bad-",
            "--api-port=0",
            "--rpc-port=65536",
            "--election-timeout=soon",
            "--heartbeat=-5",
            "--rpc-timeout=1s",
            "--api-timeout=",
            "--max-conn-retry-attempts=0",
            "--join-mode=carrier-pigeon",
            "--log-entry-path=/dev/null/log",
            "--snapshot-path=/proc/nowhere/at/all",
            "--log-level=chatty",
            "--max-request-bytes=1PiB",
            "--no-such-flag=1",
            "stray",
        )
        expected = {"node_id", "api_port", "rpc_port", "election_timeout_in_millis", "heartbeat_interval_in_millis"}
        expected |= {"rpc_timeout_in_millis", "api_timeout_in_millis", "max_conn_retry_attempts", "cluster_mode"}
        expected |= {"write_ahead_log_entry_path", "snapshot_path", "log_level", "max_request_bytes", "--no-such-flag", "arguments"}
        self.assertEqual(set(fields), expected)
        self.assertEqual(len(fields), len(expected))

    def test_nothing_given(self):
        fields, text = self.problems("--api-port=7001", "--data-dir=d")
        self.assertEqual(fields, ["node_id"])
        self.assertIn("--id", text)

    def test_equal_ports(self):
        fields, _ = self.problems("--id=a", "--api-port=7001", "--rpc-port=7001", "--data-dir=d")
        self.assertEqual(fields, ["rpc_port"])

    def test_timeouts_that_do_not_fit_together(self):
        fields, _ = self.problems("--id=a", "--election-timeout=500", "--heartbeat=200", "--api-timeout=100", "--api-fwd-timeout=101")
        self.assertEqual(fields, ["heartbeat_interval_in_millis", "api_fwd_timeout_in_millis"])

    def test_paths_that_can_not_be_used(self):
        (self.place / "file").write_text("")
        flags = ["--log-entry-path=file", "--raft-state-path=file/state", "--snapshot-path=/dev/null/x", "--log-metadata-path=/dev/zero"]
        fields, _ = self.problems("--id=a", *flags)
        paths = ["write_ahead_log_entry_path", "write_ahead_log_metadata_path", "raft_state_path", "snapshot_path"]
        self.assertEqual(sorted(fields), sorted(paths))
        fields, _ = self.problems("--id=a", "--raft-state-path=d/one", "--log-metadata-path=d/one")
        self.assertEqual(len(fields), 1)

    @unittest.skipIf(os.geteuid() == 0 and shutil.which("setpriv") is None, "root may write everywhere")
    def test_paths_without_permission(self):
        locked = self.place / "locked"
        locked.mkdir(mode=0o500)
        self.place.chmod(0o755)
        prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups") if os.geteuid() == 0 else ()
        result = e2e.coracle("serve", "--id=a", f"--data-dir={locked}/d", prefix=prefix, cwd="/")
        if result.returncode in (126, 127) or "exec" in result.stderr.split(":")[0]:
            self.skipTest("another user can't run the program here")
        self.assertEqual(result.returncode, 2, result)
        self.assertIn("Permission denied", result.stderr)

    def test_cluster_files(self):
        good = ("a", "localhost:1001", "localhost:1002")
        bad = {
            "no JSON": self.cluster_file,
            "": self.cluster_file,
            '[{"node_id":"a"': self.cluster_file,
            "{}": self.cluster_file,
            "[]": self.cluster_file,
            "[1]": self.cluster_file,
            '[{"node_id":"a","rpc_url":"h:1","api_url":"h:2","colour":"red"}]': self.cluster_file,
            '[{"node_id":"a","rpc_url":"h:1","rpc_url":"h:1","api_url":"h:2"}]': self.cluster_file,
            '[{"node_id":1,"rpc_url":"h:1","api_url":"h:2"}]': self.cluster_file,
        }
        for content in bad:
            fields, _ = self.problems("--id=a", self.cluster_file(content))
            self.assertIn("cluster_config_path", fields, content)
        for rows in (
            [good, ("a", "localhost:1003", "localhost:1004")],
            [good, ("b", "localhost:1001", "localhost:1004")],
            [good, ("b", "localhost:1003", "localhost:1002")],
            [good, ("b", "localhost:1003", "localhost:1001")],
            [("a", "localhost:1001", "localhost:1001")],
            [good, ("b", "localhost", "localhost:1004")],
            [good, ("b", "localhost:0", "localhost:1004")],
            [good, ("b", "localhost:99999", "localhost:1004")],
            [good, ("b", "http://localhost:1003", "localhost:1004")],
            [good, ("", "localhost:1003", "localhost:1004")],
            [good, ("b b", "localhost:1003", "localhost:1004")],
            [(f"n{i}", f"localhost:{2000 + i}", f"localhost:{3000 + i}") for i in range(100)],
        ):
            fields, text = self.problems("--id=a", self.members(*rows))
            self.assertEqual(set(fields), {"cluster_config_path"}, text)
        fields, text = self.problems("--id=other", self.members(good))
        self.assertEqual(fields, ["node_id"], text)
        self.assertIn("other", text)

    def test_cluster_files_that_can_not_be_read(self):
        for path in ("missing.json", ".", "/dev/null/x"):
            fields, text = self.problems("--id=a", f"--cluster-config-path={path}")
            self.assertEqual(fields, ["cluster_config_path"], text)
            self.assertIn(path, text)

    def test_all_problems_of_a_cluster_file_at_once(self):
        rows = [("a", "localhost:1", "localhost:2"), ("a", "nowhere", "localhost:2"), ("c!", "localhost:5", "")]
        fields, text = self.problems("--id=a", "--heartbeat=5000", self.members(*rows))
        self.assertGreaterEqual(fields.count("cluster_config_path"), 5, text)
        self.assertIn("heartbeat_interval_in_millis", fields)
        for member in ("member 2", "member 3"):
            self.assertIn(member, text)

    def test_config_files(self):
        path = self.place / "config.json"
        path.write_text(json.dumps({"node_id": 5, "api_port": "7777", "colour": "red", "election_timeout_in_millis": 1.5}))
        fields, _ = self.problems(f"--config-file={path}")
        self.assertEqual(set(fields), {"node_id", "api_port", "colour", "election_timeout_in_millis"})
        for content in ("", "{", "[]", '{"node_id":"a","node_id":"b"}', "\xff"):
            path.write_text(content, encoding="latin-1")
            fields, text = self.problems(f"--config-file={path}")
            self.assertIn("config_file", fields, text)
        fields, _ = self.problems("--config-file=missing.json")
        self.assertIn("config_file", fields)

    def test_bad_environment(self):
        environment = {"CORACLE_API_PORT": "x", "CORACLE_HEARTBEAT": "y"}
        fields, text = self.problems("--id=a", environment=environment)
        self.assertEqual(set(fields), {"api_port", "heartbeat_interval_in_millis"})
        self.assertIn("CORACLE_API_PORT", text)

    def test_slips_get_a_hint(self):
        _, text = self.problems("--id=a", "--aip-port=7001")
        self.assertIn("--api-port", text)

    def test_commands(self):
        for arguments in (["frobnicate"], ["put"], ["put", "k"], ["get"], ["get", "a", "b"], ["get", "k", "--nonsense"], ["cluster", "fly"]):
            result = e2e.coracle(*arguments)
            self.assertEqual(result.returncode, 2, result)
            self.assertNotEqual(result.stderr, "")
        for arguments in (["help"], ["--help"], ["serve", "--help"], ["put", "--help"], ["cluster", "--help"], ["version"], ["--version"]):
            result = e2e.coracle(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, ""), result)
            self.assertNotEqual(result.stdout, "")


class SettingsTest(e2e.TestCase):
    def setUp(self):
        self.place = self.directory()

    def settings(self, *flags, environment=None):
        result = e2e.coracle("serve", *flags, "--print-config", environment=environment, cwd=self.place)
        self.assertEqual(result.returncode, 0, result)
        return json.loads(result.stdout)

    def test_precedence(self):
        path = self.place / "config.json"
        path.write_text(json.dumps({"node_id": "from-file", "api_port": 1001, "rpc_port": 1002, "heartbeat_interval_in_millis": 51}))
        got = self.settings(f"--config-file={path}", environment={"CORACLE_RPC_PORT": "2002", "CORACLE_HEARTBEAT": "52"})
        self.assertEqual(got["node_id"], {"value": "from-file", "from": "config.json"} | {"from": got["node_id"]["from"]})
        self.assertIn("config.json", got["node_id"]["from"])
        self.assertEqual(got["rpc_port"], {"value": 2002, "from": "CORACLE_RPC_PORT"})
        got = self.settings(f"--config-file={path}", "--heartbeat-interval=53", environment={"CORACLE_HEARTBEAT": "52"})
        self.assertEqual(got["heartbeat_interval_in_millis"]["value"], 53)
        self.assertEqual(got["api_port"]["value"], 1001)
        self.assertEqual(got["election_timeout_in_millis"], {"value": 1000, "from": "default"})

    def test_the_container_variables(self):
        members = self.place / "members.json"
        members.write_text(json.dumps([{"node_id": "envy", "rpc_url": "localhost:1001", "api_url": "localhost:1002"}]))
        got = self.settings(environment={"NODE_ID": "envy", "CLUSTER_CONFIG_PATH": str(members)})
        self.assertEqual(got["node_id"], {"value": "envy", "from": "NODE_ID"})
        self.assertEqual(got["cluster_config_path"]["value"], str(members))
        self.assertEqual((got["rpc_port"]["value"], got["api_port"]["value"]), (1001, 1002), "its ports come from the file")
        got = self.settings(environment={"NODE_ID": "envy", "CORACLE_ID": "own"})
        self.assertEqual(got["node_id"]["value"], "own", "our own name for it wins")

    def test_paths(self):
        got = self.settings("--id=a", "--data-dir=d")
        names = ("write_ahead_log_entry_path", "write_ahead_log_metadata_path", "raft_state_path", "snapshot_path")
        self.assertEqual([got[name]["value"] for name in names], ["d/log", "d/log/metadata", "d/state", "d/snapshot"])
        (self.place / "volume").mkdir()
        got = self.settings("--id=a", "--raft-state-path=volume", "--log-metadata-path=other/")
        self.assertEqual(got["raft_state_path"]["value"], "volume/state")
        self.assertEqual(got["write_ahead_log_metadata_path"]["value"], "other/metadata")
        self.assertEqual(got["data_dir"]["value"], "a.coracle")

    def test_check(self):
        result = e2e.coracle("serve", "--id=a", "--check", cwd=self.place)
        self.assertEqual((result.returncode, result.stdout), (0, "ok\n"), result)
        self.assertEqual(list(self.place.iterdir()), [])
        self.assertEqual(e2e.coracle("--id=a", "--check", "--api-port=x", cwd=self.place).returncode, 2)


class LaunchLineTest(e2e.TestCase):
    def test_the_launch_line_as_it_stands(self):
        if not e2e.namespaces_work():
            self.skipTest("its ports may be in use, and there are no network namespaces")
        network = self.network(1)
        place = self.directory()
        (place / "cluster").mkdir()
        members = [
            {"node_id": f"node-{i + 1}", "rpc_url": f"localhost:{6666 + i}", "api_url": f"localhost:{7777 + i}"} for i in range(3)
        ]
        (place / "cluster/config.json").write_text(json.dumps(members))
        processes = []
        for i in range(3):
            line = LAUNCH_LINE.replace("D/", f"{place}/{i + 1}/").replace("--id=node-1", f"--id=node-{i + 1}")
            line = line.replace("7777", str(7777 + i)).replace("6666", str(6666 + i)).replace(f"{place}/{i + 1}/cluster", f"{place}/cluster")
            log = open(place / f"{i + 1}.log", "wb")
            self.addCleanup(log.close)
            process = subprocess.Popen(
                [*network.prefix(0), e2e.BINARY, *line.split()], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=e2e.clean_environment()
            )
            processes.append(process)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)

        def command(*arguments):
            return e2e.coracle(*arguments, prefix=network.prefix(0))

        e2e.wait_until(lambda: command("put", "k", "v", "--endpoints=localhost:7779").returncode == 0, "a write")
        self.assertEqual(command("get", "k").stdout, "v\n")
        for i in range(3):
            for path in ("log/metadata.json", "state/state.json", "snapshot"):
                self.assertTrue((place / str(i + 1) / path).exists(), path)
        for process in processes:
            process.terminate()
        self.assertEqual([process.wait(e2e.WAIT_S) for process in processes], [0, 0, 0])


class OneAtATimeTest(e2e.TestCase):
    def test_a_second_instance_on_the_same_data_is_refused(self):
        cluster = self.cluster(1).start()
        cluster.wait_until_writable()
        node = cluster.nodes[0]
        api, rpc = e2e.free_ports(2)
        result = e2e.coracle("serve", "--id=node-1", f"--data-dir={node.data}", f"--api-port={api}", f"--rpc-port={rpc}")
        self.assertEqual(result.returncode, 1, result)
        self.assertIn(f"held by process {node.process.pid}", result.stderr)
        self.assertIn(str(node.data), result.stderr)
        cluster.wait_until_writable()

    def test_a_port_in_use_is_named(self):
        cluster = self.cluster(1).start()
        cluster.wait_until_writable()
        node = cluster.nodes[0]
        (free,) = e2e.free_ports(1)
        for flags, port in (
            ([f"--api-port={node.api_port}", f"--rpc-port={free}"], node.api_port),
            ([f"--api-port={free}", f"--rpc-port={node.rpc_port}"], node.rpc_port),
        ):
            result = e2e.coracle("serve", "--id=a", f"--data-dir={self.directory()}/d", *flags)
            self.assertEqual(result.returncode, 1, result)
            self.assertIn("in use", result.stderr)
            self.assertIn(str(port), result.stderr)
        cluster.wait_until_writable()

    def test_another_nodes_data_are_refused(self):
        cluster = self.cluster(1).start()
        cluster.wait_until_writable()
        node = cluster.nodes[0]
        self.assertEqual(node.stop(), 0)
        api, rpc = e2e.free_ports(2)
        result = e2e.coracle("serve", "--id=other", f"--data-dir={node.data}", f"--api-port={api}", f"--rpc-port={rpc}")
        self.assertEqual(result.returncode, 1, result)
        self.assertIn("node-1", result.stderr)
        self.assertIn("other", result.stderr)

    def test_what_keeps_a_node_from_starting_is_one_log_line(self):
        data = f"{self.directory()}/d"
        os.makedirs(f"{data}/log")
        for name in ("state", "log/metadata"):
            pathlib.Path(data, name).write_bytes(b"x" * 8192)
        api, rpc = e2e.free_ports(2)
        result = e2e.coracle("serve", "--id=a", f"--data-dir={data}", f"--api-port={api}", f"--rpc-port={rpc}", "--log-format=json")
        self.assertEqual((result.returncode, result.stdout), (1, ""), result)
        lines = [json.loads(line) for line in result.stderr.splitlines()]
        self.assertEqual([(line["level"], line["event"]) for line in lines], [("error", "could not start node")])
        self.assertIn(f"{data}/state", lines[0]["cause"])
        self.assertFalse(any(value.startswith('"') for value in lines[0].values()), lines)


def flip(path, offset, size=1):
    with open(path, "r+b") as file:
        file.seek(offset)
        data = file.read(size)
        file.seek(offset)
        file.write(bytes(byte ^ 0x5A for byte in data))


def find(path, data):
    """Where the newest occurrence of these bytes is."""
    offset = path.read_bytes().rfind(data)
    assert offset >= 0, f"{data} isn't in {path}"
    return offset


class DamageTest(e2e.TestCase):
    SETTINGS = {"election-timeout": 500, "heartbeat": 100, "snapshot-log-bytes": "64KiB", "log-tail-bytes": 0}

    def filled(self, size, writes=300):
        """A cluster with a snapshot, entries after it, and all that it should hold."""
        cluster = self.cluster(size, self.SETTINGS).start()
        cluster.wait_until_writable()
        held = {}
        with cluster.wait_for_leader().client() as client:
            for i in range(writes):
                held[f"key-{i % 100}"] = f"value-{i}-" + "x" * 600
                self.assertEqual(client.put(f"key-{i % 100}", held[f"key-{i % 100}"]).status, 200)
            e2e.wait_until(lambda: all(node.cluster()["snapshot_index"] > 0 for node in cluster.nodes), "snapshots")
            for i in range(20):
                held[f"last-{i}"] = f"after the snapshot {i}"
                self.assertEqual(client.put(f"last-{i}", held[f"last-{i}"]).status, 200)
        cluster.wait_until_equal()
        return cluster, held

    def segment_with(self, node, data):
        for path in sorted((node.data / "log").glob("*.seg"), reverse=True):
            if data in path.read_bytes():
                return path
        raise AssertionError(f"{data} is in no segment of {node.name}")

    def assert_holds(self, cluster, held, nodes=None):
        for node in nodes or cluster.nodes:
            with node.client() as client:
                for key, value in held.items():
                    answer = client.get(key)
                    self.assertEqual((answer.status, answer.json().get("v")), (200, value), (node.name, key))

    def assert_refuses(self, node, path, offset=None):
        """It ends with exit code 1 and names the file, and where in it."""
        node.start()
        self.assertEqual(node.wait(), 1)
        text = node.log().splitlines()[-1]
        self.assertIn(str(path), node.log())
        self.assertRegex(node.log(), rf"{re.escape(path.name)}.*\boffset\b")
        if offset is not None:
            offsets = [int(match) for match in re.findall(r"offset (\d+)", node.log())]
            self.assertTrue(any(found <= offset < found + 8192 for found in offsets), (offset, node.log()))
        return text

    # ---- one node alone: there is nobody to take the data from ----

    def test_alone_with_a_damaged_log(self):
        cluster, held = self.filled(1)
        node = cluster.nodes[0]
        self.assertEqual(node.stop(), 0)
        path = self.segment_with(node, b"after the snapshot 5")
        offset = find(path, b"after the snapshot 5")
        flip(path, offset)
        self.assert_refuses(node, path, offset)
        flip(path, offset)  # put right again, it starts and has everything: the refusal touched nothing
        node.start()
        cluster.wait_until_writable()
        self.assert_holds(cluster, held)

    def test_alone_with_a_lost_segment(self):
        cluster, held = self.filled(1)
        node = cluster.nodes[0]
        self.assertEqual(node.stop(), 0)
        path = self.segment_with(node, b"after the snapshot 5")
        aside = node.directory / path.name
        path.rename(aside)
        node.start()
        self.assertEqual(node.wait(), 1)
        self.assertIn("log", node.log())
        aside.rename(path)
        node.start()
        cluster.wait_until_writable()
        self.assert_holds(cluster, held)

    def test_alone_with_a_damaged_state(self):
        cluster, held = self.filled(1)
        node = cluster.nodes[0]
        path = node.data / "state"
        for offset in (0, 30, 4096, 4100):
            self.assertEqual(node.stop(), 0)
            flip(path, offset)  # one of two slots: the other one is as good
            node.start()
            cluster.wait_until_writable()
            self.assertRegex(node.log(), r"state.*offset")
        self.assertEqual(node.stop(), 0)
        # Both: nobody else was ever asked for a vote, so it goes on with its log, and keeps a copy of what was damaged.
        flip(path, 20)
        flip(path, 4096 + 20)
        damaged = path.read_bytes()
        node.start()
        cluster.wait_until_writable()
        self.assertRegex(node.log(), r"the raft state is lost.*state.*offset")
        self.assertEqual((node.data / "state.damaged-1").read_bytes(), damaged)
        self.assert_holds(cluster, held)

    def test_alone_with_a_missing_state(self):
        cluster, held = self.filled(1)
        node = cluster.nodes[0]
        self.assertEqual(node.stop(), 0)
        (node.data / "state").rename(node.data / "aside")
        # With the log's metadata gone too, nobody knows whose log it is: it refuses, and touches nothing.
        (node.data / "log/metadata").rename(node.data / "aside-metadata")
        before = sorted(path.name for path in node.data.glob("**/*"))
        node.start()
        self.assertEqual(node.wait(), 1)
        self.assertIn(str(node.data / "state"), node.log())
        self.assertIn(str(node.data / "log/metadata"), node.log())
        self.assertEqual(sorted(path.name for path in node.data.glob("**/*")), before)
        (node.data / "aside-metadata").rename(node.data / "log/metadata")
        node.start()
        cluster.wait_until_writable()
        self.assert_holds(cluster, held)

    def test_alone_with_a_damaged_snapshot(self):
        cluster, held = self.filled(1)
        node = cluster.nodes[0]
        self.assertEqual(node.stop(), 0)
        (path,) = (node.data / "snapshot").glob("*.snap")
        size = path.stat().st_size
        whole = path.read_bytes()
        for offset in (3, size // 3, size - 3, None):
            if offset is None:
                os.truncate(path, size - 1)
            else:
                flip(path, offset)
            damaged = path.read_bytes()
            self.assert_refuses(node, path)
            # It was set aside, as it was. And without it the node still doesn't believe that it is empty.
            self.assertFalse(path.exists())
            aside = sorted(path.parent.glob(f"{path.name}.*"))
            self.assertEqual(aside[-1].read_bytes(), damaged)
            node.start()
            self.assertEqual(node.wait(), 1)
            path.write_bytes(whole)
        node.start()
        cluster.wait_until_writable()
        self.assert_holds(cluster, held)

    # ---- with peers, what is missing comes from them ----

    def test_with_peers_a_damaged_log_is_filled_up(self):
        cluster, held = self.filled(3)
        for node in cluster.nodes:
            self.assertEqual(node.stop(), 0)
            path = self.segment_with(node, b"after the snapshot 5")
            flip(path, find(path, b"after the snapshot 5"))
            node.start()
            cluster.wait_until_writable()
            self.assertRegex(node.log(), rf"{re.escape(path.name)}.*offset")
            self.assert_recovers(cluster, held, node)

    def test_with_peers_a_damaged_snapshot_is_replaced(self):
        cluster, held = self.filled(3)
        node = cluster.followers()[0]
        self.assertEqual(node.stop(), 0)
        (path,) = (node.data / "snapshot").glob("*.snap")
        flip(path, path.stat().st_size // 2)
        node.start()
        cluster.wait_until_writable()
        self.assertRegex(node.log(), rf"{re.escape(path.name)}.*offset")
        self.assert_recovers(cluster, held, node)

    def test_with_peers_a_damaged_state_costs_term_and_vote_only(self):
        """Without them it could vote twice, so it catches up first; its log stays."""
        cluster, held = self.filled(3)
        node = cluster.followers()[0]
        self.assertEqual(node.stop(), 0)
        path = node.data / "state"
        flip(path, 100)
        flip(path, 4096 + 100)
        installed = sum("installed a leader's snapshot" in one.log() for one in cluster.nodes)
        node.start()
        cluster.wait_until_writable()
        self.assertRegex(node.log(), r"the raft state is lost.*state.*offset")
        self.assert_recovers(cluster, held, node)
        self.assertIn("log is complete again", node.log())
        self.assertEqual(sum("installed a leader's snapshot" in one.log() for one in cluster.nodes), installed)

    def assert_recovers(self, cluster, held, node):
        """It has everything again, and counts again: the cluster goes on with it and one other node."""
        e2e.wait_until(lambda: (status := node.cluster()) and not status["uncertain"], f"{node.name} is certain again")
        cluster.wait_until_equal()
        self.assert_holds(cluster, held, [node])
        third = next(one for one in cluster.nodes if one is not node)
        third.kill()
        cluster.wait_until_writable()
        third.start()
        cluster.wait_until_writable()
        cluster.wait_until_equal()
        self.assert_holds(cluster, held)


class WrongPeersTest(e2e.TestCase):
    SETTINGS = {"election-timeout": 1000, "heartbeat": 100, "rpc-timeout": 700}

    def setUp(self):
        self.members = self.cluster(3, self.SETTINGS).start()
        self.members.wait_until_writable()
        self.target = self.members.wait_for_leader()
        self.greeting = self.greeting_of(self.target)
        follower = next(node for node in self.members.nodes if node is not self.target)
        self.others_greeting = self.greeting_of(follower)
        self.term = self.target.cluster()["term"]

    def tearDown(self):
        """Harmless: the same leader in the same term, all reachable, and all agree."""
        self.members.assert_alive()
        status = self.target.cluster()
        self.assertEqual((status["role"], status["term"]), ("leader", self.term))
        self.assertEqual({member["reachable"] for member in status["members"]}, {True})
        self.members.wait_until_writable()
        self.members.wait_until_equal()

    def greeting_of(self, node):
        with socket.create_connection((node.rpc_host, node.rpc_port), e2e.WAIT_S) as stream:
            return peer_frames.read_greeting(self.receive(stream, 1))

    def connect(self):
        return socket.create_connection((self.target.rpc_host, self.target.rpc_port), e2e.WAIT_S)

    def connect_or_be_refused(self):
        """None: there are too many strangers already, which the node may say before our side knows that it is connected."""
        try:
            return self.connect()
        except ConnectionResetError:
            return None

    def receive(self, stream, count):
        data = b""
        while len(data) < count or len(data) < 16 + struct.unpack_from("<I", data.ljust(4, b"\xff"))[0]:
            more = stream.recv(4096)
            if not more:
                break
            data += more
        return data

    def assert_closed(self, stream):
        try:
            while stream.recv(65536):
                pass
        except ConnectionError:
            pass
        except socket.timeout:
            raise AssertionError("the node keeps the connection") from None

    def send(self, data):
        """Sends, and sees the node close the connection."""
        with self.connect() as stream:
            try:
                stream.sendall(data)
            except OSError:
                return
            self.assert_closed(stream)

    def refusals(self):
        return [line for line in self.target.log().splitlines() if "refused a peer" in line]

    def other(self, **changes):
        """A greeting as another member would send it, but for the changes."""
        return peer_frames.greeting(self.others_greeting | changes)

    def test_random_bytes(self):
        rng = random.Random(3)
        for _ in range(100):
            self.send(rng.randbytes(rng.randrange(1, 5000)))
        self.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertLessEqual(len(self.refusals()), 3, self.refusals())

    def test_another_clusters_member(self):
        for _ in range(20):
            self.send(self.other(cluster_id=self.greeting["cluster_id"] ^ 1))
        self.assertEqual(len(self.refusals()), 1, self.refusals())
        self.assertIn("wrong_cluster", self.refusals()[0])

    def test_strangers(self):
        for _ in range(20):
            self.send(peer_frames.greeting(self.greeting | {"node_id": "stranger", "member": 12345}))
            self.send(self.other(node_id="node-7"))
            self.send(peer_frames.greeting(self.greeting))  # its own
        self.assertEqual(len(self.refusals()), 1, self.refusals())
        self.assertIn("unknown_member", self.refusals()[0])

    def test_other_configurations(self):
        for _ in range(20):
            self.send(self.other(membership_hash=self.greeting["membership_hash"] ^ 1))
        self.assertEqual(len(self.refusals()), 1, self.refusals())

    def test_other_versions(self):
        for _ in range(20):
            self.send(self.other(version_min=99, version_max=100))
            self.send(self.other(version_min=0, version_max=0))
        self.assertEqual(len(self.refusals()), 1, self.refusals())
        self.assertIn("bad_protocol", self.refusals()[0])

    def test_older_incarnations(self):
        for _ in range(20):
            self.send(self.other(incarnation=self.others_greeting["incarnation"] - 1))
        self.assertEqual(len(self.refusals()), 1, self.refusals())

    def test_garbled_frames(self):
        good = self.other(cluster_id=self.greeting["cluster_id"] ^ 1)
        for at in range(len(good)):
            garbled = bytearray(good)
            garbled[at] ^= 0x10
            self.send(bytes(garbled))
        self.send(peer_frames.frame(peer_frames.MESSAGE, b"\x08\x01"))
        self.send(peer_frames.frame(peer_frames.GREETING, b"\xff" * 100))
        self.send(peer_frames.frame(3, b""))
        self.send(struct.pack("<IIII", 0xFFFFFFFF, 0, 0, 1))
        self.send(struct.pack("<IIII", 10, 0, 0xFFFFFFFF, 1))

    def test_truncated_frames(self):
        good = self.other()
        for size in range(len(good)):
            if (stream := self.connect_or_be_refused()) is not None:
                with stream, contextlib.suppress(ConnectionError):
                    stream.sendall(good[:size])
        # Those who never send the rest are cut off, however slowly they go on.
        silent = [e2e.wait_until(self.connect_or_be_refused, "room") for _ in range(5)]
        for i, stream in enumerate(silent):
            self.addCleanup(stream.close)
            stream.sendall(good[: i * 10])
        for stream in silent:
            self.assert_closed(stream)

    def test_slow_strangers_do_not_hold_the_door(self):
        """However many connect and dribble, a member that comes back gets in."""
        streams = []
        for _ in range(40):
            if (stream := self.connect_or_be_refused()) is not None:
                self.addCleanup(stream.close)
                streams.append(stream)
        self.assertGreater(len(streams), 5)
        frame = self.other()
        ended = set()
        for at in range(len(frame) - 1):
            for stream in streams:
                if stream in ended:
                    continue
                try:
                    stream.sendall(frame[at : at + 1])
                except OSError:
                    ended.add(stream)
            if len(ended) == len(streams):
                break
            time.sleep(0.1)
        self.assertEqual(len(ended), len(streams), "bytes that trickle in keep no connection open")

    def test_large_frames_before_a_greeting_cost_no_memory(self):
        before = self.target.resident_bytes()
        streams = []
        for _ in range(20):
            stream = self.connect()
            self.addCleanup(stream.close)
            streams.append(stream)
            try:
                stream.sendall(struct.pack("<IIII", peer_frames.FRAME_BYTES_MAX, 0, 0, peer_frames.MESSAGE))
                stream.sendall(bytes(peer_frames.FRAME_BYTES_MAX - 1))
            except OSError:
                pass
        self.assert_memory(self.target.resident_bytes() - before, 16 * 1024 * 1024)

    def test_two_processes_of_one_name(self):
        """The same flags on another directory, as when a launch line is copied: the member that was there first stays."""
        doubles = []
        for node in self.members.nodes:
            api, rpc = e2e.free_ports(2)
            flags = [*node.flags, f"--api-port={api}", f"--rpc-port={rpc}"]
            double = e2e.Node(node.name, self.directory(), ("127.0.0.1", api), ("127.0.0.1", rpc), flags)
            double.start()
            self.addCleanup(double.end)
            doubles.append(double)
        before = [node.log().count("\n") for node in self.members.nodes]
        for i in range(30):
            self.assertEqual(self.members.nodes[i % 3].request("POST", "/v1/data", {"k": "d", "v": str(i)}).status, 200)
            time.sleep(0.1)
        logs = "".join(node.log() for node in self.members.nodes)
        self.assertIn("two processes claim to be the same member", logs)
        for node, lines in zip(self.members.nodes, before):
            self.assertLess(node.log().count("\n") - lines, 20, node.tail())
        for double in doubles:
            double.end()

    def test_a_member_of_another_cluster_in_a_members_place(self):
        """The data of a member of the same name, but of another cluster, on this one's network."""
        foreign = self.cluster(3, self.SETTINGS).start()
        foreign.wait_until_writable()
        for node in foreign.nodes:
            self.assertEqual(node.stop(), 0)
        follower = self.members.followers()[0]
        number = self.members.nodes.index(follower)
        intruder = foreign.nodes[number]
        follower.kill()
        intruder.flags = follower.flags
        intruder.start()
        e2e.wait_until(lambda: any("wrong_cluster" in line for line in self.refusals()), "it is refused")
        self.members.wait_until_writable(self.target)
        time.sleep(2)  # it goes on trying
        self.assertEqual(sum("wrong_cluster" in line for line in self.refusals()), 1, self.refusals())
        self.assertLessEqual(sum("refused a peer" in line for line in intruder.log().splitlines()), 2, "once for each member")
        intruder.process.send_signal(signal.SIGTERM)
        self.assertEqual(intruder.wait(), 0)
        follower.start()
        self.members.wait_until_writable()
        e2e.wait_until(lambda: all(m["reachable"] for m in self.target.cluster()["members"]), "all are there again")


if __name__ == "__main__":
    e2e.main()
