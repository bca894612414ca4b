package differential

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

func (s *sequence) put(key, value string) {
	s.one(&call{method: put, request: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}})
}

// Sizes are well to one side of each limit: etcd counts what it wraps around a request too.
func (s *sequence) sizes(t *testing.T) {
	const limit = 3 << 19
	for _, size := range []int{limit - 2048, limit + 2048, limit + 400<<10, limit + 600<<10} {
		value := []byte(strings.Repeat("s", size))
		s.one(&call{method: put, request: &pb.PutRequest{Key: []byte("size"), Value: value}})
		s.one(&call{method: txn, request: &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{
			RequestPut: &pb.PutRequest{Key: []byte("size"), Value: value}}}}}})
		s.one(&call{method: rangeKeys, request: &pb.RangeRequest{Key: value}})
		s.one(&call{method: put, request: &pb.PutRequest{Key: []byte("size"), Value: value}, gateway: true})
	}
	s.one(&call{method: deleteRange, request: &pb.DeleteRangeRequest{Key: []byte("size")}})
}

// rawCodec sends bytes that are no message.
type rawCodec struct{ encoding.Codec }

func (rawCodec) Marshal(v any) ([]byte, error) {
	if raw, ok := v.([]byte); ok {
		return raw, nil
	}
	return proto.Marshal(v.(proto.Message))
}
func (rawCodec) Unmarshal(data []byte, v any) error {
	if message, ok := v.(proto.Message); ok {
		return proto.Unmarshal(data, message)
	}
	return nil
}
func (rawCodec) Name() string { return "proto" }

func (s *sequence) calls(t *testing.T) {
	invoke := func(target *target, name string, request any) (codes.Code, string) {
		ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
		defer cancel()
		var nothing any = new(pb.PutResponse)
		err := target.conns[0].Invoke(ctx, name, request, nothing, grpc.ForceCodec(rawCodec{}))
		status := grpcstatus.Convert(err)
		return status.Code(), status.Message()
	}
	for _, one := range []struct {
		name    string
		request string
		// text: it is compared too; not so what a parser says (row 'texts of malformed messages').
		text bool
	}{
		{"/etcdserverpb.KV/Nothing", "", true},
		{"/etcdserverpb.Nothing/Put", "", true},
		{"/etcdserverpb.kv/Put", "", true},
		{"/nothing", "", true},
		{"/etcdserverpb.KV/Put", "\xff", false},
		{"/etcdserverpb.KV/Put", "\x0a\x05a", false},
		{"/etcdserverpb.KV/Put", "\x0a", false},
		{"/etcdserverpb.KV/Put", "\x0b", false},
		{"/etcdserverpb.KV/Put", "\x00", false},
		{"/etcdserverpb.KV/Put", "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", false},
		{"/etcdserverpb.KV/Put", "\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", false},
		{"/etcdserverpb.Auth/Authenticate", "\x0a\x02\xff\xfe", false},
		{"/etcdserverpb.KV/Put", "\x0a\x01a\x12\x01b\xfa\x06\x03abc", true},                          // a field nobody knows
		{"/etcdserverpb.KV/Put", "\x0a\x01x\x0a\x01a\x12\x01c", true},                                // the last of a field counts
		{"/etcdserverpb.KV/Put", "\x0a\x01a\x10\x05", true},                                          // another wire type: unknown
		{"/etcdserverpb.KV/Put", "\x0a\x01a\x1b\x08\x01\x1c", true},                                  // a group nobody knows
		{"/etcdserverpb.KV/Put", "\x0a\x01a\x20\xff\x01", true},                                      // a boolean of two bytes
		{"/etcdserverpb.KV/Put", "\x8a\x00\x01a", true},                                              // a tag longer than need be
		{"/etcdserverpb.KV/Txn", "\x12\x05\x0a\x03\x0a\x01a\x12\x07\x12\x05\x0a\x01a\x12\x00", true}, // range, then put
		{"/etcdserverpb.KV/Txn", "\x12\x0c\x0a\x03\x0a\x01a\x12\x05\x0a\x01a\x12\x00", true},         // both in one operation
	} {
		expectedCode, expectedText := invoke(s.reference, one.name, []byte(one.request))
		gotCode, gotText := invoke(s.candidate, one.name, []byte(one.request))
		if expectedCode != gotCode || (one.text && expectedText != gotText) {
			s.differ("calls "+one.name+one.request, fmt.Sprintf("  request: %s %q\n  %s: %s\n  %s: %s",
				one.name, one.request, expectedCode, expectedText, gotCode, gotText))
		}
		s.reached.add(fmt.Sprintf("a raw call: %s", expectedCode))
	}
	s.one(&call{method: rangeKeys, request: &pb.RangeRequest{Key: []byte("a")}})
	// Deep nesting must end in an answer; which, isn't compared (row 'deep nesting').
	deep := &pb.TxnRequest{}
	for range 3000 {
		deep = &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: deep}}}}
	}
	raw, _ := proto.Marshal(deep)
	if code, text := invoke(s.candidate, txn.name, raw); code == codes.Unavailable || code == codes.DeadlineExceeded {
		s.differ("deep nesting", fmt.Sprintf("  %s: %s", code, text))
	}
}

// together opens a stream of watches on each server.
func (s *sequence) openWatches() *watches {
	return &watches{streams: [2]*watchStream{s.reference.openWatch(0), s.candidate.openWatch(0)}}
}

// create makes the same watcher on both and returns its id.
func (s *sequence) create(w *watches, request *pb.WatchCreateRequest) int64 {
	s.catchUp(w)
	var ids [2]int64
	for i, stream := range w.streams {
		ids[i] = stream.create(request)
	}
	if ids[0] != ids[1] {
		s.differ("Watch: ids", fmt.Sprintf("%d and %d", ids[0], ids[1]))
	}
	return ids[0]
}

// events waits until both were told count events of a watcher, and compares them.
func (s *sequence) events(w *watches, id int64, count int) {
	w.both(func(stream *watchStream) {
		stream.await(fmt.Sprintf("%d events", count), func() bool {
			events := 0
			for _, message := range stream.told[id] {
				if _, ok := message.(*pb.WatchResponse); !ok {
					events++
				}
			}
			return events >= count
		})
	})
	expected, got := w.streams[0].takeTold(), w.streams[1].takeTold()
	s.compareTold(0, id, expected[id], got[id])
	s.takeBroken("in a scenario")
}

// fragments: much more than one message's worth, in one revision and over many.
func (s *sequence) fragments(t *testing.T) {
	from := s.generator.revision + 1
	for i := range 8 {
		s.put(fmt.Sprintf("fragment/%d", i), strings.Repeat("f", 500<<10))
	}
	w := s.openWatches()
	all := &pb.WatchCreateRequest{Key: []byte("fragment/"), RangeEnd: []byte("fragment0"), StartRevision: from}
	whole := s.create(w, all)
	cut := proto.Clone(all).(*pb.WatchCreateRequest)
	cut.Fragment = true
	inFragments := s.create(w, cut)
	cut = proto.Clone(cut).(*pb.WatchCreateRequest)
	cut.StartRevision, cut.PrevKv = 0, true
	later := s.create(w, cut)
	w.both(func(stream *watchStream) {
		for _, id := range []int64{whole, inFragments} {
			stream.await("8 events", func() bool { return len(stream.told[id]) >= 9 })
		}
	})
	// One revision whose events with their previous values are far over the limit.
	s.one(&call{method: deleteRange, request: &pb.DeleteRangeRequest{Key: []byte("fragment/"), RangeEnd: []byte("fragment0")}})
	w.both(func(stream *watchStream) {
		stream.await("the deletes", func() bool { return len(stream.told[later]) >= 9 && len(stream.told[whole]) >= 17 })
	})
	expected, got := w.streams[0].takeTold(), w.streams[1].takeTold()
	for _, id := range []int64{whole, inFragments, later} {
		s.compareTold(0, id, expected[id], got[id])
	}
	for _, stream := range w.streams {
		if stream.fragments < 2 {
			stream.target.broke("Watch: 4 MB of events came in %d fragments", stream.fragments)
		}
	}
	s.takeBroken("fragments")
	w.both(func(stream *watchStream) { stream.cancel() })
}

// halfClosed: a client that has said all it wants to say still hears of its watchers.
func (s *sequence) halfClosed(t *testing.T) {
	w := s.openWatches()
	id := s.create(w, &pb.WatchCreateRequest{Key: []byte("half")})
	w.both(func(stream *watchStream) { stream.client.CloseSend() })
	s.put("half", "closed")
	s.events(w, id, 1)
	w.both(func(stream *watchStream) { stream.cancel() })
}

// leaseExpires: all its keys go in one revision, in order, and everybody sees it.
func (s *sequence) leaseExpires(t *testing.T) {
	const id = 500
	w := s.openWatches()
	watch := s.create(w, &pb.WatchCreateRequest{Key: []byte("expiry/"), RangeEnd: []byte("expiry0"), PrevKv: true})
	s.one(&call{method: leaseGrant, request: &pb.LeaseGrantRequest{ID: id, TTL: 1}})
	for _, key := range []string{"expiry/c", "expiry/a", "expiry/b"} {
		s.one(&call{method: put, request: &pb.PutRequest{Key: []byte(key), Lease: id}})
	}
	s.one(&call{method: put, request: &pb.PutRequest{Key: []byte("expiry/d")}})
	s.events(w, watch, 4)
	s.events(w, watch, 3)
	s.one(&call{method: rangeKeys, request: &pb.RangeRequest{Key: []byte("expiry/"), RangeEnd: []byte("expiry0")}})
	s.one(&call{method: leaseTimeToLive, request: &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}})
	s.one(&call{method: leaseKeepAlive, request: &pb.LeaseKeepAliveRequest{ID: id}})
	s.one(&call{method: leaseRevoke, request: &pb.LeaseRevokeRequest{ID: id}})
	s.reached.add("a lease that expired")
	w.both(func(stream *watchStream) { stream.cancel() })
}

// keptAlive: one stream renews several leases for longer than they would have lived.
func (s *sequence) keptAlive(t *testing.T) {
	for id := int64(501); id <= 502; id++ {
		s.one(&call{method: leaseGrant, request: &pb.LeaseGrantRequest{ID: id, TTL: 3}})
	}
	var told [2][]string
	var done sync.WaitGroup
	for i, target := range []*target{s.reference, s.candidate} {
		done.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
			defer cancel()
			stream, err := pb.NewLeaseClient(target.conns[len(target.conns)-1]).LeaseKeepAlive(ctx)
			if err != nil {
				target.broke("LeaseKeepAlive: %v", err)
				return
			}
			for range 5 {
				for id := int64(501); id <= 503; id++ {
					stream.Send(&pb.LeaseKeepAliveRequest{ID: id})
					response, err := stream.Recv()
					if err != nil {
						target.broke("LeaseKeepAlive: %v", err)
						return
					}
					told[i] = append(told[i], fmt.Sprintf("%d: %d s at revision %d", response.ID, response.TTL, response.Header.Revision))
				}
				time.Sleep(time.Second)
			}
			stream.CloseSend()
			if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
				target.broke("LeaseKeepAlive: the stream ended with %v", err)
			}
		})
	}
	done.Wait()
	if fmt.Sprint(told[0]) != fmt.Sprint(told[1]) {
		s.differ("keep-alive", fmt.Sprintf("  %v\n  %v", told[0], told[1]))
	}
	s.takeBroken("keep-alive")
	for id := int64(501); id <= 502; id++ {
		s.one(&call{method: leaseRevoke, request: &pb.LeaseRevokeRequest{ID: id}})
	}
}

// waiting makes a call that waits on both, and returns what to call for its comparison.
func (s *sequence) waiting(c *call) (compare func()) {
	var expected, got answer
	var done sync.WaitGroup
	done.Go(func() { expected = s.reference.do(c) })
	done.Go(func() { got = s.candidate.do(c) })
	return func() {
		done.Wait()
		s.step++
		s.compare(c, expected, got)
	}
}

// untilKeys waits until so many keys have the prefix on both servers.
func (s *sequence) untilKeys(prefix string, count int64) {
	for _, target := range []*target{s.reference, s.candidate} {
		for deadline := time.Now().Add(answerLimit); ; {
			a := target.do(&call{method: rangeKeys, request: &pb.RangeRequest{Key: []byte(prefix), RangeEnd: prefixEnd([]byte(prefix)), CountOnly: true}})
			if response, ok := a.message.(*pb.RangeResponse); ok && response.Count == count {
				break
			}
			if time.Now().After(deadline) {
				target.broke("never %d keys under %s: %s", count, prefix, a)
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
}

func (s *sequence) lockQueue(t *testing.T) {
	for id := int64(511); id <= 514; id++ {
		s.one(&call{method: leaseGrant, request: &pb.LeaseGrantRequest{ID: id, TTL: 1000}})
	}
	lockOf := func(lease int64) *call {
		return &call{method: lock, request: &v3lockpb.LockRequest{Name: []byte("queue"), Lease: lease}}
	}
	unlockOf := func(lease int64) *call {
		return &call{method: unlock, request: &v3lockpb.UnlockRequest{Key: fmt.Appendf(nil, "queue/%x", lease)}}
	}
	s.one(lockOf(511))
	second := s.waiting(lockOf(512))
	s.untilKeys("queue/", 2)
	third := s.waiting(lockOf(513))
	s.untilKeys("queue/", 3)
	// One who gives up takes its key with it.
	ctx, cancel := context.WithCancel(context.Background())
	var gone sync.WaitGroup
	for _, target := range []*target{s.reference, s.candidate} {
		gone.Go(func() {
			err := target.conns[0].Invoke(ctx, lock.name, &v3lockpb.LockRequest{Name: []byte("queue"), Lease: 514}, new(v3lockpb.LockResponse))
			if grpcstatus.Code(err) != codes.Canceled {
				target.broke("Lock: %v", err)
			}
		})
	}
	s.untilKeys("queue/", 4)
	cancel()
	gone.Wait()
	s.untilKeys("queue/", 3)
	s.one(unlockOf(511))
	second()
	// The end of a lease unlocks too.
	s.one(&call{method: leaseRevoke, request: &pb.LeaseRevokeRequest{ID: 512}})
	third()
	s.one(unlockOf(513))
	for _, id := range []int64{511, 513, 514} {
		s.one(&call{method: leaseRevoke, request: &pb.LeaseRevokeRequest{ID: id}})
	}
	s.reached.add("locks that waited")
}

// lockWithoutLease: the server grants one of a minute itself.
func (s *sequence) lockWithoutLease(t *testing.T) {
	for _, target := range []*target{s.reference, s.candidate} {
		response := new(v3lockpb.LockResponse)
		if err := target.invoke(0, lock.name, &v3lockpb.LockRequest{Name: []byte("leaseless")}, response); err != nil {
			target.broke("Lock: %v", err)
			continue
		}
		var id int64
		fmt.Sscanf(string(response.Key), "leaseless/%x", &id)
		ttl := new(pb.LeaseTimeToLiveResponse)
		if err := target.invoke(0, leaseTimeToLive.name, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true}, ttl); err != nil ||
			ttl.GrantedTTL != 60 || len(ttl.Keys) != 1 || !bytes.Equal(ttl.Keys[0], response.Key) {
			target.broke("Lock without a lease: key %q, lease %s (%v)", response.Key, show(ttl), err)
		}
		if err := target.invoke(0, leaseRevoke.name, &pb.LeaseRevokeRequest{ID: id}, new(pb.LeaseRevokeResponse)); err != nil {
			target.broke("LeaseRevoke: %v", err)
		}
	}
	s.takeBroken("a lock without a lease")
	s.one(&call{method: rangeKeys, request: &pb.RangeRequest{Key: []byte("leaseless"), RangeEnd: []byte("leaselest")}})
}

func (s *sequence) election(t *testing.T) {
	for id := int64(521); id <= 522; id++ {
		s.one(&call{method: leaseGrant, request: &pb.LeaseGrantRequest{ID: id, TTL: 1000}})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var streams [2]grpc.ServerStreamingClient[v3electionpb.LeaderResponse]
	for i, target := range []*target{s.reference, s.candidate} {
		stream, err := v3electionpb.NewElectionClient(target.conns[0]).Observe(ctx, &v3electionpb.LeaderRequest{Name: []byte("throne")})
		if err != nil {
			t.Fatal(err)
		}
		streams[i] = stream
	}
	observed := func(what string) {
		var kvs [2]string
		for i, stream := range streams {
			response, err := stream.Recv()
			if err != nil {
				kvs[i] = err.Error()
				continue
			}
			kvs[i] = show(response.Kv)
		}
		if kvs[0] != kvs[1] {
			s.differ("Observe", fmt.Sprintf("  %s\n  %s\n  %s", what, kvs[0], kvs[1]))
		}
	}
	campaignOf := func(lease int64, value string) *call {
		return &call{method: campaign, request: &v3electionpb.CampaignRequest{Name: []byte("throne"), Lease: lease, Value: []byte(value)}}
	}
	s.one(campaignOf(521, "first"))
	observed("the first one")
	reigning := s.generator.leaders[len(s.generator.leaders)-1]
	second := s.waiting(campaignOf(522, "second"))
	s.untilKeys("throne/", 2)
	s.one(&call{method: proclaim, request: &v3electionpb.ProclaimRequest{Leader: reigning, Value: []byte("still first")}})
	observed("proclaimed")
	s.one(&call{method: leader, request: &v3electionpb.LeaderRequest{Name: []byte("throne")}})
	s.one(&call{method: resign, request: &v3electionpb.ResignRequest{Leader: reigning}})
	second()
	observed("the second one")
	s.one(&call{method: proclaim, request: &v3electionpb.ProclaimRequest{Leader: reigning, Value: []byte("not any more")}})
	for id := int64(521); id <= 522; id++ {
		s.one(&call{method: leaseRevoke, request: &pb.LeaseRevokeRequest{ID: id}})
	}
	s.one(&call{method: leader, request: &v3electionpb.LeaderRequest{Name: []byte("throne")}})
	s.reached.add("an election that was observed")
}

// snapshots: chunks, then the SHA-256 of all of them.
func (s *sequence) snapshots(t *testing.T) {
	for _, target := range []*target{s.reference, s.candidate} {
		for node := range target.conns {
			ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
			stream, err := pb.NewMaintenanceClient(target.conns[node]).Snapshot(ctx, &pb.SnapshotRequest{})
			if err != nil {
				t.Fatal(err)
			}
			sum, size, remaining, last := sha256.New(), 0, uint64(0), []byte(nil)
			for {
				response, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					target.broke("Snapshot: %v", err)
					break
				}
				if last != nil && len(response.Blob) != sha256.Size && response.RemainingBytes+uint64(len(response.Blob)) != remaining {
					target.broke("Snapshot: %d bytes remain after %d, with %d in between", response.RemainingBytes, remaining, len(response.Blob))
				}
				if !strings.HasPrefix(response.Version, "3.7") {
					target.broke("Snapshot: version %q", response.Version)
				}
				sum.Write(last)
				size += len(last)
				last, remaining = response.Blob, response.RemainingBytes
			}
			cancel()
			if size == 0 || remaining != 0 || !bytes.Equal(last, sum.Sum(nil)) {
				target.broke("Snapshot: %d bytes, %d remaining, sum %x, sent %x", size, remaining, sum.Sum(nil), last)
			}
		}
	}
	s.takeBroken("a snapshot")
}

// maintenance: calls that need the leader, or a cluster of several members.
func (s *sequence) maintenance(t *testing.T) {
	var answers [2]answer
	for i, target := range []*target{s.reference, s.candidate} {
		for node := range target.conns {
			state := new(pb.StatusResponse)
			if err := target.invoke(node, status.name, &pb.StatusRequest{}, state); err != nil {
				t.Fatal(err)
			}
			a := target.do(&call{method: moveLeader, request: &pb.MoveLeaderRequest{TargetID: 12345}, node: node})
			if state.Leader == state.Header.MemberId {
				answers[i] = a
			} else if a.code != codes.FailedPrecondition || a.text != "etcdserver: not leader" {
				target.broke("MoveLeader at a follower: %s", a)
			}
		}
	}
	if !equal(answers[0], answers[1]) {
		s.differ("MoveLeader", fmt.Sprintf("  to a stranger: %s and %s", answers[0], answers[1]))
	}
	for node := range s.candidate.conns {
		s.one(&call{method: defragment, request: &pb.DefragmentRequest{}, node: node})
	}
	s.one(&call{method: rangeKeys, request: &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}})
	s.takeBroken("maintenance")
}
