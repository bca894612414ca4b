#!/usr/bin/env python3
"""Clients that others wrote speak with wire/grpc: grpc-go, Go's HTTP/2 client, h2spec and curl; and our client with grpc-go's server."""

import os
import pathlib
import subprocess
import unittest

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("CORACLE_BUILD_DIR", HERE.parents[1] / "build" / "debug"))
SERVER = BUILD / "test" / "grpc" / "grpc_server"
CLIENT = BUILD / "test" / "grpc" / "grpc_client"
TESTS = [
    "Unary",
    "ManyAtOnce",
    "LargeAtOnce",
    "Headers",
    "Bidi",
    "LargeStreamAndSlowReader",
    "CancelAndDeadline",
    "Shutdown",
    "Plain",
    "OurClient",
    "Conformance",
]


class Grpc(unittest.TestCase):
    def test_go(self):
        done = subprocess.run(
            ["go", "test", "-count=1", "-v", "."],
            cwd=HERE,
            env={**os.environ, "CORACLE_GRPC_SERVER": str(SERVER), "CORACLE_GRPC_CLIENT": str(CLIENT)},
            capture_output=True,
            text=True,
        )
        output = (done.stdout + done.stderr)[-8000:]
        self.assertEqual(done.returncode, 0, output)
        for name in TESTS:
            self.assertIn(f"--- PASS: Test{name}", done.stdout, output)

    def test_curl(self):
        with subprocess.Popen([SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            url = f"http://127.0.0.1:{int(server.stdout.readline())}"
            curl = ["curl", "-sS", "--http2-prior-knowledge", "-w", " %{http_code} %{http_version}"]
            for arguments, expected in [
                ([f"{url}/health"], "/health 200 2"),
                (["-d", "hello", f"{url}/v1/data"], "hello 200 2"),
                (["-X", "DELETE", f"{url}/v1/data/a%2Fb"], "/v1/data/a%2Fb 200 2"),
            ]:
                done = subprocess.run(curl + arguments, capture_output=True, text=True, check=True)
                self.assertEqual(done.stdout, expected)
            server.stdin.close()
            self.assertEqual(server.wait(), 0)


if __name__ == "__main__":
    unittest.main()
