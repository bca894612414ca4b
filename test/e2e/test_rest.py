"""REST as it is specified, through any node; and every kind of bad request: the right status and a JSON error, or a clean close.

After each test the cluster must still be healthy, with the processes that it began with, and within its memory.
"""

import base64
import json
import random
import re
import resource
import socket
import threading
import time

import cluster as e2e

VALUE_BYTES_MAX = 1536 * 1024
KEY_BYTES_MAX = 64 * 1024
IDLE_CONNECTIONS = 10000
# What a node may need at most in all of these tests: the data are a few MiB.
RESIDENT_BYTES_MAX = 256 * 1024 * 1024

POST = "POST /v1/data HTTP/1.1\r\nHost: x\r\n"
GET = "GET /v1/data/a HTTP/1.1\r\nHost: x\r\n\r\n"


def put_request(key, value, extra=""):
    body = json.dumps({"k": key, "v": value})
    return f"{POST}Content-Length: {len(body)}\r\n{extra}\r\n{body}".encode()


def exchange(node, data, heads=(), finish=False):
    """Sends raw bytes and reads until the node closes; (responses, whether it closed). With `finish`, closes its own side first.

    Without an answer for as long as no sane machine needs, it raises."""
    responses = []
    with socket.create_connection((node.api_host, node.api_port), e2e.WAIT_S) as stream:
        try:
            stream.sendall(data)
            if finish:
                stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the node closed early; what it said before is read below
        rest = b""
        try:
            while True:
                head = bool(heads and heads[len(responses)])
                response, rest = read_one(stream, rest, head)
                responses.append(response)
        except (ConnectionError, OSError) as error:
            if isinstance(error, socket.timeout):
                raise AssertionError(f"neither an answer nor a close after {data[:200]!r}") from error
    return responses


def read_one(stream, rest, head=False):
    pending = [rest] if rest else []
    return e2e.read_response(lambda: pending.pop() if pending else stream.recv(65536), head)


class RestTest(e2e.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = e2e.Cluster(settings={"election-timeout": 2000, "heartbeat": 200}).start()
        cls.shared.wait_for_leader()
        cls.shared.wait_until_writable()
        cls.nodes = cls.shared.nodes
        cls.pids = [node.process.pid for node in cls.nodes]

    @classmethod
    def tearDownClass(cls):
        cls.shared.close()

    def setUp(self):
        self.addCleanup(self._show_logs, self.shared)

    def tearDown(self):
        self.shared.assert_alive()
        self.assertEqual([node.process.pid for node in self.nodes], self.pids)
        self.shared.wait_until_writable()
        for node in self.nodes:
            self.assert_memory(node.peak_bytes(), RESIDENT_BYTES_MAX)

    def request(self, *arguments, **named):
        return self.nodes[0].request(*arguments, **named)

    def assert_refused(self, data, status, code, node=None):
        """One JSON error, and then the end of the connection."""
        responses = exchange(node or self.nodes[0], data)
        self.assertEqual(len(responses), 1, responses)
        self.assert_json_error(responses[0], status, code)
        self.assertEqual(responses[0].headers["connection"], "close")

    # ---- what is right ----

    def test_put_get_delete_through_any_node(self):
        for writer in self.nodes:
            key = f"any-{writer.name}"
            answer = writer.request("POST", "/v1/data", {"k": key, "v": "1"})
            self.assertEqual(answer.status, 200)
            self.assertGreater(answer.json()["revision"], 0)
            for reader in self.nodes:
                answer = reader.request("GET", f"/v1/data/{key}")
                self.assertEqual((answer.status, answer.json()), (200, {"k": key, "v": "1"}))
            answer = writer.request("DELETE", f"/v1/data/{key}")
            self.assertEqual((answer.status, answer.json()["deleted"]), (200, True))
            for reader in self.nodes:
                self.assert_json_error(reader.request("GET", f"/v1/data/{key}"), 404, "not_found")
                answer = reader.request("DELETE", f"/v1/data/{key}")
                self.assertEqual((answer.status, answer.json()["deleted"]), (200, False))

    def test_values_come_back_as_they_went(self):
        values = ["", "x", "ü€😀", '"\\/\b\f\n\r\t', "\u0000", "\x7f\u2028", "v" * 100000, "1", "null", " "]
        for number, value in enumerate(values):
            key = f"value-{number}"
            for ascii_only in (True, False):
                body = json.dumps({"k": key, "v": value}, ensure_ascii=ascii_only).encode()
                self.assertEqual(self.request("POST", "/v1/data", body).status, 200, value)
                answer = self.nodes[1].request("GET", f"/v1/data/{key}")
                self.assertEqual(answer.json(), {"k": key, "v": value})

    def test_values_that_are_not_utf8(self):
        for raw in (b"\xff", b"\x00\x01\xfe", b"\xc0\x80", b"\xed\xa0\x80", bytes(range(256)) * 40):
            encoded = base64.b64encode(raw).decode()
            answer = self.request("POST", "/v1/data", {"k": "raw", "v_base64": encoded})
            self.assertEqual(answer.status, 200)
            answer = self.nodes[2].request("GET", "/v1/data/raw")
            self.assertEqual(answer.json(), {"k": "raw", "v_base64": encoded})
        # and text may be sent so too
        self.assertEqual(self.request("POST", "/v1/data", {"k": "raw", "v_base64": "aGVsbG8="}).status, 200)
        self.assertEqual(self.request("GET", "/v1/data/raw").json(), {"k": "raw", "v": "hello"})

    def test_keys_of_all_kinds(self):
        keys = {
            "a/b/c": ["a/b/c", "a%2Fb%2fc", "a/b%2Fc"],
            "/leading": ["/leading", "%2Fleading"],
            "trailing/": ["trailing/", "trailing%2F"],
            "a//b": ["a//b"],
            "..": ["..", "%2e%2E"],
            "x/../y": ["x/../y"],
            "a b": ["a%20b"],
            "a+b": ["a+b", "a%2Bb"],
            "100%": ["100%25"],
            "what?": ["what%3F", "what%3f?query=ignored"],
            "ключ": ["%D0%BA%D0%BB%D1%8E%D1%87"],
            "nul\u0000l": ["nul%00l"],
        }
        for number, (key, paths) in enumerate(keys.items()):
            self.assertEqual(self.request("POST", "/v1/data", {"k": key, "v": str(number)}).status, 200, key)
            for path in paths:
                answer = self.nodes[1].request("GET", f"/v1/data/{path}")
                self.assertEqual((answer.status, answer.json()), (200, {"k": key, "v": str(number)}), path)
            self.assertEqual(self.request("DELETE", f"/v1/data/{paths[-1]}").json()["deleted"], True, key)

    def test_keys_that_are_not_utf8(self):
        encoded = base64.b64encode(b"\xffkey").decode()
        self.assertEqual(self.request("POST", "/v1/data", {"k_base64": encoded, "v": "1"}).status, 200)
        self.assertEqual(self.request("GET", "/v1/data/%FFkey").json(), {"k_base64": encoded, "v": "1"})
        self.assertTrue(self.request("DELETE", "/v1/data/%FFkey").json()["deleted"])

    def test_largest_key_and_value(self):
        key, value = "k" * KEY_BYTES_MAX, "v" * VALUE_BYTES_MAX
        for node in self.nodes:
            self.assertEqual(node.request("POST", "/v1/data", {"k": key, "v": "1"}).status, 200)
            answer = node.request("GET", f"/v1/data/{key}")
            self.assertEqual((answer.status, answer.json()), (200, {"k": key, "v": "1"}))
            self.assertTrue(node.request("DELETE", f"/v1/data/{key}").json()["deleted"])
            self.assertEqual(node.request("POST", "/v1/data", {"k": "largest", "v": value}).status, 200)
            self.assertEqual(node.request("GET", "/v1/data/largest").json(), {"k": "largest", "v": value})
        escaped = "%6B" * KEY_BYTES_MAX
        self.assertEqual(self.request("GET", f"/v1/data/{escaped}").status, 404)

    def test_head(self):
        self.request("POST", "/v1/data", {"k": "head", "v": "value"})
        answer = self.request("HEAD", "/v1/data/head")
        length = len(self.request("GET", "/v1/data/head").body)
        self.assertEqual((answer.status, int(answer.headers["content-length"]), answer.body), (200, length, b""))
        self.assertEqual(self.request("HEAD", "/v1/data/no-such-key").status, 404)
        self.assertEqual(self.request("HEAD", "/health").status, 200)

    def test_pipelined_requests_are_answered_in_order(self):
        for node in self.nodes:
            data = b"".join(
                put_request(f"pipe-{i}", str(i)) + f"GET /v1/data/pipe-{i} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for i in range(200)
            )
            responses = exchange(node, data + b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertEqual(len(responses), 401)
            self.assertEqual({response.status for response in responses}, {200})
            self.assertEqual([r.json()["v"] for r in responses[1:400:2]], [str(i) for i in range(200)])
            revisions = [r.json()["revision"] for r in responses[0:400:2]]
            self.assertEqual(revisions, sorted(revisions))

    def test_chunked_bodies(self):
        body = b'{"k":"chunked","v":"in pieces"}'
        for size in (1, 7, len(body)):
            chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(body[i : i + size]), body[i : i + size]) for i in range(0, len(body), size))
            data = POST.encode() + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks
            responses = exchange(self.nodes[0], data + b"0\r\nTrailer: yes\r\n\r\n")
            self.assertEqual([response.status for response in responses], [200])
        self.assertEqual(self.request("GET", "/v1/data/chunked").json()["v"], "in pieces")

    def test_byte_by_byte(self):
        data = put_request("slowly", "but surely") + GET.encode()
        with socket.create_connection((self.nodes[0].api_host, self.nodes[0].api_port), e2e.WAIT_S) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(data)):
                stream.sendall(data[i : i + 1])
            first, rest = read_one(stream, b"")
            second, rest = read_one(stream, rest)
        self.assertEqual((first.status, second.status, rest), (200, 404, b""))

    def test_expect_continue(self):
        body = b'{"k":"expected","v":"1"}'
        with socket.create_connection((self.nodes[0].api_host, self.nodes[0].api_port), e2e.WAIT_S) as stream:
            stream.sendall(f"{POST}Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            response, rest = read_one(stream, b"")
            self.assertEqual((response.status, rest), (100, b""))
            stream.sendall(body)
            response, rest = read_one(stream, b"")
            self.assertEqual((response.status, rest), (200, b""))

    def test_http_1_0_and_connection_close(self):
        for data in (b"GET /version HTTP/1.0\r\n\r\n", b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
            responses = exchange(self.nodes[0], data)
            self.assertEqual([response.status for response in responses], [200])
            self.assertEqual(responses[0].headers["connection"], "close")

    # ---- what tells about the node ----

    def test_cluster(self):
        statuses = [node.request("GET", "/v1/cluster").json() for node in self.nodes]
        self.assertEqual(len({status["cluster_id"] for status in statuses}), 1)
        self.assertEqual(len({status["leader"] for status in statuses}), 1)
        self.assertEqual(len({status["term"] for status in statuses}), 1)
        self.assertEqual(sorted(status["role"] for status in statuses), ["follower", "follower", "leader"])
        for node, status in zip(self.nodes, statuses):
            self.assertEqual(status["node_id"], node.name)
            self.assertLessEqual(status["applied_index"], status["commit_index"])
            self.assertLessEqual(status["commit_index"], status["last_index"])
            self.assertFalse(status["diverged"] or status["uncertain"] or status["disk_full"])
            self.assertEqual([member["node_id"] for member in status["members"]], [one.name for one in self.nodes])
            self.assertEqual({member["reachable"] for member in status["members"]}, {True})
            for member, other in zip(status["members"], self.nodes):
                self.assertEqual(member["api_address"], other.endpoint())
                self.assertEqual(member["is_leader"], member["node_id"] == status["leader"])
                self.assertEqual(member["is_leader"], member["member_id"] == status["leader_id"])
        self.shared.wait_until_equal()

    def test_health(self):
        for node in self.nodes:
            answer = node.request("GET", "/health")
            self.assertEqual((answer.status, answer.json()["health"]), (200, "true"))
            for path in ("/livez", "/readyz", "/livez?verbose", "/readyz?verbose", "/health?serializable=true"):
                answer = node.request("GET", path)
                self.assertEqual(answer.status, 200, path)
            self.assertIn("ok", node.request("GET", "/readyz?verbose").body.decode())

    def test_version(self):
        answer = self.request("GET", "/version").json()
        self.assertRegex(answer["coracle"], r"^\d+\.\d+")
        self.assertEqual(e2e.coracle("version").stdout.split()[-1], answer["coracle"])

    def test_metrics(self):
        sample = re.compile(
            r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*"(,[a-zA-Z_][a-zA-Z0-9_]*="[^"\\\n]*")*,?\})? '
            r"(-?[0-9.]+([eE][-+]?[0-9]+)?|[-+]?Inf|NaN)$"
        )
        for node in self.nodes:
            answer = node.request("GET", "/metrics")
            self.assertTrue(answer.headers["content-type"].startswith("text/plain; version=0.0.4"), answer.headers)
            types, helps, seen = {}, set(), set()
            for line in answer.body.decode().splitlines():
                if line.startswith("# TYPE "):
                    name, kind = line[7:].split(" ")
                    self.assertNotIn(name, types, "described twice")
                    self.assertIn(kind, ("counter", "gauge", "histogram"))
                    types[name] = kind
                elif line.startswith("# HELP "):
                    helps.add(line[7:].split(" ", 1)[0])
                else:
                    self.assertRegex(line, sample)
                    series = line.rpartition(" ")[0]
                    self.assertNotIn(series, seen, "given twice")
                    seen.add(series)
                    name = series.partition("{")[0]
                    family = name if name in types else re.sub("_(bucket|sum|count)$", "", name)
                    self.assertIn(family, types, line)
            self.assertEqual(helps, set(types))
            for name in ("etcd_server_has_leader", "etcd_server_is_leader", "etcd_disk_wal_fsync_duration_seconds"):
                self.assertIn(name, types)
        metrics = [node.metrics() for node in self.nodes]
        self.assertEqual([one["etcd_server_has_leader"] for one in metrics], [1, 1, 1])
        self.assertEqual(sum(one["etcd_server_is_leader"] for one in metrics), 1)
        for one in metrics:
            buckets = [(name, value) for name, value in one.items() if name.startswith("etcd_disk_wal_fsync_duration_seconds_bucket")]
            self.assertEqual([value for _, value in buckets], sorted(value for _, value in buckets))
            self.assertEqual(buckets[-1][1], one["etcd_disk_wal_fsync_duration_seconds_count"])

    # ---- what is wrong ----

    def test_bad_bodies(self):
        bad = {
            "bad_json": [b"", b"{", b"[1", b'{"k":"a","v":"1"', b"{k:1}", b'{"k":"a","v":"1"}x', b"nonsense", b"\xff\xfe", b'"text"']
            + [b"[]", b"1", b"null", b'{"k":"a","k":"b","v":"1"}', b'{"k":"\xff","v":"1"}', b'{"k":"\\ud800","v":"1"}']
            + [b"[" * 100000, b'{"a":' * 50000, b"{" + b",".join(b'"%d":1' % i for i in range(20000)) + b"}"],
            "bad_request": [b'{"k":1,"v":"1"}', b'{"k":"a","v":1}', b'{"k":"a","v":null}', b'{"k":["a"],"v":"1"}', b'{"k":"a","v":{}}']
            + [b'{"k":"a"}', b'{"k":"a","v":"1","ttl":"5"}', b'{"k":"a","v":"1","v_base64":"MQ=="}', b'{"k":"a","v_base64":"*"}']
            + [b'{"k":"a","v_base64":"MQ="}', b'{"k":"a","v_base64":"M Q="}', b'{"K":"a","v":"1"}', b'{"k":true,"v":"1"}'],
            "empty_key": [b"{}", b'{"v":"1"}', b'{"k":"","v":"1"}', b'{"k_base64":"","v":"1"}'],
        }
        for node in self.nodes:
            with node.client() as client:
                for code, bodies in bad.items():
                    for body in bodies:
                        with self.subTest(body=body[:60], node=node.name):
                            self.assert_json_error(client.request("POST", "/v1/data", body), 400, code)
        self.assertEqual(self.request("GET", "/v1/data/a").status, 404, "none of them did anything")

    def test_keys_and_values_that_are_too_large(self):
        long_key = "k" * (KEY_BYTES_MAX + 1)
        for node in self.nodes:
            with node.client() as client:
                self.assert_json_error(client.request("POST", "/v1/data", {"k": long_key, "v": "1"}), 400, "key_too_large")
                answer = client.request("POST", "/v1/data", {"k": "large", "v": "v" * (VALUE_BYTES_MAX + 1)})
                self.assert_json_error(answer, 413, "request_too_large")
            for method in ("GET", "DELETE"):
                self.assert_json_error(node.request(method, f"/v1/data/{long_key}"), 400, "key_too_large")
        self.assertEqual(self.request("GET", "/v1/data/large").status, 404)

    def test_a_body_above_every_limit_is_not_even_read(self):
        self.assert_refused(f"{POST}Content-Length: 99999999999\r\n\r\n".encode() + b"x" * 1000, 413, "request_too_large")
        self.assert_refused(f"{POST}Content-Length: 184467440737095516160\r\n\r\n".encode(), 413, "request_too_large")
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        self.assert_refused(f"{POST}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 8, 413, "request_too_large")

    def test_wrong_methods(self):
        allowed = {"/v1/data": "POST", "/v1/data/a": "GET, HEAD, DELETE", "/v1/cluster": "GET, HEAD", "/health": "GET, HEAD"}
        for path, allow in allowed.items():
            for method in ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"):
                if method in allow:
                    continue
                answer = self.request(method, path, b"" if method in ("POST", "PUT") else None)
                self.assert_json_error(answer, 405, "method_not_allowed")
                self.assertEqual(answer.headers["allow"], allow)
        answer = self.request("CONNECT", "/v1/data/a")
        self.assertIn(answer.status, (400, 405))

    def test_unknown_paths(self):
        for path in ("/", "/v1", "/v1/", "/v2/data", "/v1/datax", "/v1/dat", "//v1/data", "/v1/cluster/x", "/healthz", "/index.html"):
            self.assert_json_error(self.request("GET", path), 404, "no_route")
        self.assert_json_error(self.request("GET", "/v1/data/"), 400, "empty_key")

    def test_bad_percent_encoding(self):
        for path in ("%", "%2", "%zz", "a%", "a%2", "%%41", "%-1", "a%g0", "%0"):
            for method in ("GET", "DELETE"):
                self.assert_json_error(self.request(method, f"/v1/data/{path}"), 400, "bad_request")

    def test_malformed_requests(self):
        lines = ["GET", "GET /", "GET  / HTTP/1.1", "/ HTTP/1.1", "GET / HTTP/9.9", "GET / http/1.1", "GET / HTTP/1.1 x", "GET\t/ HTTP/1.1"]
        lines += ["G\x01T / HTTP/1.1", "GET /\x00 HTTP/1.1", "GET / HTTP/1.", "\x16\x03\x01\x02\x00\x01", " GET / HTTP/1.1", "GET * HTTP/1.1"]
        headers = ["Host : x", "No colon", ": empty", " Folded: x", "A: b\r\n c: folded", "A: b\x00c", "A: b\rc", "A\x7f: b", "Ä: b"]
        for line in lines:
            self.assert_bad(f"{line}\r\nHost: x\r\n\r\n")
        for header in headers:
            self.assert_bad(f"GET /version HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n")
        for hosts in ("", "Host: a\r\nHost: b\r\n"):
            self.assert_bad(f"GET /version HTTP/1.1\r\n{hosts}\r\n")
        self.assert_bad("GET /version HTTP/1.1\nHost: x\n\n")
        # What looks like the preface of HTTP/2 at first, and is not.
        self.assert_bad("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")

    def assert_bad(self, text):
        with self.subTest(request=text[:80]):
            responses = exchange(self.nodes[0], text.encode("latin-1"))
            self.assertEqual(len(responses), 1, responses)
            self.assertIn(responses[0].status, (400, 501, 505), responses)
            self.assert_json_error(responses[0], responses[0].status)
            self.assertEqual(responses[0].headers["connection"], "close")

    def test_smuggling(self):
        """Two ways to tell a body's end must never both be believed: one of them would be the next request."""
        hidden = put_request("smuggled", "1").decode()
        ambiguous = [
            f"Content-Length: {len(hidden)}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
            f"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{hidden}",
            f"Content-Length: 0\r\nContent-Length: {len(hidden)}\r\n\r\n{hidden}",
            f"Content-Length: 0, 0\r\n\r\n{hidden}",
            f"Content-Length: +0\r\n\r\n{hidden}",
            f"Content-Length: 0x0\r\n\r\n{hidden}",
            f"Content-Length: -1\r\n\r\n{hidden}",
            f"Content-Length:\r\n\r\n{hidden}",
            f"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{hidden}",
            f"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}",
            f"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{hidden}",
            f"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}",
            f"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{hidden}",
            f"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{hidden}",
            f"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n{hidden}",
            f"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n{hidden}",
            f"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n{hidden}",
            f"Transfer-Encoding: chunked\r\n\r\n0\n\n{hidden}",
        ]
        for text in ambiguous:
            with self.subTest(request=text[:80]):
                responses = exchange(self.nodes[0], (POST + text).encode("latin-1"))
                self.assertEqual(len(responses), 1, responses)
                self.assertIn(responses[0].status, (400, 501))
                self.assert_json_error(responses[0], responses[0].status)
        self.assertEqual(self.request("GET", "/v1/data/smuggled").status, 404)

    def test_no_length_is_an_empty_body(self):
        def post(path):
            return f"POST {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

        data = post("/v1/data") + post("/health") + post("/v1/snapshot") + b"GET /version HTTP/1.0\r\n\r\n"
        bad_json, bad_method, snapshot, version = exchange(self.nodes[0], data)
        self.assert_json_error(bad_json, 400, "bad_json")
        self.assert_json_error(bad_method, 405, "method_not_allowed")
        self.assertEqual((snapshot.status, version.status), (200, 200))

    def test_request_line_and_version(self):
        self.assert_refused(b"GET /version HTTP/2.0\r\nHost: x\r\n\r\n", 505, "bad_http_version")
        self.assert_refused(b"GET /" + b"y" * 300000, 414, "uri_too_long")
        self.assert_refused(b"GET /version HTTP/1.1\r\nX: " + b"y" * 20000, 431, "headers_too_large")
        responses = exchange(self.nodes[0], b"\r\n\r\n\r\nGET /version HTTP/1.0\r\n\r\n")
        self.assertEqual([response.status for response in responses], [200])

    def test_bodies_that_lie_about_their_length(self):
        body = b'{"k":"lie","v":"1"}'
        # Shorter than it says, and then the end: nothing is done.
        self.assertEqual(exchange(self.nodes[0], f"{POST}Content-Length: 100\r\n\r\n".encode() + body, finish=True), [])
        self.assertEqual(self.request("GET", "/v1/data/lie").status, 404)
        # Longer than it says: the rest is a malformed next request.
        responses = exchange(self.nodes[0], f"{POST}Content-Length: 5\r\n\r\n".encode() + body)
        self.assertEqual([response.status for response in responses], [400, 400])
        self.assertEqual(self.request("GET", "/v1/data/lie").status, 404)

    def test_headers_without_end(self):
        endless = [
            lambda i: b"GET /version HTTP/1.1\r\nHost: x\r\n" if i == 0 else b"X-%d: %s\r\n" % (i, b"y" * 1000),
            lambda i: b"GET /version HTTP/1.1\r\nHost: x\r\nX: " if i == 0 else b"y" * 65536,
            lambda i: b"GET /version HTTP/1.1\r\n" if i == 0 else b"a: b\r\n" * 100,
            lambda i: b"GET /" if i == 0 else b"y" * 65536,
            lambda i: b"y" * 65536,
            lambda i: f"{POST}Transfer-Encoding: chunked\r\n\r\n1;".encode() if i == 0 else b"y" * 65536,
            lambda i: f"{POST}Transfer-Encoding: chunked\r\n\r\n0\r\n".encode() if i == 0 else b"t: t\r\n" * 1000,
        ]
        for number, part in enumerate(endless):
            with self.subTest(number=number):
                status = self.send_until_refused(part)
                self.assertIn(status, (400, 414, 431), "the first answer")

    def send_until_refused(self, part):
        """Sends part(0), part(1), … until the node closes; its answer's status, 0 without one."""
        with socket.create_connection((self.nodes[0].api_host, self.nodes[0].api_port), e2e.WAIT_S) as stream:
            stream.settimeout(0.02)
            received, closed = b"", False
            for i in range(4000):
                try:
                    stream.sendall(part(i))
                except socket.timeout:
                    pass
                except OSError:
                    closed = True
                try:
                    data = stream.recv(65536)
                    received += data
                    closed = closed or not data
                except socket.timeout:
                    pass
                except OSError:
                    closed = True
                if closed or received:
                    break
            self.assertTrue(closed or received, "the node took it all")
        return int(received.split(b" ")[1]) if received else 0

    def test_slow_senders(self):
        """They get 408 or the end of the connection; meanwhile others are served."""
        beginnings = [b"", b"P", b"GET /version HTTP/1.1\r\nHo", POST.encode() + b"Content-Length: 100\r\n\r\n{"]
        beginnings.append(POST.encode() + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")
        streams = []
        for i in range(200):
            stream = socket.create_connection((self.nodes[0].api_host, self.nodes[0].api_port), e2e.WAIT_S)
            self.addCleanup(stream.close)
            if beginnings[i % 5]:
                stream.sendall(beginnings[i % 5])
                streams.append(stream)
        # Some go on, a byte at a time, which must not help them.
        endless = [stream for i, stream in enumerate(streams[:40]) if i % 4 < 3]
        stopping = threading.Event()

        def dribble():
            while not stopping.wait(0.5):
                for stream in endless:
                    try:
                        stream.sendall(b"x")
                    except OSError:
                        pass

        dribbler = threading.Thread(target=dribble, daemon=True)
        dribbler.start()
        try:
            self.assertEqual(self.request("POST", "/v1/data", {"k": "swift", "v": "1"}).status, 200)
            for stream in streams:
                try:
                    response, rest = read_one(stream, b"")
                    self.assert_json_error(response, 408, "request_timeout")
                    self.assertEqual(rest, b"")
                    self.assertEqual(stream.recv(1), b"")
                except ConnectionError:  # a reset, since it went on sending
                    self.assertIn(stream, endless, "closed without a word")
        finally:
            stopping.set()
            dribbler.join()

    def test_slow_readers(self):
        """A client that asks and asks and never reads is paused: its answers don't pile up."""
        value = "v" * (1024 * 1024)
        self.assertEqual(self.request("POST", "/v1/data", {"k": "big", "v": value}).status, 200)
        node = self.nodes[0]
        before = node.resident_bytes()
        streams = []
        for _ in range(20):
            stream = socket.create_connection((node.api_host, node.api_port), e2e.WAIT_S)
            self.addCleanup(stream.close)
            stream.sendall(b"GET /v1/data/big HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
            streams.append(stream)
        self.assertEqual(node.request("GET", "/v1/data/big").json()["v"], value)
        self.assert_memory(node.resident_bytes() - before, 20 * 4 * len(value))
        # One that wakes up gets all of them, in full.
        rest = b""
        for _ in range(200):
            response, rest = read_one(streams[0], rest)
            self.assertEqual((response.status, len(response.json()["v"])), (200, len(value)))

    def test_idle_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        count = min(IDLE_CONNECTIONS, hard - 200)
        if count < IDLE_CONNECTIONS:
            print(f"only {count} idle connections: the limit of open files is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
        node = self.nodes[0]
        before = node.resident_bytes()
        streams = []
        try:
            for i in range(count):
                stream = socket.create_connection((node.api_host, node.api_port), e2e.WAIT_S)
                streams.append(stream)
                if i % 2:
                    stream.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            for stream in streams[1::2]:
                self.assertEqual(read_one(stream, b"")[0].status, 200)
            e2e.wait_until(lambda: node.metrics()["coracle_client_connections"] >= count, "all are accepted")
            self.assert_memory(node.resident_bytes() - before, count * 4096)
            self.assertEqual(node.request("POST", "/v1/data", {"k": "crowd", "v": "1"}).status, 200)
            for stream in (streams[0], streams[1], streams[-1]):
                stream.sendall(put_request("crowd", "2"))
                self.assertEqual(read_one(stream, b"")[0].status, 200)
        finally:
            for stream in streams:
                stream.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        e2e.wait_until(lambda: node.metrics()["coracle_client_connections"] < 10, "all are gone")

    def test_clients_that_end_their_side_get_their_answers(self):
        for node in self.nodes:
            self.assertEqual([r.status for r in exchange(node, put_request("ended", "1"), finish=True)], [200])
            get = b"GET /v1/data/ended HTTP/1.1\r\nHost: h\r\n\r\n"
            several = exchange(node, put_request("ended", "2") + get + put_request("ended", "3") + get, finish=True)
            self.assertEqual([r.status for r in several], [200, 200, 200, 200])
            self.assertEqual([several[1].json()["v"], several[3].json()["v"]], ["2", "3"])
            metrics = exchange(node, b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 400, finish=True)
            self.assertEqual([r.status for r in metrics], [200] * 400)
            self.assertEqual(exchange(node, b"", finish=True), [])
            self.assertEqual(exchange(node, get[:20], finish=True), [])
        e2e.wait_until(lambda: self.nodes[0].metrics()["coracle_client_connections"] < 10, "all are gone")

    def test_many_come_and_go_in_the_middle_of_everything(self):
        rng = random.Random(7)
        whole = put_request("half", "x" * 3000)
        node = self.nodes[0]
        for _ in range(500):
            with socket.create_connection((node.api_host, node.api_port), e2e.WAIT_S) as stream:
                stream.sendall(whole[: rng.randrange(len(whole) + 1)])
                if rng.random() < 0.5:  # a reset, not an orderly end
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        e2e.wait_until(lambda: node.metrics()["coracle_client_connections"] < 10, "all are gone")

    def test_random_bytes(self):
        """Garbage, and good requests with a few bytes changed: each ends in answers of known status, or a close."""
        rng = random.Random(11)
        good = [put_request("fuzz", "value"), GET.encode(), f"{POST}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n".encode()]
        for _ in range(400):
            if rng.random() < 0.3:
                data = rng.randbytes(rng.randrange(1, 3000))
            else:
                data = bytearray(rng.choice(good) * rng.randrange(1, 4))
                for _ in range(rng.randrange(1, 6)):
                    data[rng.randrange(len(data))] = rng.choice((rng.randrange(256), 10, 13, 32, 58, 48))
            for response in exchange(self.nodes[rng.randrange(3)], bytes(data), finish=True):
                self.assertIn(response.status, (100, 200, 400, 404, 405, 413, 414, 431, 501, 505))
                if response.status >= 400:
                    self.assert_json_error(response, response.status)


class WithoutQuorumTest(e2e.TestCase):
    def test_a_node_that_knows_no_leader_says_so(self):
        cluster = self.cluster(settings={"election-timeout": 300, "heartbeat": 50, "api-timeout": 700, "api-fwd-timeout": 500}).start()
        leader = cluster.wait_for_leader()
        cluster.wait_until_writable()
        lonely = cluster.followers()[0]
        for node in cluster.nodes:
            if node is not lonely:
                node.kill()
        e2e.wait_until(lambda: lonely.cluster()["leader"] is None, "the last node notices")

        for method, path, body in (("POST", "/v1/data", {"k": "a", "v": "1"}), ("GET", "/v1/data/a", None), ("DELETE", "/v1/data/a", None)):
            answer = lonely.request(method, path, body)
            self.assert_json_error(answer, 503, "no_leader")
            self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
        status = lonely.cluster()
        self.assertEqual([m["node_id"] for m in status["members"] if m["reachable"]], [lonely.name])
        # Alive, but not ready: to restart it would not help.
        self.assertEqual(lonely.request("GET", "/livez").status, 200)
        self.assertEqual(lonely.request("GET", "/readyz").status, 503)
        self.assertEqual(lonely.request("GET", "/health").json()["health"], "false")
        self.assertEqual(lonely.request("GET", "/health").status, 503)
        self.assertEqual(lonely.metrics()["etcd_server_has_leader"], 0)

        leader.start()
        cluster.wait_until_writable()
        self.assertEqual(lonely.request("GET", "/readyz").status, 200)

    def test_a_request_that_outlasts_the_timeouts_is_answered(self):
        settings = {"election-timeout": 20000, "heartbeat": 500, "rpc-timeout": 30000, "api-timeout": 600, "api-fwd-timeout": 300}
        cluster = self.cluster(settings=settings)
        # The first election, after 20 to 40 s, isn't what this is about.
        for node in cluster.nodes:
            node.flags = [flag.replace("=20000", "=1500") for flag in node.flags]
        cluster.start()
        leader = cluster.wait_for_leader()
        cluster.wait_until_writable()
        followers = cluster.followers()
        for node in followers:
            node.pause()
        # The leader can't commit, and can't know yet that it is alone.
        answer = leader.request("POST", "/v1/data", {"k": "late", "v": "1"})
        self.assertIn(answer.status, (503, 504))
        self.assert_json_error(answer, answer.status)
        for node in followers:
            node.resume()
        cluster.wait_until_writable()

        leader = cluster.wait_for_leader()
        follower = cluster.followers()[0]
        leader.pause()
        answer = follower.request("POST", "/v1/data", {"k": "late", "v": "2"})
        self.assertIn(answer.status, (200, 503, 504))
        if answer.status != 200:
            self.assert_json_error(answer, answer.status)
        leader.resume()
        cluster.wait_until_writable()


if __name__ == "__main__":
    e2e.main()
