"""What is under deploy/ agrees with the program, and its parts with each other. No cluster is needed: the files are read."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import cluster as e2e

DEPLOY = e2e.REPOSITORY / "deploy"
TO_JSON = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"


def read_yaml(path):
    """All of the file's documents. The interpreter that runs the tests may be another than the one that Debian's python3-yaml is for."""
    problems = []
    for python in dict.fromkeys([sys.executable, "/usr/bin/python3"]):
        result = subprocess.run([python, "-c", TO_JSON], input=path.read_text(), capture_output=True, text=True)
        if result.returncode == 0:
            return json.loads(result.stdout)
        problems.append(result.stderr)
    raise AssertionError(f"{path}: {problems}")


def flags_of_help():
    return set(re.findall(r"--[a-z][a-z-]*", e2e.coracle("serve", "--help").stdout))


def flags_in(arguments):
    """{"--flag": "value"} of a list such as ["serve", "--flag=value"]."""
    return dict(argument.partition("=")[::2] for argument in arguments if argument.startswith("--"))


def constant(path, pattern):
    return re.findall(pattern, (e2e.REPOSITORY / path).read_text())


class KubernetesTest(e2e.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        documents = [document for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for document in read_yaml(path)]
        cls.objects = {(document["kind"], document["metadata"]["name"]): document for document in documents}
        assert len(cls.objects) == len(documents), "two objects have one name"
        cls.set = cls.objects["StatefulSet", "coracle"]
        cls.spec = cls.set["spec"]
        cls.labels = cls.spec["template"]["metadata"]["labels"]
        cls.pod = cls.spec["template"]["spec"]
        (cls.container,) = cls.pod["containers"]
        cls.flags = flags_in(cls.container["args"])

    def test_these_objects_and_no_others(self):
        expected = {
            ("StatefulSet", "coracle"),
            ("Service", "coracle-peers"),
            ("Service", "coracle"),
            ("PodDisruptionBudget", "coracle"),
        }
        self.assertEqual(set(self.objects), expected)

    def test_flags_and_variables_are_known(self):
        self.assertEqual(self.container["args"][0], "serve")
        self.assertLessEqual(set(self.flags), flags_of_help())
        self.assertEqual(self.flags["--join-mode"], "k8s")
        (variable,) = self.container["env"]
        self.assertEqual(variable["name"], "NODE_ID")
        self.assertEqual(variable["valueFrom"], {"fieldRef": {"fieldPath": "metadata.name"}})

    def test_labels_are_those_that_the_program_reads(self):
        names = set(constant("src/node/join_k8s.c", r'"(raft-cluster/\w+)"'))
        self.assertEqual(len(names), 3)
        self.assertEqual({label for label in self.labels if label.startswith("raft-cluster/")}, names)
        self.assertEqual(self.labels["raft-cluster/id"], self.set["metadata"]["name"])
        self.assertEqual(self.labels["raft-cluster/size"], str(self.spec["replicas"]))
        self.assertEqual(self.labels["raft-cluster/svcName"], self.spec["serviceName"])

    def test_the_downward_api_lays_what_the_program_reads(self):
        directory = self.flags["--cluster-config-path"]
        (mount,) = [mount for mount in self.container["volumeMounts"] if mount["mountPath"] == directory]
        (volume,) = [volume for volume in self.pod["volumes"] if volume["name"] == mount["name"]]
        files = {item["path"]: item["fieldRef"]["fieldPath"] for item in volume["downwardAPI"]["items"]}
        self.assertEqual(files, {"labels": "metadata.labels", "k8s-ns": "metadata.namespace"})
        self.assertEqual(set(files), set(constant("src/node/join_k8s.c", r'path_in\(path, "([^"]+)"\)')))

    def test_the_program_accepts_every_pod(self):
        with tempfile.TemporaryDirectory() as directory:
            place = pathlib.Path(directory)
            (place / "labels").write_text("\n".join(f'{key}="{value}"' for key, value in self.labels.items()))
            (place / "k8s-ns").write_text("default")
            here = {"--cluster-config-path": directory, "--data-dir": f"{directory}/data"}
            arguments = [f"{flag}={here.get(flag, value)}" for flag, value in self.flags.items()]
            for i in range(self.spec["replicas"] + 1):
                result = e2e.coracle("serve", f"--id={self.set['metadata']['name']}-{i}", *arguments, "--check", cwd=place)
                self.assertEqual(result.returncode, 0 if i < self.spec["replicas"] else 2, (i, result))

    def test_ports(self):
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.assertEqual(ports, {"api": int(self.flags["--api-port"]), "rpc": int(self.flags["--rpc-port"])})
        for name in ("coracle-peers", "coracle"):
            for port in self.objects["Service", name]["spec"]["ports"]:
                self.assertEqual(port["targetPort"], port["name"])
                self.assertEqual(port["port"], ports[port["name"]])
        for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            self.assertEqual(self.container[probe]["httpGet"], {"path": path, "port": "api"})

    def test_nodes_find_each_other_before_they_are_ready(self):
        headless = self.objects["Service", self.spec["serviceName"]]["spec"]
        self.assertEqual(headless["clusterIP"], "None")
        self.assertIs(headless["publishNotReadyAddresses"], True)
        self.assertEqual(self.spec["podManagementPolicy"], "Parallel")

    def test_selectors_select_the_pods(self):
        selectors = [
            self.spec["selector"]["matchLabels"],
            self.objects["PodDisruptionBudget", "coracle"]["spec"]["selector"]["matchLabels"],
            self.objects["Service", "coracle"]["spec"]["selector"],
            self.objects["Service", "coracle-peers"]["spec"]["selector"],
        ]
        rules = self.pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        selectors += [rule["labelSelector"]["matchLabels"] for rule in rules]
        self.assertEqual([rule["topologyKey"] for rule in rules], ["kubernetes.io/hostname"])
        for selector in selectors:
            self.assertTrue(selector)
            self.assertLessEqual(selector.items(), self.labels.items())

    def test_a_quorum_stays(self):
        allowed = self.objects["PodDisruptionBudget", "coracle"]["spec"]["maxUnavailable"]
        self.assertEqual(allowed, 1)
        self.assertGreater(self.spec["replicas"] - allowed, self.spec["replicas"] // 2)

    def test_data_are_on_a_volume(self):
        (claim,) = self.spec["volumeClaimTemplates"]
        self.assertNotIn("storageClassName", claim["spec"])
        self.assertEqual(claim["spec"]["accessModes"], ["ReadWriteOnce"])
        (mount,) = [mount for mount in self.container["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]
        self.assertTrue(self.flags["--data-dir"].startswith(mount["mountPath"] + "/"))
        self.assertGreaterEqual(self.pod["terminationGracePeriodSeconds"], 10)


class ImageTest(e2e.TestCase):
    def setUp(self):
        super().setUp()
        self.lines = (DEPLOY / "Dockerfile").read_text()

    def test_ports_are_the_defaults(self):
        (exposed,) = re.findall(r"^EXPOSE (.*)$", self.lines, re.MULTILINE)
        text = e2e.coracle("serve", "--help").stdout
        defaults = {re.search(rf"--{name}-port=PORT +\[(\d+)\]", text)[1] for name in ("api", "rpc")}
        self.assertEqual(set(exposed.split()), defaults)

    def test_it_installs_what_the_build_needs(self):
        (needed,) = constant("dev", r"BUILD_PACKAGES=\(([^)]*)\)")
        build = self.lines.split("\nFROM ")[-2]
        for package in needed.split():
            self.assertRegex(build, rf"\s{re.escape(package)}\s")

    def test_it_runs_as_nobody_special(self):
        last = self.lines.split("\nFROM ")[-1]
        (user,) = re.findall(r"^USER (\d+):(\d+)$", last, re.MULTILINE)
        self.assertNotIn("0", user)
        (volume,) = re.findall(r"^VOLUME (.*)$", last, re.MULTILINE)
        self.assertRegex(last, rf"install -d -o {user[0]} .*{re.escape(volume)}\n")
        for package in ("libuv1", "libjansson4", "libnghttp2-14", "libprotobuf-c1"):
            self.assertRegex(last, rf"\s{package}\s")
        self.assertNotIn("-dev", last)


class ComposeTest(e2e.TestCase):
    def test_three_nodes(self):
        (document,) = read_yaml(DEPLOY / "compose.yaml")
        members = {member["node_id"]: member for member in json.loads((DEPLOY / "cluster.json").read_text())}
        services = document["services"]
        self.assertEqual(set(services), set(members))
        self.assertEqual(len(services), 3)
        known, data, outside = flags_of_help(), set(), set()
        for name, service in services.items():
            self.assertEqual(service["environment"], {"NODE_ID": name})
            self.assertEqual(service["command"][0], "serve")
            flags = flags_in(service["command"])
            self.assertLessEqual(set(flags), known)
            mounts = dict(volume.split(":")[1::-1] for volume in service["volumes"])
            self.assertEqual(mounts[flags["--cluster-config-path"]], "./cluster.json")
            data.add(mounts[str(pathlib.PurePath(flags["--data-dir"]).parent)])
            self.assertEqual(members[name]["rpc_url"], f"{name}:6666")
            self.assertEqual(members[name]["api_url"], f"{name}:7777")
            (port,) = service["ports"]
            self.assertRegex(port, r"^127\.0\.0\.1:\d+:7777$")
            outside.add(port)
        self.assertEqual(len(data), 3)
        self.assertEqual(len(outside), 3)
        self.assertEqual(set(document["volumes"]), data)

    def test_the_program_accepts_the_cluster_file(self):
        with tempfile.TemporaryDirectory() as directory:
            for member in json.loads((DEPLOY / "cluster.json").read_text()):
                arguments = [f"--id={member['node_id']}", f"--cluster-config-path={DEPLOY}/cluster.json", f"--data-dir={directory}/data"]
                result = e2e.coracle("serve", *arguments, "--check", cwd=directory)
                self.assertEqual(result.returncode, 0, result)


class OperationsTest(e2e.TestCase):
    """docs/OPERATIONS.md names every flag and every metric, and no others."""

    def setUp(self):
        super().setUp()
        self.text = (e2e.REPOSITORY / "docs/OPERATIONS.md").read_text()

    def test_settings(self):
        text = e2e.coracle("serve", "--help").stdout
        table = dict(re.findall(r"^\| `(--[a-z-]+)`[^|]*\|[^|]*\|[^|]*\| `?([^|`]*)`? \|", self.text, re.MULTILINE))
        helped = dict(re.findall(r"^  (--[a-z-]+)(?:=\S+)?(?: \(also [^)]*\))?(?:   \[(.*)\])?$", text, re.MULTILINE))
        for no_setting in ("--config-file", "--print-config", "--check"):
            helped.pop(no_setting)
        self.assertGreater(len(helped), 20)
        self.assertEqual(set(table), set(helped))
        for flag, default in helped.items():
            if default:
                self.assertEqual(table[flag].strip(), default, flag)

    def test_metrics(self):
        names = set(constant("src/api/metrics.c", r'"((?:etcd|coracle|process)_[a-z_]+[a-z])"'))
        self.assertGreater(len(names), 40)
        self.assertEqual(set(re.findall(r"`((?:etcd|coracle|process)_[a-z_]+)`", self.text)), names)


if __name__ == "__main__":
    e2e.main()
