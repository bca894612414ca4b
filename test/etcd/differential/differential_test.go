package differential

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"coracle/test/etcd/reference"
)

// Set by who runs the test:
//
//	CORACLE_ETCD_ENDPOINTS   host:port of each member of the cluster to compare, comma separated, with nothing stored yet;
//	                         without it a second etcd is compared with the first, which tests the test
//	CORACLE_ETCD_OPERATIONS  how many calls
//	CORACLE_ETCD_SEED        of the sequence
func number(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

func targets(t *testing.T) (*target, *target) {
	etcd := dial(t, "etcd", reference.Start(t, 1).Endpoints())
	etcd.leaky = true
	if endpoints := os.Getenv("CORACLE_ETCD_ENDPOINTS"); endpoints != "" {
		return etcd, dial(t, "Coracle", strings.Split(endpoints, ","))
	}
	other := dial(t, "other etcd", reference.Start(t, 1).Endpoints())
	other.leaky = true
	return etcd, other
}

func TestSequence(t *testing.T) {
	count := int(number(t, "CORACLE_ETCD_OPERATIONS", 20_000))
	seed := number(t, "CORACLE_ETCD_SEED", uint64(time.Now().UnixNano()))
	t.Logf("CORACLE_ETCD_SEED=%d CORACLE_ETCD_OPERATIONS=%d", seed, count)
	etcd, other := targets(t)
	s := newSequence(t, seed, etcd, other)
	started := time.Now()
	s.run(count)
	t.Logf("%d operations in %.1f s, revision %d", s.step, time.Since(started).Seconds(), s.generator.revision)
	t.Logf("reached:\n%s", s.reached)
}
