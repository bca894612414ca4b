// Package tour uses a cluster as programs do that were written for etcd: through clientv3 and what comes with it.
package tour

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"coracle/test/etcd/reference"
)

// patience is how long anything may take; only what hangs needs so long.
const patience = time.Minute

// cluster is three members, and a way to kill the one that leads.
type cluster struct {
	endpoints  []string
	killLeader func(t *testing.T)
	restart    func(t *testing.T)
}

// startCluster finds the cluster to tour:
//
//	CORACLE_ETCD_ENDPOINTS  host:port of each member, comma separated; without it, a real etcd is toured, which tests the tour
//	CORACLE_ETCD_NEMESIS    URL of who kills the leader on POST /kill-leader and starts it again on POST /restart
func startCluster(t *testing.T) *cluster {
	endpoints := os.Getenv("CORACLE_ETCD_ENDPOINTS")
	if endpoints == "" {
		members := reference.Start(t, 3)
		killed := -1
		return &cluster{
			endpoints:  members.Endpoints(),
			killLeader: func(t *testing.T) { killed = members.KillLeader() },
			restart:    func(t *testing.T) { members.Restart(killed) },
		}
	}
	post := func(path string) func(t *testing.T) {
		return func(t *testing.T) {
			response, err := http.Post(os.Getenv("CORACLE_ETCD_NEMESIS")+path, "text/plain", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s", path, text)
			}
		}
	}
	return &cluster{endpoints: strings.Split(endpoints, ","), killLeader: post("/kill-leader"), restart: post("/restart")}
}

func (cluster *cluster) client(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: cluster.endpoints, DialTimeout: patience, Logger: zap.NewNop(),
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// receive takes one value, or fails.
func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case value, ok := <-from:
		if !ok {
			t.Fatalf("%s: the channel was closed", what)
		}
		return value
	case <-time.After(patience):
		t.Fatalf("%s: never came", what)
	}
	panic("unreachable")
}

func pairs(response *clientv3.GetResponse) string {
	var list []string
	for _, kv := range response.Kvs {
		list = append(list, string(kv.Key)+"="+string(kv.Value))
	}
	return strings.Join(list, " ")
}
