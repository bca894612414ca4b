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
//	CORACLE_ETCD_WITHOUT     names of methods that the sequence leaves out, comma separated: for a server that isn't complete;
//	                         a long sequence fails with it, since it then tests too little
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

// coveredFrom is how long a sequence must be to meet every rule for certain.
const coveredFrom = 50_000

// TestDifferential sends both servers the same, all the way: what one part leaves behind the next one finds.
func TestDifferential(t *testing.T) {
	count := int(number(t, "CORACLE_ETCD_OPERATIONS", 20_000))
	seed := number(t, "CORACLE_ETCD_SEED", uint64(time.Now().UnixNano()))
	etcd, other := targets(t)
	s := newSequence(t, seed, etcd, other)
	s.without = map[string]bool{}
	for _, name := range strings.Split(os.Getenv("CORACLE_ETCD_WITHOUT"), ",") {
		s.without[name] = true
	}
	s.awaitReady()
	s.agree("the start (the cluster to compare must be new)")
	part := func(name string, do func(t *testing.T)) {
		if s.lost {
			t.Errorf("%s: left out, since the two have gone apart", name)
			return
		}
		t.Run(name, func(t *testing.T) {
			s.t = t
			defer func() { s.t = s.whole }()
			do(t)
			s.agree(name)
		})
	}
	part("sequence", func(t *testing.T) {
		t.Logf("CORACLE_ETCD_SEED=%d CORACLE_ETCD_OPERATIONS=%d", seed, count)
		started := time.Now()
		s.run(count)
		t.Logf("%d operations in %.1f s, revision %d", s.step, time.Since(started).Seconds(), s.generator.revision)
	})
	s.endWatches()
	if untested := s.reached.untested(); count >= coveredFrom && !s.lost && len(untested) > 0 {
		t.Errorf("seed %d, %d operations: the sequence tests less than it should:\n%s", seed, count, strings.Join(untested, "\n"))
	}
	part("sizes", s.sizes)
	part("calls", s.calls)
	part("fragments", s.fragments)
	part("half-closed", s.halfClosed)
	part("lease-expires", s.leaseExpires)
	part("kept-alive", s.keptAlive)
	part("lock-queue", s.lockQueue)
	part("lock-without-lease", s.lockWithoutLease)
	part("election", s.election)
	part("snapshots", s.snapshots)
	part("maintenance", s.maintenance)
	part("gateway-texts", s.gatewayTexts)
	part("gateway-watch", s.gatewayWatch)
	t.Logf("reached:\n%s", s.reached)
}
