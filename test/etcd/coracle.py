"""Three nodes of Coracle for the Go tests of the etcd interface."""

import http.server
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import cluster as e2e  # noqa: E402

# As etcd's own, so that the shortest lease is as long.
SETTINGS = {"election-timeout": 1000, "heartbeat": 100}

# The disk isn't what is tested here, and a sequence waits for each of its writes.
if os.access("/dev/shm", os.W_OK):
    tempfile.tempdir = "/dev/shm"


class Nemesis:
    """An HTTP server on which a Go test asks for the leader's death: POST /kill-leader, and then /restart."""

    def __init__(self, cluster):
        nemesis = self
        self.cluster, self.killed = cluster, None

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                try:
                    {"/kill-leader": nemesis.kill_leader, "/restart": nemesis.restart}[self.path]()
                    status, text = 200, b"done\n"
                except Exception as error:  # the test that asked shows it
                    status, text = 500, repr(error).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]

    def kill_leader(self):
        self.killed = self.cluster.wait_for_leader()
        self.killed.kill()

    def restart(self):
        self.killed.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class TestCase(e2e.TestCase):
    def go_test(self, package, *tests, environment=None, flags=(), run=".", one_follower=False):
        """Runs the tests of a package against a new cluster of three; each must have passed, not been left out.

        `run` chooses among them. Of the members it is given all, or one follower."""
        cluster = self.cluster(3, {**SETTINGS, **dict(flags)}).start()
        leader = cluster.wait_for_leader()
        follower = next(node for node in cluster.nodes if node is not leader)
        nemesis = Nemesis(cluster)
        self.addCleanup(nemesis.close)
        done = subprocess.run(
            ["go", "test", "-count=1", "-v", "-timeout=20m", f"-run={run}", f"./{package}"],
            cwd=HERE,
            env={
                **os.environ,
                "CORACLE_ETCD_ENDPOINTS": follower.endpoint() if one_follower else cluster.endpoints(),
                "CORACLE_ETCD_NEMESIS": nemesis.url,
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        print(done.stdout, flush=True)
        self.assertEqual(done.returncode, 0)
        for name in tests:
            self.assertIn(f"--- PASS: {name} ", done.stdout)
        cluster.assert_alive()
        cluster.wait_until_equal()
