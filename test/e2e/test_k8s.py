"""Join mode k8s, against a directory as the downward API lays it and names as a headless service publishes them: each pod has its
own network, and resolves names by a hosts file of its own."""

import pathlib
import re
import shutil
import time
import unittest

import cluster as e2e

ID, SERVICE, NAMESPACE = "coracle", "coracle-peers", "databases"
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


class Pods:
    """Pods of a StatefulSet: what the manifest gives each of them."""

    def __init__(self, test, size=3):
        self.network = test.network(size)
        self.directory = test.directory()
        self.size = size
        self.nodes = []
        self.hosts = []
        for i in range(size):
            hosts = pathlib.Path("/etc/netns") / self.network.names[i] / "hosts"
            hosts.parent.mkdir(parents=True)
            test.addCleanup(shutil.rmtree, hosts.parent)
            hosts.write_text(HOSTS)
            self.hosts.append(hosts)
            place = self.directory / f"{ID}-{i}"
            node = e2e.Node(
                f"{ID}-{i}",
                place,
                (self.network.client_address(i), 7777),
                (self.network.peer_address(i), 6666),
                prefix=self.network.prefix(i),
                flags=["--election-timeout=700", "--heartbeat=100", f"--cluster-config-path={place}/podinfo", "--join-mode=k8s"],
            )
            self.nodes.append(node)
            test.addCleanup(node.assert_clean)
            test.addCleanup(node.end)
            test.addCleanup(test._show_logs, node_logs(node))
            self.lay(i, size)

    def lay(self, i, size):
        """As kubelet does: files behind a link that is changed at once, so that readers see all of the old or all of the new."""
        place = self.directory / f"{ID}-{i}" / "podinfo"
        version = place / f"..{time.time_ns()}"
        version.mkdir(parents=True)
        labels = {
            "app": "coracle",
            "apps.kubernetes.io/pod-index": str(i),
            "raft-cluster/id": ID,
            "raft-cluster/size": str(size),
            "raft-cluster/svcName": SERVICE,
            "statefulset.kubernetes.io/pod-name": f"{ID}-{i}",
        }
        (version / "labels").write_text("\n".join(f'{key}="{value}"' for key, value in labels.items()))
        (version / "k8s-ns").write_text(NAMESPACE)
        link = place / "..new"
        link.symlink_to(version.name)
        link.rename(place / "..data")
        for name in ("labels", "k8s-ns"):
            if not (place / name).exists():
                (place / name).symlink_to(f"..data/{name}")

    def publish(self, *pods):
        """The service gives out the addresses of these pods, ready or not."""
        rows = "".join(
            f"{self.network.peer_address(i)} {ID}-{i}.{SERVICE}.{NAMESPACE}.svc.cluster.local {ID}-{i}.{SERVICE}\n" for i in pods
        )
        for hosts in self.hosts:
            hosts.write_text(HOSTS + rows)  # in place: it is mounted in the pods

    def start(self):
        for node in self.nodes:
            node.start()

    def wait_until_writable(self):
        for node in self.nodes:
            if node.running():
                e2e.wait_until(lambda: self.writes(node), f"a write through {node.name}")

    def writes(self, node):
        node.assert_alive()
        try:
            return node.request("POST", "/v1/data", {"k": "are-you-there", "v": "yes"}).status == 200
        except e2e.Unavailable:
            return False


class node_logs:
    def __init__(self, node):
        self.tails = node.tail


@unittest.skipUnless(e2e.namespaces_work(), "there are no network namespaces")
class K8sTest(e2e.TestCase):
    def test_pods_find_each_other(self):
        pods = Pods(self)
        pods.start()
        # Names are published when pods have addresses, one after the other. Until all are there, nobody is ready, and all live.
        pods.publish(0)
        for node in pods.nodes:
            e2e.wait_until(lambda: node.data.joinpath("state").exists(), "it has begun")
        time.sleep(1)
        for node in pods.nodes:
            e2e.wait_until(lambda: self.status(node, "/livez") == 200, "it lives")
            self.assertEqual(self.status(node, "/readyz"), 503)
        pods.publish(0, 1, 2)
        pods.wait_until_writable()
        for node in pods.nodes:
            e2e.wait_until(lambda: self.status(node, "/readyz") == 200, "it is ready")
        members = pods.nodes[0].cluster()["members"]
        self.assertEqual([member["node_id"] for member in members], [f"{ID}-{i}" for i in range(3)])
        self.assertEqual([member["rpc_address"] for member in members], [f"{ID}-{i}.{SERVICE}:6666" for i in range(3)])

        # The command line inside of a pod reaches it at its default.
        result = e2e.coracle("put", "from", "inside", prefix=pods.network.prefix(1))
        self.assertEqual((result.returncode, result.stdout), (0, "ok\n"), result)
        self.assertEqual(pods.nodes[2].request("GET", "/v1/data/from").json()["v"], "inside")

    def status(self, node, path):
        try:
            return node.request("GET", path).status
        except e2e.Unavailable:
            return 0

    def test_a_pod_comes_back_with_another_address(self):
        pods = Pods(self)
        pods.publish(0, 1, 2)
        pods.start()
        pods.wait_until_writable()
        pods.nodes[1].kill()
        pods.publish(0, 2)
        pods.wait_until_writable()
        name, network = pods.network.names[1], pods.network
        old, new = network.peer_address(1), network.peer_address(100)
        e2e.run_ip("-n", name, "addr", "del", f"{old}/24", "dev", "ethp")
        e2e.run_ip("-n", name, "addr", "add", f"{new}/24", "dev", "ethp")
        rows = "".join(f"{network.peer_address(i) if i != 1 else new} {ID}-{i}.{SERVICE}\n" for i in range(3))
        for hosts in pods.hosts:
            hosts.write_text(HOSTS + rows)
        pods.nodes[1].start()
        pods.wait_until_writable()
        pods.nodes[0].kill()  # so it counts
        pods.wait_until_writable()

    def test_a_changed_size_is_reported_and_not_obeyed(self):
        pods = Pods(self)
        pods.publish(0, 1, 2)
        pods.start()
        pods.wait_until_writable()
        for size in (5, 1):
            for i, node in enumerate(pods.nodes):
                if i >= size:
                    continue  # the StatefulSet wouldn't start it; and it would refuse, as any node that isn't in its configuration
                self.assertEqual(node.stop(), 0)
                pods.lay(i, size)
                before = len(node.log())
                node.start()
                pods.wait_until_writable()
                self.assertRegex(node.log()[before:], rf"WARN.*{ID}-{3 if size == 5 else 2}\b")
                self.assertEqual([m["node_id"] for m in node.cluster()["members"]], [f"{ID}-{n}" for n in range(3)])
            # Still a cluster of three: two are enough, and one isn't.
            pods.nodes[0].kill()
            pods.wait_until_writable()
            pods.nodes[1].kill()
            e2e.wait_until(lambda: pods.nodes[2].request("GET", "/v1/data/a").status in (503, 504), "it serves alone no longer")
            pods.nodes[0].start()
            pods.nodes[1].start()
            pods.wait_until_writable()

    def test_variables_of_the_original_image(self):
        pods = Pods(self)
        pods.publish(0, 1, 2)
        for node in pods.nodes:
            path = node.directory / "podinfo"
            node.environment = {"NODE_ID": node.name, "CLUSTER_CONFIG_PATH": str(path), "RUNNING_IN_K8S_ENV": "true"}
            node.command = lambda node=node: [*node.prefix, e2e.BINARY, f"--data-dir={node.data}", "--election-timeout=700"]
        pods.start()
        pods.wait_until_writable()

    def test_bad_directories(self):
        place = self.directory()
        bad = {
            "missing": (None, None),
            "no labels": (None, "ns"),
            "no namespace": ('raft-cluster/id="c"\nraft-cluster/size="3"\nraft-cluster/svcName="s"', None),
            "empty": ("", "ns"),
            "no size": ('raft-cluster/id="c"\nraft-cluster/svcName="s"', "ns"),
            "size 0": ('raft-cluster/id="c"\nraft-cluster/size="0"\nraft-cluster/svcName="s"', "ns"),
            "size three": ('raft-cluster/id="c"\nraft-cluster/size="three"\nraft-cluster/svcName="s"', "ns"),
            "size 99": ('raft-cluster/id="c"\nraft-cluster/size="99"\nraft-cluster/svcName="s"', "ns"),
            "bad id": ('raft-cluster/id="C_C"\nraft-cluster/size="3"\nraft-cluster/svcName="s"', "ns"),
            "bad service": ('raft-cluster/id="c"\nraft-cluster/size="3"\nraft-cluster/svcName="a b"', "ns"),
            "another pod": ('raft-cluster/id="other"\nraft-cluster/size="3"\nraft-cluster/svcName="s"', "ns"),
            "index too high": ('raft-cluster/id="c"\nraft-cluster/size="1"\nraft-cluster/svcName="s"', "ns"),
        }
        for name, (labels, namespace) in bad.items():
            directory = place / re.sub(" ", "-", name)
            directory.mkdir()
            if labels is not None:
                (directory / "labels").write_text(labels)
            if namespace is not None:
                (directory / "k8s-ns").write_text(namespace)
            result = e2e.coracle("serve", "--id=c-1", "--join-mode=k8s", f"--cluster-config-path={directory}", "--check", cwd=place)
            self.assertEqual(result.returncode, 2, (name, result))
            self.assertRegex(result.stderr, r"^(cluster_config_path|node_id): ", name)
        result = e2e.coracle("serve", "--id=c-1", "--join-mode=k8s", "--check", cwd=place)
        self.assertEqual(result.returncode, 2, result)
        self.assertIn("cluster_config_path", result.stderr)


if __name__ == "__main__":
    e2e.main()
