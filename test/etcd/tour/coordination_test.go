package tour

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

func session(t *testing.T, client *clientv3.Client) *concurrency.Session {
	t.Helper()
	session := must(concurrency.NewSession(client, concurrency.WithTTL(10)))(t)
	t.Cleanup(func() { session.Close() })
	return session
}

func locks(t *testing.T, cluster *cluster) {
	ctx := limited(t)
	one, other := session(t, cluster.client(t)), session(t, cluster.client(t))
	first, second := concurrency.NewMutex(one, "locks/"), concurrency.NewMutex(other, "locks/")
	if err := first.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := second.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Fatalf("trying a lock that is held: %v", err)
	}
	locked := make(chan error, 1)
	go func() { locked <- second.Lock(ctx) }()
	held := must(one.Client().Txn(ctx).If(first.IsOwner()).Then(clientv3.OpGet("locks/")).Commit())(t)
	equal(t, "the owner", held.Succeeded, true)
	if err := first.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "the lock", locked); err != nil {
		t.Fatal(err)
	}
	// The end of a session unlocks.
	go func() { locked <- first.Lock(ctx) }()
	other.Close()
	if err := receive(t, "the lock of a session that ended", locked); err != nil {
		t.Fatal(err)
	}
	equal(t, "the counter under a lock", countUnderLock(t, cluster), 60)
}

// countUnderLock lets several clients change a value that only a lock protects.
func countUnderLock(t *testing.T, cluster *cluster) int {
	ctx := limited(t)
	var done sync.WaitGroup
	failed := make(chan error, 3)
	for range 3 {
		client := cluster.client(t)
		own := session(t, client)
		done.Go(func() {
			mutex := concurrency.NewMutex(own, "locks/counter")
			for range 20 {
				if err := mutex.Lock(ctx); err != nil {
					failed <- err
					return
				}
				value := 0
				if got, err := client.Get(ctx, "locks/value"); err == nil && got.Count > 0 {
					fmt.Sscan(string(got.Kvs[0].Value), &value)
				}
				client.Put(ctx, "locks/value", fmt.Sprint(value+1))
				mutex.Unlock(ctx)
			}
		})
	}
	done.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	value := 0
	fmt.Sscan(string(must(cluster.client(t).Get(ctx, "locks/value"))(t).Kvs[0].Value), &value)
	return value
}

func elections(t *testing.T, cluster *cluster) {
	ctx := limited(t)
	one, other := session(t, cluster.client(t)), session(t, cluster.client(t))
	first, second := concurrency.NewElection(one, "election"), concurrency.NewElection(other, "election")
	if _, err := first.Leader(ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		t.Fatalf("before anybody was elected: %v", err)
	}
	observing, stop := context.WithCancel(ctx)
	defer stop()
	observed := second.Observe(observing)
	value := func() string { return string(receive(t, "a leader", observed).Kvs[0].Value) }
	if err := first.Campaign(ctx, "first"); err != nil {
		t.Fatal(err)
	}
	equal(t, "elected", value(), "first")
	elected := make(chan error, 1)
	go func() { elected <- second.Campaign(ctx, "second") }()
	if err := first.Proclaim(ctx, "first again"); err != nil {
		t.Fatal(err)
	}
	equal(t, "proclaimed", value(), "first again")
	if err := first.Resign(ctx); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "the second election", elected); err != nil {
		t.Fatal(err)
	}
	equal(t, "then elected", value(), "second")
	if err := first.Proclaim(ctx, "not any more"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		t.Fatalf("proclaimed after resigning: %v", err)
	}
	equal(t, "the leader", string(must(first.Leader(ctx))(t).Kvs[0].Value), "second")
}

// softwareTransactions moves money between accounts from several clients: the sum stays.
func softwareTransactions(t *testing.T, cluster *cluster) {
	ctx := limited(t)
	client := cluster.client(t)
	const accounts = 5
	account := func(i int) string { return fmt.Sprintf("accounts/%d", i%accounts) }
	for i := range accounts {
		must(client.Put(ctx, account(i), "100"))(t)
	}
	var done sync.WaitGroup
	failed := make(chan error, 4)
	for worker, isolation := range []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable,
		concurrency.RepeatableReads, concurrency.SerializableSnapshot} {
		own := cluster.client(t)
		done.Go(func() {
			for i := 0; i < 30; i++ {
				_, err := concurrency.NewSTM(own, func(stm concurrency.STM) error {
					var from, to int
					fmt.Sscan(stm.Get(account(worker+i)), &from)
					fmt.Sscan(stm.Get(account(worker+2*i+1)), &to)
					if account(worker+i) == account(worker+2*i+1) {
						return nil
					}
					stm.Put(account(worker+i), fmt.Sprint(from-1))
					stm.Put(account(worker+2*i+1), fmt.Sprint(to+1))
					return nil
				}, concurrency.WithIsolation(isolation), concurrency.WithAbortContext(ctx))
				if errors.Is(err, rpctypes.ErrFutureRev) {
					// Read at a member that hasn't yet got what the first read saw at another one: try again.
					i--
				} else if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	done.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	sum := 0
	for _, kv := range must(client.Get(ctx, "accounts/", clientv3.WithPrefix()))(t).Kvs {
		value := 0
		fmt.Sscan(string(kv.Value), &value)
		sum += value
	}
	equal(t, "the sum of the accounts", sum, accounts*100)
}

func recipes(t *testing.T, cluster *cluster) {
	client, other := cluster.client(t), cluster.client(t)

	queue, sameQueue := recipe.NewPriorityQueue(client, "recipes/queue"), recipe.NewPriorityQueue(other, "recipes/queue")
	for i, value := range []string{"last", "first", "second"} {
		if err := queue.Enqueue(value, uint16([]int{9, 1, 1}[i])); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"first", "second", "last"} {
		equal(t, "dequeued", must(sameQueue.Dequeue())(t), want)
	}

	barrier := recipe.NewBarrier(client, "recipes/barrier")
	if err := barrier.Hold(); err != nil {
		t.Fatal(err)
	}
	through := make(chan error, 1)
	go func() { through <- recipe.NewBarrier(other, "recipes/barrier").Wait() }()
	if err := barrier.Release(); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "the barrier", through); err != nil {
		t.Fatal(err)
	}

	reader, writer := recipe.NewRWMutex(session(t, client), "recipes/rw"), recipe.NewRWMutex(session(t, other), "recipes/rw")
	if err := reader.RLock(); err != nil {
		t.Fatal(err)
	}
	go func() { through <- writer.Lock() }()
	if err := reader.RUnlock(); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "the writer's lock", through); err != nil {
		t.Fatal(err)
	}
	if err := writer.Unlock(); err != nil {
		t.Fatal(err)
	}

	met := make(chan error, 2)
	for _, own := range []*clientv3.Client{client, other} {
		own := session(t, own)
		go func() {
			meeting := recipe.NewDoubleBarrier(own, "recipes/double", 2)
			if err := meeting.Enter(); err != nil {
				met <- err
				return
			}
			met <- meeting.Leave()
		}()
	}
	for range 2 {
		if err := receive(t, "the double barrier", met); err != nil {
			t.Fatal(err)
		}
	}
}

// heldLock is a lock that is held over the death of a leader.
type heldLock struct {
	client  *clientv3.Client
	session *concurrency.Session
	mutex   *concurrency.Mutex
}

func holdLock(t *testing.T, client *clientv3.Client, name string) *heldLock {
	own := session(t, client)
	mutex := concurrency.NewMutex(own, name)
	if err := mutex.Lock(limited(t)); err != nil {
		t.Fatal(err)
	}
	return &heldLock{client, own, mutex}
}

// check sees that the session lives, that its lock is still held, and that nobody else gets it.
func (held *heldLock) check(t *testing.T) {
	select {
	case <-held.session.Done():
		t.Fatal("the session ended")
	default:
	}
	ctx := limited(t)
	equal(t, "the owner of the lock", must(held.client.Txn(ctx).If(held.mutex.IsOwner()).Then(clientv3.OpGet("dies/lock")).Commit())(t).Succeeded, true)
	if err := concurrency.NewMutex(session(t, held.client), "dies/lock").TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Fatalf("somebody else's attempt: %v", err)
	}
}

func (held *heldLock) release(t *testing.T) {
	if err := held.mutex.Unlock(limited(t)); err != nil {
		t.Fatal(err)
	}
}
