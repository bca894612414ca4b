package tour

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.uber.org/zap"
)

func TestTour(t *testing.T) {
	toured := startCluster(t)
	for _, part := range []struct {
		name string
		do   func(t *testing.T, cluster *cluster)
	}{
		{"keys", keys},
		{"transactions", transactions},
		{"watches", watches},
		{"leases", leases},
		{"compaction", compaction},
		{"errors", refusals},
		{"locks", locks},
		{"elections", elections},
		{"software-transactions", softwareTransactions},
		{"recipes", recipes},
		{"around-the-client", aroundTheClient},
		{"kubernetes", asKubernetes},
		{"maintenance", maintenance},
		{"leader-moves", leaderMoves},
		{"leader-dies", leaderDies},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.do(t, toured) }) {
			t.Logf("%s failed", part.name)
		}
	}
}

func keys(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	first := must(client.Put(ctx, "keys/a", "1"))(t)
	for i, key := range []string{"keys/b", "keys/c", "keys/d"} {
		must(client.Put(ctx, key, fmt.Sprint(i+2)))(t)
	}
	replaced := must(client.Put(ctx, "keys/a", "one", clientv3.WithPrevKV()))(t)
	equal(t, "the previous value", string(replaced.PrevKv.Value), "1")
	equal(t, "its revision", replaced.PrevKv.ModRevision, first.Header.Revision)

	get := func(key string, options ...clientv3.OpOption) *clientv3.GetResponse {
		t.Helper()
		return must(client.Get(ctx, key, options...))(t)
	}
	equal(t, "a prefix", pairs(get("keys/", clientv3.WithPrefix())), "keys/a=one keys/b=2 keys/c=3 keys/d=4")
	equal(t, "a range", pairs(get("keys/b", clientv3.WithRange("keys/d"))), "keys/b=2 keys/c=3")
	equal(t, "from a key on", get("keys/b", clientv3.WithFromKey(), clientv3.WithCountOnly()).Count >= 3, true)
	limitedTo := get("keys/", clientv3.WithPrefix(), clientv3.WithLimit(2))
	equal(t, "a limit", fmt.Sprintf("%s %t %d", pairs(limitedTo), limitedTo.More, limitedTo.Count), "keys/a=one keys/b=2 true 4")
	equal(t, "by revision, the last first", pairs(get("keys/", clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(2))), "keys/a=one keys/d=4")
	equal(t, "the key made last", pairs(get("keys/", clientv3.WithLastCreate()...)), "keys/d=4")
	equal(t, "keys only", pairs(get("keys/", clientv3.WithPrefix(), clientv3.WithKeysOnly())), "keys/a= keys/b= keys/c= keys/d=")
	equal(t, "an old revision", pairs(get("keys/a", clientv3.WithRev(first.Header.Revision))), "keys/a=1")
	equal(t, "a lower bound of revisions", pairs(get("keys/", clientv3.WithPrefix(), clientv3.WithMinModRev(replaced.Header.Revision))), "keys/a=one")
	for _, endpoint := range cluster.endpoints {
		one := must(clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()}))(t)
		equal(t, "through "+endpoint, pairs(must(one.Get(ctx, "keys/a"))(t)), "keys/a=one")
		equal(t, "serializable, after that", pairs(must(one.Get(ctx, "keys/a", clientv3.WithSerializable()))(t)), "keys/a=one")
		one.Close()
	}
	streamed := must(clientv3.GetStreamToGetResponse(must(client.GetStream(ctx, "keys/", clientv3.WithPrefix()))(t)))(t)
	equal(t, "streamed", pairs(streamed), "keys/a=one keys/b=2 keys/c=3 keys/d=4")

	deleted := must(client.Delete(ctx, "keys/", clientv3.WithPrefix(), clientv3.WithPrevKV()))(t)
	equal(t, "deleted", fmt.Sprint(deleted.Deleted, len(deleted.PrevKvs)), "4 4")
	equal(t, "deleted again", must(client.Delete(ctx, "keys/", clientv3.WithPrefix()))(t).Header.Revision, deleted.Header.Revision)
}

func transactions(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	create := func() *clientv3.TxnResponse {
		return must(client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision("txn/a"), "=", 0)).
			Then(clientv3.OpPut("txn/a", "1"), clientv3.OpGet("txn/a")).
			Else(clientv3.OpGet("txn/a"), clientv3.OpTxn(
				[]clientv3.Cmp{clientv3.Compare(clientv3.Value("txn/a"), "!=", "2")},
				[]clientv3.Op{clientv3.OpPut("txn/a", "2", clientv3.WithPrevKV())},
				[]clientv3.Op{clientv3.OpDelete("txn/", clientv3.WithPrefix())})).Commit())(t)
	}
	made := create()
	equal(t, "made", made.Succeeded, true)
	equal(t, "reads its own write", string(made.Responses[1].GetResponseRange().Kvs[0].Value), "1")
	nested := create().Responses[1].GetResponseTxn()
	equal(t, "nested", fmt.Sprintf("%t %s", nested.Succeeded, nested.Responses[0].GetResponsePut().PrevKv.Value), "true 1")
	nested = create().Responses[1].GetResponseTxn()
	equal(t, "nested, else", fmt.Sprint(nested.Succeeded, nested.Responses[0].GetResponseDeleteRange().Deleted), "false 1")
	must(client.Put(ctx, "txn/b", "1"))(t)
	// A real etcd doesn't wait for the latest state when a transaction has nothing but compares.
	read := clientv3.OpGet("txn/b")
	for i, one := range []struct {
		compare clientv3.Cmp
		holds   bool
	}{
		{clientv3.Compare(clientv3.Version("txn/b"), "=", 1), true},
		{clientv3.Compare(clientv3.Version("txn/b"), ">", 1), false},
		{clientv3.Compare(clientv3.ModRevision("txn/b"), "<", int64(1)<<40), true},
		{clientv3.Compare(clientv3.LeaseValue("txn/b"), "=", 0), true},
		{clientv3.Compare(clientv3.Value("txn/none"), "=", ""), false},
		{clientv3.Compare(clientv3.Version("txn/"), ">", 0).WithPrefix(), true},
		{clientv3.Compare(clientv3.Value("txn/"), "=", "2").WithPrefix(), false},
	} {
		equal(t, fmt.Sprintf("compare %d", i), must(client.Txn(ctx).If(one.compare).Then(read).Else(read).Commit())(t).Succeeded, one.holds)
	}
}

func watches(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	start := must(client.Put(ctx, "watch/a", "0"))(t).Header.Revision
	live := client.Watch(clientv3.WithRequireLeader(ctx), "watch/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify(),
		clientv3.WithRev(start+1))
	equal(t, "a created notification", receive(t, "created", live).Created, true)
	filtered := client.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithRev(start))
	must(client.Put(ctx, "watch/a", "1"))(t)
	must(client.Txn(ctx).Then(clientv3.OpPut("watch/b", "1"), clientv3.OpPut("watch/c", "1")).Commit())(t)
	must(client.Delete(ctx, "watch/a"))(t)

	told := func(channel clientv3.WatchChan, count int) (events []string) {
		for len(events) < count {
			response := receive(t, "events", channel)
			if err := response.Err(); err != nil {
				t.Fatal(err)
			}
			for _, event := range response.Events {
				previous := ""
				if event.PrevKv != nil {
					previous = "<" + string(event.PrevKv.Value)
				}
				events = append(events, fmt.Sprintf("%s %s=%s%s", event.Type, event.Kv.Key, event.Kv.Value, previous))
			}
		}
		return events
	}
	equal(t, "live", fmt.Sprint(told(live, 4)), "[PUT watch/a=1<0 PUT watch/b=1 PUT watch/c=1 DELETE watch/a=<1]")
	equal(t, "filtered", fmt.Sprint(told(filtered, 1)), "[DELETE watch/a=]")
	past := client.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithRev(start), clientv3.WithFragment())
	equal(t, "from the past", fmt.Sprint(told(past, 5)), "[PUT watch/a=0 PUT watch/a=1 PUT watch/b=1 PUT watch/c=1 DELETE watch/a=]")

	progressCtx, cancel := context.WithCancel(ctx)
	quiet := client.Watch(progressCtx, "watch/nothing", clientv3.WithCreatedNotify())
	receive(t, "created", quiet)
	now := must(client.Put(ctx, "watch/other", ""))(t).Header.Revision
	for {
		if err := client.RequestProgress(progressCtx); err != nil {
			t.Fatal(err)
		}
		response := receive(t, "progress", quiet)
		equal(t, "only progress", response.IsProgressNotify(), true)
		if response.Header.Revision >= now {
			break
		}
	}
	cancel()
	for range quiet {
	}

	// One client's thousand watchers all hear of one change.
	many, stop := context.WithCancel(ctx)
	defer stop()
	var channels []clientv3.WatchChan
	for range 1000 {
		channels = append(channels, client.Watch(many, "watch/many", clientv3.WithCreatedNotify()))
	}
	for _, channel := range channels {
		receive(t, "created", channel)
	}
	must(client.Put(ctx, "watch/many", "all"))(t)
	for _, channel := range channels {
		equal(t, "one of many", fmt.Sprint(told(channel, 1)), "[PUT watch/many=all]")
	}
}

func leases(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	short := must(client.Grant(ctx, 2))(t)
	kept := must(client.Grant(ctx, 3))(t)
	long := must(client.Grant(ctx, 500))(t)
	alive := must(client.KeepAlive(ctx, kept.ID))(t)
	revision := must(client.Put(ctx, "lease/short", "", clientv3.WithLease(short.ID)))(t).Header.Revision
	must(client.Put(ctx, "lease/kept", "", clientv3.WithLease(kept.ID)))(t)
	must(client.Put(ctx, "lease/long", "", clientv3.WithLease(long.ID)))(t)
	must(client.Put(ctx, "lease/long", "again", clientv3.WithIgnoreLease()))(t)

	once := must(client.KeepAliveOnce(ctx, long.ID))(t)
	equal(t, "renewed", once.TTL, 500)
	left := must(client.TimeToLive(ctx, long.ID, clientv3.WithAttachedKeys()))(t)
	equal(t, "its key", fmt.Sprintf("%d %s", left.GrantedTTL, left.Keys), "500 [lease/long]")
	known := map[clientv3.LeaseID]bool{}
	for _, lease := range must(client.Leases(ctx))(t).Leases {
		known[lease.ID] = true
	}
	equal(t, "listed", known[kept.ID] && known[long.ID], true)

	deletes := client.Watch(ctx, "lease/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithRev(revision))
	expired := receive(t, "the expiry", deletes)
	equal(t, "expired", string(expired.Events[0].Kv.Key), "lease/short")
	for range 4 {
		receive(t, "a renewal", alive)
	}
	equal(t, "still there", pairs(must(client.Get(ctx, "lease/kept"))(t)), "lease/kept=")
	equal(t, "gone", must(client.TimeToLive(ctx, short.ID))(t).TTL, -1)
	must(client.Revoke(ctx, long.ID))(t)
	equal(t, "revoked", string(receive(t, "the delete", deletes).Events[0].Kv.Key), "lease/long")
	must(client.Revoke(ctx, kept.ID))(t)
	for range alive {
	}
}

func compaction(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	var revisions []int64
	for i := range 5 {
		revisions = append(revisions, must(client.Put(ctx, "compaction", fmt.Sprint(i)))(t).Header.Revision)
	}
	must(client.Compact(ctx, revisions[3], clientv3.WithCompactPhysical()))(t)
	equal(t, "at the compacted revision", pairs(must(client.Get(ctx, "compaction", clientv3.WithRev(revisions[3])))(t)), "compaction=3")
	_, err := client.Get(ctx, "compaction", clientv3.WithRev(revisions[2]))
	equal(t, "below it", err, error(rpctypes.ErrCompacted))
	_, err = client.Compact(ctx, revisions[2])
	equal(t, "compacted again", err, error(rpctypes.ErrCompacted))
	response := receive(t, "the end of a watch", client.Watch(ctx, "compaction", clientv3.WithRev(revisions[1])))
	equal(t, "a watch from below", fmt.Sprint(response.Err(), response.CompactRevision),
		fmt.Sprint(rpctypes.ErrCompacted, revisions[3]))
}

func refusals(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	must(client.Put(ctx, "errors", ""))(t)
	granted := must(client.Grant(ctx, 100))(t)
	defer client.Revoke(ctx, granted.ID)
	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = clientv3.OpGet("errors")
	}
	errorOf := func(_ any, err error) error { return err }
	for _, one := range []struct {
		name      string
		got, want error
	}{
		{"an empty key", errorOf(client.Put(ctx, "", "")), rpctypes.ErrEmptyKey},
		{"a lease that isn't", errorOf(client.Put(ctx, "errors", "", clientv3.WithLease(1))), rpctypes.ErrLeaseNotFound},
		{"revoking one that isn't", errorOf(client.Revoke(ctx, 1)), rpctypes.ErrLeaseNotFound},
		{"renewing one that isn't", errorOf(client.KeepAliveOnce(ctx, 1)), rpctypes.ErrLeaseNotFound},
		{"a TTL too large", errorOf(client.Grant(ctx, 9_000_000_001)), rpctypes.ErrLeaseTTLTooLarge},
		{"a value to be ignored", errorOf(client.Put(ctx, "errors", "x", clientv3.WithIgnoreValue())), rpctypes.ErrValueProvided},
		{"a lease to be ignored", errorOf(client.Put(ctx, "errors", "", clientv3.WithLease(granted.ID), clientv3.WithIgnoreLease())),
			rpctypes.ErrLeaseProvided},
		{"a value to keep that isn't", errorOf(client.Put(ctx, "errors/none", "", clientv3.WithIgnoreValue())), rpctypes.ErrKeyNotFound},
		{"the future", errorOf(client.Get(ctx, "errors", clientv3.WithRev(1<<40))), rpctypes.ErrFutureRev},
		{"compacting the future", errorOf(client.Compact(ctx, 1<<40)), rpctypes.ErrFutureRev},
		{"too many operations", errorOf(client.Txn(ctx).Then(many...).Commit()), rpctypes.ErrTooManyOps},
		{"a key twice", errorOf(client.Txn(ctx).Then(clientv3.OpPut("errors", ""), clientv3.OpPut("errors", "")).Commit()),
			rpctypes.ErrDuplicateKey},
		{"too large", errorOf(client.Put(ctx, "errors", string(make([]byte, 1600<<10)))), rpctypes.ErrRequestTooLarge},
		{"authenticating", errorOf(client.Authenticate(ctx, "root", "secret")), rpctypes.ErrAuthNotEnabled},
	} {
		if !errors.Is(one.got, one.want) {
			t.Errorf("%s: %v, want %v", one.name, one.got, one.want)
		}
	}
	short, cancel := context.WithTimeout(ctx, time.Nanosecond)
	defer cancel()
	if _, err := client.Get(short, "errors"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a deadline that is over: %v", err)
	}
}

func aroundTheClient(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	kv := namespace.NewKV(client.KV, "space/")
	watcher := namespace.NewWatcher(client.Watcher, "space/")
	changes := watcher.Watch(ctx, "a", clientv3.WithCreatedNotify())
	receive(t, "created", changes)
	must(kv.Put(ctx, "a", "1"))(t)
	equal(t, "in the namespace", pairs(must(kv.Get(ctx, "", clientv3.WithPrefix()))(t)), "a=1")
	equal(t, "outside", pairs(must(client.Get(ctx, "space/a"))(t)), "space/a=1")
	equal(t, "watched", string(receive(t, "a change", changes).Events[0].Kv.Key), "a")

	manager := must(endpoints.NewManager(client, "services/tour"))(t)
	updates := must(manager.NewWatchChannel(ctx))(t)
	if err := manager.AddEndpoint(ctx, "services/tour/1", endpoints.Endpoint{Addr: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	equal(t, "an endpoint", receive(t, "an endpoint", updates)[0].Endpoint.Addr, "127.0.0.1:1")

	for i := range 2500 {
		must(client.Put(ctx, fmt.Sprintf("mirror/%04d", i), "x"))(t)
	}
	syncer := mirror.NewSyncer(client, "mirror/", 0)
	base, failed := syncer.SyncBase(ctx)
	count := 0
	for response := range base {
		count += len(response.Kvs)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	equal(t, "mirrored", count, 2500)
	following := syncer.SyncUpdates(ctx)
	must(client.Put(ctx, "mirror/new", "y"))(t)
	equal(t, "followed", string(receive(t, "an update", following).Events[0].Kv.Key), "mirror/new")
}

func asKubernetes(t *testing.T, cluster *cluster) {
	ctx := limited(t)
	client := must(kubernetes.New(clientv3.Config{Endpoints: cluster.endpoints, Logger: zap.NewNop()}))(t)
	defer client.Close()
	const prefix = "/registry/pods/"
	for i := range 25 {
		made := must(client.Kubernetes.OptimisticPut(ctx, fmt.Sprintf("%s%02d", prefix, i), []byte("new"), 0, kubernetes.PutOptions{}))(t)
		equal(t, "created", made.Succeeded, true)
	}
	var revision int64
	var seen []int64
	for next := ""; ; {
		page := must(client.Kubernetes.List(ctx, prefix, kubernetes.ListOptions{Revision: revision, Limit: 10, Continue: next}))(t)
		if revision == 0 {
			revision = page.Revision
		}
		for _, kv := range page.Kvs {
			seen = append(seen, kv.ModRevision)
			next = string(kv.Key) + "\x00"
		}
		if int64(len(page.Kvs)) == page.Count {
			break
		}
		// Between pages things change, but not in the list.
		must(client.Put(ctx, fmt.Sprintf("%sx%d", prefix, len(seen)), "late"))(t)
	}
	equal(t, "listed", len(seen), 25)
	key := prefix + "00"
	equal(t, "updated", must(client.Kubernetes.OptimisticPut(ctx, key, []byte("2"), seen[0], kubernetes.PutOptions{}))(t).Succeeded, true)
	conflict := must(client.Kubernetes.OptimisticPut(ctx, key, []byte("3"), seen[0], kubernetes.PutOptions{GetOnFailure: true}))(t)
	equal(t, "a conflict", fmt.Sprintf("%t %s", conflict.Succeeded, conflict.KV.Value), "false 2")
	equal(t, "deleted too late", must(client.Kubernetes.OptimisticDelete(ctx, key, seen[0], kubernetes.DeleteOptions{}))(t).Succeeded, false)
	equal(t, "deleted", must(client.Kubernetes.OptimisticDelete(ctx, key, conflict.KV.ModRevision, kubernetes.DeleteOptions{}))(t).Succeeded, true)
	equal(t, "counted", must(client.Kubernetes.Count(ctx, prefix, kubernetes.CountOptions{}))(t), 26)
	from := client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithPrevKV(), clientv3.WithProgressNotify())
	var events int
	for events < 4 {
		events += len(receive(t, "events since the list", from).Events)
	}
	equal(t, "events since the list", events, 4)
}

func maintenance(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	members := must(client.MemberList(ctx))(t).Members
	equal(t, "members", len(members), 3)
	if err := client.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	equal(t, "synced endpoints", len(client.Endpoints()), 3)
	revision := must(client.Put(ctx, "maintenance", "x"))(t).Header.Revision
	var leader uint64
	hashes := map[uint32]int{}
	for _, endpoint := range cluster.endpoints {
		one := must(clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()}))(t)
		must(one.Get(ctx, "maintenance"))(t) // waits until the member has everything
		one.Close()
		state := must(client.Status(ctx, endpoint))(t)
		if leader == 0 {
			leader = state.Leader
		}
		equal(t, "the leader", state.Leader, leader)
		equal(t, "a learner", state.IsLearner, false)
		equal(t, "errors", len(state.Errors), 0)
		hashes[must(client.HashKV(ctx, endpoint, revision))(t).Hash]++
		must(client.Defragment(ctx, endpoint))(t)
	}
	equal(t, "different hashes", len(hashes), 1)
	equal(t, "alarms", len(must(client.AlarmList(ctx))(t).Alarms), 0)

	saved := must(client.SnapshotWithVersion(ctx))(t)
	defer saved.Snapshot.Close()
	image := must(io.ReadAll(saved.Snapshot))(t)
	if len(image) < 2*sha256.Size {
		t.Fatalf("a snapshot of %d bytes", len(image))
	}
	body, sum := image[:len(image)-sha256.Size], image[len(image)-sha256.Size:]
	if actual := sha256.Sum256(body); !bytes.Equal(actual[:], sum) {
		t.Fatalf("a snapshot of %d bytes doesn't end in its SHA-256", len(image))
	}
}

// leaderMoves hands the leadership to another member on request.
func leaderMoves(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	var leader uint64
	var leading string
	var others []uint64
	for _, endpoint := range cluster.endpoints {
		state := must(client.Status(ctx, endpoint))(t)
		if state.Leader == state.Header.MemberId {
			leader, leading = state.Leader, endpoint
		} else {
			others = append(others, state.Header.MemberId)
		}
	}
	for _, endpoint := range cluster.endpoints {
		one := must(clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()}))(t)
		if endpoint != leading {
			if _, err := one.MoveLeader(ctx, others[0]); !errors.Is(err, rpctypes.ErrNotLeader) {
				t.Errorf("asked of a follower: %v", err)
			}
		}
		one.Close()
	}
	one := must(clientv3.New(clientv3.Config{Endpoints: []string{leading}, Logger: zap.NewNop()}))(t)
	defer one.Close()
	if _, err := one.MoveLeader(ctx, 4711); !errors.Is(err, rpctypes.ErrBadLeaderTransferee) {
		t.Errorf("to a stranger: %v", err)
	}
	must(one.MoveLeader(ctx, others[0]))(t)
	state := must(one.Status(ctx, leading))(t)
	equal(t, "the new leader", state.Leader, others[0])
	equal(t, "another one", state.Leader != leader, true)
	must(client.Put(ctx, "moved", ""))(t)
}

// leaderDies kills the leader under clients that write, watch, hold a lock and a lease, and try again what failed.
func leaderDies(t *testing.T, cluster *cluster) {
	ctx, client := limited(t), cluster.client(t)
	start := must(client.Put(ctx, "dies/start", ""))(t).Header.Revision
	events := client.Watch(clientv3.WithRequireLeader(ctx), "dies/count", clientv3.WithRev(start))
	held := holdLock(t, client, "dies/lock")

	// Each increments the counter by compare and swap. Whether an attempt without an answer counted, it finds out.
	const writers, each = 4, 50
	var done sync.WaitGroup
	halfway := make(chan struct{}, writers)
	failed := make(chan error, writers)
	for i := range writers {
		done.Go(func() {
			own := cluster.client(t)
			for n := range each {
				if err := increment(ctx, own, fmt.Sprintf("%d/%d", i, n)); err != nil {
					failed <- err
					return
				}
				if n == each/5 {
					halfway <- struct{}{}
				}
			}
		})
	}
	for range writers {
		select {
		case <-halfway:
		case err := <-failed:
			t.Fatal(err)
		}
	}
	cluster.killLeader(t)
	done.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	equal(t, "the counter", string(must(client.Get(ctx, "dies/count"))(t).Kvs[0].Value), fmt.Sprint(writers*each))

	// The watcher saw every step of it, once, in order, over the death of the leader too.
	next := 1
	for next <= writers*each {
		response, ok := <-events
		if !ok || response.Err() != nil {
			// With a leader required, a watch ends when there is none for a while; a client resumes it.
			if ok && !errors.Is(response.Err(), rpctypes.ErrNoLeader) {
				t.Fatal(response.Err())
			}
			events = client.Watch(clientv3.WithRequireLeader(ctx), "dies/count", clientv3.WithRev(start))
			continue
		}
		for _, event := range response.Events {
			equal(t, "the watched counter", string(event.Kv.Value), fmt.Sprint(next))
			next++
			start = event.Kv.ModRevision + 1
		}
	}
	held.check(t)
	cluster.restart(t)
	held.release(t)

	// All three have the same in the end.
	revision := must(client.Put(ctx, "dies/end", ""))(t).Header.Revision
	hashes := map[uint32]bool{}
	for _, endpoint := range cluster.endpoints {
		for {
			hash, err := client.HashKV(ctx, endpoint, revision)
			if err == nil {
				hashes[hash.Hash] = true
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s doesn't catch up: %v", endpoint, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	equal(t, "different hashes", len(hashes), 1)
}

// increment adds one to the counter, and leaves a mark by which it sees that it did.
func increment(ctx context.Context, client *clientv3.Client, mark string) error {
	for ctx.Err() == nil {
		read, err := client.Txn(ctx).Then(clientv3.OpGet("dies/count"), clientv3.OpGet("dies/mark/"+mark)).Commit()
		if err != nil {
			continue
		}
		if read.Responses[1].GetResponseRange().Count > 0 {
			return nil
		}
		value, revision := 0, int64(0)
		if kvs := read.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
			fmt.Sscan(string(kvs[0].Value), &value)
			revision = kvs[0].ModRevision
		}
		written, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision("dies/count"), "=", revision)).
			Then(clientv3.OpPut("dies/count", fmt.Sprint(value+1)), clientv3.OpPut("dies/mark/"+mark, "")).Commit()
		if err == nil && written.Succeeded {
			return nil
		}
	}
	return ctx.Err()
}
