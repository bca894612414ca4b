// Package reference runs a real etcd inside the test's own process.
//
// It keeps its data in memory-backed storage where there is some and never syncs it: what is compared is what clients see.
package reference

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// Members is a cluster of etcd members that ends with the test.
type Members struct {
	t       testing.TB
	configs []*embed.Config
	servers []*embed.Etcd
}

// Start starts size members and waits until each serves.
func Start(t testing.TB, size int) *Members {
	t.Helper()
	members := &Members{t: t, servers: make([]*embed.Etcd, size)}
	t.Cleanup(members.close)
	ports := freePorts(t, 2*size)
	initial := ""
	for i := range size {
		config := embed.NewConfig()
		config.Name = fmt.Sprintf("reference-%d", i+1)
		config.Dir = directory(t)
		config.LogLevel = "fatal"
		config.UnsafeNoFsync = true
		config.ListenClientUrls = []url.URL{localURL(ports[2*i])}
		config.AdvertiseClientUrls = config.ListenClientUrls
		config.ListenPeerUrls = []url.URL{localURL(ports[2*i+1])}
		config.AdvertisePeerUrls = config.ListenPeerUrls
		if initial != "" {
			initial += ","
		}
		initial += config.Name + "=" + config.ListenPeerUrls[0].String()
		members.configs = append(members.configs, config)
	}
	for i, config := range members.configs {
		config.InitialCluster = initial
		server, err := embed.StartEtcd(config)
		if err != nil {
			t.Fatalf("%s did not start: %v", config.Name, err)
		}
		members.servers[i] = server
	}
	for i, server := range members.servers {
		select {
		case <-server.Server.ReadyNotify():
		case <-time.After(time.Minute):
			t.Fatalf("%s is not ready", members.configs[i].Name)
		}
	}
	return members
}

// Endpoints returns each member's client address as host:port.
func (members *Members) Endpoints() []string {
	var endpoints []string
	for _, config := range members.configs {
		endpoints = append(endpoints, config.ListenClientUrls[0].Host)
	}
	return endpoints
}

// KillLeader stops the member that leads, and says which it was.
func (members *Members) KillLeader() int {
	for i, server := range members.servers {
		if server != nil && server.Server.Leader() == server.Server.MemberID() {
			server.Server.HardStop()
			server.Close()
			members.servers[i] = nil
			return i
		}
	}
	members.t.Fatal("there is no leader to kill")
	return -1
}

// Restart starts a stopped member again with its old data.
func (members *Members) Restart(i int) {
	config := *members.configs[i]
	config.ClusterState = embed.ClusterStateFlagExisting
	server, err := embed.StartEtcd(&config)
	if err != nil {
		members.t.Fatalf("%s did not start again: %v", config.Name, err)
	}
	members.servers[i] = server
}

func (members *Members) close() {
	for _, server := range members.servers {
		if server != nil {
			server.Server.HardStop()
			server.Close()
		}
	}
}

func localURL(port int) url.URL {
	return url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", port)}
}

func directory(t testing.TB) string {
	const memory = "/dev/shm"
	if _, err := os.Stat(memory); err != nil {
		return t.TempDir()
	}
	path, err := os.MkdirTemp(memory, "coracle-etcd-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

func freePorts(t testing.TB, count int) []int {
	t.Helper()
	var ports []int
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports
}
