package differential

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	transactionOpsMost = 128
	leasesMost         = 10
	ttlLongest         = 9_000_000_000
	// No lease of the sequence may expire in its course.
	ttlShortest = 100_000
	alarmSteps  = 12
)

// Few keys, so that requests meet; with neighbours, prefixes of each other, and bytes from both ends.
var keys = strings.Split("a|a\x00|a/|a/1|a/2|ab|b|c|d|e|f|g|\x00|\x00\x00|\xff|\xff\xff|zebra|\xc3\xa9", "|")
var values = []string{"", "", "0", "1", "2", "10", "\x00", "\xff", "a rather long value, much longer than the others"}

// generator makes up calls. It knows of the store what the reference server's answers told, so its sequence is given by the
// seed alone.
type generator struct {
	rng       *rand.Rand
	revision  int64
	compacted int64
	// compactions are the revisions that were ever compacted at.
	compactions map[int64]bool
	leases      []int64
	// ownIDs are those of them whose id the sequence chose, so that keys made of the id are equal on both sides.
	ownIDs map[int64]bool
	// next are calls that must follow.
	next []*call
	// alarm is the one that is raised, or NONE, and alarmFor the steps until it goes.
	alarm    pb.AlarmType
	alarmFor int
	node     int
	leaders  []*v3electionpb.LeaderKey
	locks    [][]byte
}

func newGenerator(seed uint64) *generator {
	return &generator{rng: rand.New(rand.NewPCG(seed, 5)), revision: 1, compactions: map[int64]bool{}, ownIDs: map[int64]bool{}}
}

func (g *generator) chance(one int) bool { return g.rng.IntN(one) == 0 }

func pick[T any](g *generator, from ...T) T { return from[g.rng.IntN(len(from))] }

// call makes up the next call.
func (g *generator) call() *call {
	if len(g.next) > 0 {
		c := g.next[0]
		g.next = g.next[1:]
		return c
	}
	if g.alarmFor > 0 {
		g.alarmFor--
		if g.alarmFor == 0 {
			return g.at(alarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: thisMember, Alarm: g.alarm})
		}
	}
	c := g.anyCall()
	if c.method.writes {
		g.node = g.rng.IntN(1 << 20)
	}
	c.node = g.node
	if !serializable(c) && g.chance(3) {
		c.node = g.rng.IntN(1 << 20)
		if c.method.writes {
			g.node = c.node
		}
	}
	c.hasLeader = g.chance(20)
	c.gateway = c.method.path != "" && !c.method.stream && g.chance(8) && !serverChooses(c)
	return c
}

// serializable: the answer is the member's own state, so it must be the one that the last write was done through.
func serializable(c *call) bool {
	switch request := c.request.(type) {
	case *pb.RangeRequest:
		return request.Serializable
	case *pb.LeaseLeasesRequest, *pb.LeaseTimeToLiveRequest, *pb.HashKVRequest, *pb.HashRequest, *pb.StatusRequest, *pb.AlarmRequest:
		return true
	}
	return false
}

func serverChooses(c *call) bool {
	request, ok := c.request.(*pb.LeaseGrantRequest)
	return ok && request.ID == 0
}

func (g *generator) at(m *method, request proto.Message) *call {
	return &call{method: m, request: request, node: g.node}
}

func (g *generator) anyCall() *call {
	switch n := g.rng.IntN(1000); {
	case n < 330:
		return &call{method: put, request: g.put()}
	case n < 530:
		return &call{method: rangeKeys, request: g.rangeRequest()}
	case n < 560:
		return &call{method: rangeStream, request: g.rangeRequest()}
	case n < 640:
		return &call{method: deleteRange, request: g.delete()}
	case n < 840:
		return &call{method: txn, request: g.txn(0)}
	case n < 844:
		return &call{method: compact, request: g.compaction()}
	case n < 868:
		return g.grant()
	case n < 878:
		return &call{method: pick(g, leaseRevoke, leaseRevoke, leaseRevokeOld), request: &pb.LeaseRevokeRequest{ID: g.lease()}}
	case n < 898:
		return &call{method: leaseTimeToLive, request: &pb.LeaseTimeToLiveRequest{ID: g.lease(), Keys: g.chance(2)}}
	case n < 908:
		return &call{method: leaseKeepAlive, request: &pb.LeaseKeepAliveRequest{ID: g.lease()}}
	case n < 915:
		return &call{method: leaseLeases, request: &pb.LeaseLeasesRequest{}}
	case n < 917:
		return g.alarmCall()
	case n < 922:
		return &call{method: alarm, request: &pb.AlarmRequest{Action: pb.AlarmRequest_GET,
			Alarm: pick(g, pb.AlarmType_NONE, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)}}
	case n < 926:
		return &call{method: status, request: &pb.StatusRequest{}}
	case n < 932:
		revision := g.someRevision()
		if g.compactions[revision] {
			revision = 0 // row 'hashes of compactions'
		}
		return &call{method: hashKV, request: &pb.HashKVRequest{Revision: revision}}
	case n < 934:
		return &call{method: hash, request: &pb.HashRequest{}}
	case n < 936:
		return &call{method: memberList, request: &pb.MemberListRequest{Linearizable: g.chance(2)}}
	case n < 937:
		return &call{method: authStatus, request: &pb.AuthStatusRequest{}}
	case n < 939:
		return &call{method: authenticate, request: &pb.AuthenticateRequest{Name: pick(g, "", "root"), Password: pick(g, "", "secret")}}
	case n < 941:
		return &call{method: healthCheck, request: &grpc_health_v1.HealthCheckRequest{
			Service: pick(g, "", "", "etcdserverpb.KV", "nobody")}}
	case n < 943:
		return &call{method: downgrade, request: &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE,
			Version: pick(g, "", "3", "3.x", "4.0.0", "3.5.0", "3.8.0", "3.7.0")}}
	default:
		return g.coordination()
	}
}

// ---- Parts of requests ----

func (g *generator) key() []byte {
	if g.chance(60) {
		return nil
	}
	return []byte(pick(g, keys...))
}

func (g *generator) keyRange() (key, end []byte) {
	key = g.key()
	switch n := g.rng.IntN(20); {
	case n < 8:
		return key, nil
	case n < 11:
		return key, prefixEnd(key)
	case n < 15:
		return key, g.key()
	case n < 17:
		return key, []byte{0}
	case n < 18:
		return []byte{0}, []byte{0}
	case n < 19:
		return key, key
	default:
		return []byte(pick(g, "a", "", "a/")), []byte(pick(g, "b", "a0", "\xff\xff\xff"))
	}
}

func prefixEnd(prefix []byte) []byte {
	end := slices.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

func (g *generator) value() []byte {
	if g.chance(400) {
		return []byte(strings.Repeat(pick(g, "x", "long "), 20_000))
	}
	if g.chance(10) {
		return fmt.Appendf(nil, "value %d", g.rng.IntN(1000))
	}
	return []byte(pick(g, values...))
}

// someRevision is most often one that can be read.
func (g *generator) someRevision() int64 {
	switch n := g.rng.IntN(20); {
	case n < 8:
		return 0
	case n < 14:
		return g.compacted + g.rng.Int64N(g.revision-g.compacted+1)
	case n < 15:
		return g.revision
	case n < 16:
		return g.compacted
	case n < 17:
		return g.compacted - 1
	case n < 18:
		return g.revision + 1 + g.rng.Int64N(3)
	case n < 19:
		return pick(g, int64(-1), -7, math.MinInt64)
	default:
		return pick(g, int64(1), 2, math.MaxInt64)
	}
}

// existingRevision is near those of keys that exist, for filters and compares.
func (g *generator) existingRevision() int64 {
	if g.chance(8) {
		return pick(g, int64(-1), 1, math.MaxInt64, math.MinInt64)
	}
	return g.revision - g.rng.Int64N(min(g.revision, 60))
}

func (g *generator) lease() int64 {
	if len(g.leases) > 0 && !g.chance(4) {
		return pick(g, g.leases...)
	}
	return pick(g, int64(1), 2, 3, 7, 0, -5, 999, math.MaxInt64)
}

// ---- Requests ----

func (g *generator) put() *pb.PutRequest {
	request := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(4)}
	if g.chance(4) {
		request.Lease = g.lease()
	}
	if g.chance(15) {
		request.IgnoreValue = true
		if !g.chance(4) {
			request.Value = nil
		}
	}
	if g.chance(15) {
		request.IgnoreLease = true
		if !g.chance(4) {
			request.Lease = 0
		}
	}
	return request
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	request := &pb.RangeRequest{Serializable: g.chance(3)}
	request.Key, request.RangeEnd = g.keyRange()
	if g.chance(2) {
		request.Revision = g.someRevision()
	}
	if g.chance(3) {
		request.Limit = pick(g, int64(1), 1, 2, 3, 5, 12, 1000, -1, math.MaxInt64)
	}
	if g.chance(3) {
		request.SortOrder = pb.RangeRequest_SortOrder(g.rng.IntN(3))
		request.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(5))
	}
	if g.chance(80) {
		request.SortOrder = pick(g, pb.RangeRequest_SortOrder(3), -1)
	}
	if g.chance(80) {
		request.SortTarget = pick(g, pb.RangeRequest_SortTarget(5), -1)
	}
	request.KeysOnly = g.chance(6)
	request.CountOnly = g.chance(8)
	if g.chance(5) {
		for _, bound := range []*int64{
			&request.MinModRevision, &request.MaxModRevision, &request.MinCreateRevision, &request.MaxCreateRevision,
		} {
			if g.chance(3) {
				*bound = g.existingRevision()
			}
		}
	}
	return request
}

func (g *generator) delete() *pb.DeleteRangeRequest {
	request := &pb.DeleteRangeRequest{PrevKv: g.chance(3)}
	request.Key, request.RangeEnd = g.keyRange()
	// Mostly few keys, or nothing would ever grow old.
	if len(request.RangeEnd) > 0 && g.chance(2) {
		request.RangeEnd = nil
	}
	return request
}

func (g *generator) compare() *pb.Compare {
	compare := &pb.Compare{
		Key:    g.key(),
		Result: pb.Compare_CompareResult(g.rng.IntN(4)),
		Target: pb.Compare_CompareTarget(g.rng.IntN(5)),
	}
	if g.chance(4) {
		compare.Key, compare.RangeEnd = g.keyRange()
	}
	union := compare.Target
	if g.chance(40) {
		union = pb.Compare_CompareTarget(g.rng.IntN(6)) // one that the target isn't about, or none
	}
	switch union {
	case pb.Compare_VERSION:
		compare.TargetUnion = &pb.Compare_Version{Version: pick(g, int64(0), 0, 1, 1, 2, 3, -1)}
	case pb.Compare_CREATE:
		compare.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: pick(g, 0, g.existingRevision())}
	case pb.Compare_MOD:
		compare.TargetUnion = &pb.Compare_ModRevision{ModRevision: pick(g, 0, g.existingRevision())}
	case pb.Compare_VALUE:
		compare.TargetUnion = &pb.Compare_Value{Value: []byte(pick(g, values...))}
	case pb.Compare_LEASE:
		compare.TargetUnion = &pb.Compare_Lease{Lease: pick(g, 0, g.lease())}
	}
	// Which of two ids that the servers chose is greater says nothing.
	if lease := compare.GetLease(); lease > 1<<20 && lease < math.MaxInt64 {
		compare.Result = pick(g, pb.Compare_EQUAL, pb.Compare_NOT_EQUAL)
	}
	if g.chance(200) {
		compare.Result = pick(g, pb.Compare_CompareResult(4), -1)
	}
	if g.chance(200) {
		compare.Target = pick(g, pb.Compare_CompareTarget(5), -1)
	}
	return compare
}

func (g *generator) op(depth int) *pb.RequestOp {
	switch n := g.rng.IntN(100); {
	case n < 40:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	case n < 65:
		request := g.rangeRequest()
		// Most transactions would fail otherwise.
		if g.chance(2) {
			request.Revision = 0
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: request}}
	case n < 82:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.delete()}}
	case n < 98:
		if depth >= 3 {
			return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{}}}
		}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth + 1)}}
	default:
		return &pb.RequestOp{}
	}
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	request := &pb.TxnRequest{}
	for range pick(g, 0, 1, 1, 1, 2, 3) {
		request.Compare = append(request.Compare, g.compare())
	}
	most := max(1, 4-depth)
	for range g.rng.IntN(most + 1) {
		request.Success = append(request.Success, g.op(depth))
	}
	for range g.rng.IntN(most + 1) {
		request.Failure = append(request.Failure, g.op(depth))
	}
	if depth == 0 && g.chance(60) {
		g.lengthen(request)
	}
	if depth == 0 {
		spareEtcd(request)
	}
	return request
}

// spareEtcd takes out what stops a real etcd (docs/ETCD.md, row 'transactions that stop etcd'): it doesn't see that a delete
// of every key from one on overlaps a put. Then it misses the key whose value or lease that put wants to keep, or, after a
// compaction at that revision, the key itself.
func spareEtcd(request *pb.TxnRequest) {
	puts := false
	everyOp(request, func(op *pb.RequestOp) { puts = puts || op.GetRequestPut() != nil })
	everyOp(request, func(op *pb.RequestOp) {
		if remove := op.GetRequestDeleteRange(); remove != nil && puts && string(remove.RangeEnd) == "\x00" {
			remove.RangeEnd = []byte("\xff\xff\xff")
		}
	})
}

func everyOp(request *pb.TxnRequest, do func(*pb.RequestOp)) {
	for _, op := range slices.Concat(request.Success, request.Failure) {
		do(op)
		if inner := op.GetRequestTxn(); inner != nil {
			everyOp(inner, do)
		}
	}
}

// lengthen makes a transaction of about as many operations as are allowed, somewhere in it.
func (g *generator) lengthen(request *pb.TxnRequest) {
	count := transactionOpsMost + pick(g, -1, 0, 0, 1, 2)
	keyOf := func(i int) []byte { return fmt.Appendf(nil, "many/%03d", i) }
	puts := func(count int) (ops []*pb.RequestOp) {
		for i := range count {
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
				RequestPut: &pb.PutRequest{Key: keyOf(i), Value: g.value()}}})
		}
		return ops
	}
	switch g.rng.IntN(6) {
	case 0:
		request.Compare = nil
		for i := range count {
			request.Compare = append(request.Compare, &pb.Compare{
				Key: keyOf(i), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 0}})
		}
	case 1:
		request.Success = puts(count)
	case 2:
		request.Failure = puts(count)
	case 3:
		request.Success, request.Failure = puts(transactionOpsMost), puts(transactionOpsMost)
	default:
		outer := 1 + g.rng.IntN(60)
		inner := &pb.TxnRequest{Success: puts(count - outer)}
		request.Compare, request.Failure = nil, nil
		request.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}}}
		for range outer - 1 {
			request.Success = append(request.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{
				RequestRange: &pb.RangeRequest{Key: []byte("a")}}})
		}
	}
	g.next = append(g.next, g.at(deleteRange, &pb.DeleteRangeRequest{Key: []byte("many/"), RangeEnd: []byte("many0")}))
}

func (g *generator) compaction() *pb.CompactionRequest {
	request := &pb.CompactionRequest{Physical: g.chance(2)}
	switch n := g.rng.IntN(10); {
	case n < 5:
		// Leaves something old to read.
		request.Revision = max(g.compacted+1, g.revision-20-g.rng.Int64N(100))
	case n < 6:
		request.Revision = g.revision
	case n < 7:
		request.Revision = g.compacted
	default:
		request.Revision = pick(g, g.compacted-1, g.revision+1, 0, -1, math.MaxInt64, math.MinInt64)
	}
	// docs/ETCD.md, 'compaction at 0': once, before any other, etcd takes it.
	if request.Revision == 0 && g.compacted <= 0 {
		request.Revision = -1
	}
	return request
}

func (g *generator) grant() *call {
	request := &pb.LeaseGrantRequest{TTL: ttlShortest + g.rng.Int64N(1000), ID: int64(1 + g.rng.IntN(20))}
	if g.chance(4) {
		request.ID = 0
	}
	if g.chance(20) {
		request.ID = pick(g, int64(-5), math.MaxInt64, math.MinInt64)
	}
	if len(g.leases) >= leasesMost {
		return &call{method: leaseRevoke, request: &pb.LeaseRevokeRequest{ID: pick(g, g.leases...)}}
	}
	switch g.rng.IntN(12) {
	case 0:
		request.TTL = pick(g, int64(ttlLongest+1), math.MaxInt64)
	case 1:
		request.TTL = ttlLongest
	case 2:
		// Raised to the least; it must not live to expire.
		request.TTL = pick(g, int64(0), 1, -1, math.MinInt64)
		if request.ID == 0 {
			request.ID = 77
		}
		g.next = append(g.next, g.at(leaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: request.ID}),
			g.at(leaseRevoke, &pb.LeaseRevokeRequest{ID: request.ID}))
	}
	return &call{method: leaseGrant, request: request}
}

func (g *generator) alarmCall() *call {
	if g.alarmFor > 0 || g.chance(4) {
		return &call{method: alarm, request: &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: thisMember,
			Alarm: pick(g, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT, pb.AlarmType_NONE)}}
	}
	return &call{method: alarm, request: &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: thisMember,
		Alarm: pick(g, pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT)}}
}

// coordination makes a call of the services for locks and elections that needn't wait: each lease has a lock and an
// election of its own.
func (g *generator) coordination() *call {
	lease := pick(g, int64(999), 998)
	for _, own := range g.leases {
		if g.ownIDs[own] && !g.chance(3) {
			lease = own
			break
		}
	}
	name := fmt.Appendf(nil, "of %d", lease)
	switch g.rng.IntN(7) {
	case 0:
		return &call{method: lock, request: &v3lockpb.LockRequest{Name: name, Lease: lease}}
	case 1:
		key := g.key()
		if len(g.locks) > 0 {
			key = pick(g, g.locks...)
		}
		return &call{method: unlock, request: &v3lockpb.UnlockRequest{Key: key}}
	case 2:
		return &call{method: campaign, request: &v3electionpb.CampaignRequest{Name: name, Lease: lease, Value: g.value()}}
	case 3:
		return &call{method: proclaim, request: &v3electionpb.ProclaimRequest{Leader: g.leaderKey(), Value: g.value()}}
	case 4:
		return &call{method: resign, request: &v3electionpb.ResignRequest{Leader: g.leaderKey()}}
	default:
		return &call{method: leader, request: &v3electionpb.LeaderRequest{Name: name}}
	}
}

func (g *generator) leaderKey() *v3electionpb.LeaderKey {
	if len(g.leaders) == 0 || g.chance(20) {
		return pick(g, nil, &v3electionpb.LeaderKey{Name: []byte("of 999"), Key: []byte("of 999/3e7"), Rev: g.revision, Lease: 999})
	}
	return pick(g, g.leaders...)
}

// learn takes from the reference's answer what later requests are made of.
func (g *generator) learn(c *call, a answer) {
	if a.message == nil {
		return
	}
	if field := a.message.ProtoReflect().Descriptor().Fields().ByName("header"); field != nil {
		if header, ok := a.message.ProtoReflect().Get(field).Message().Interface().(*pb.ResponseHeader); ok {
			g.revision = max(g.revision, header.GetRevision())
		}
	}
	switch request := c.request.(type) {
	case *pb.CompactionRequest:
		g.compacted = request.Revision
		g.compactions[request.Revision] = true
	case *pb.AlarmRequest:
		switch {
		case request.Action == pb.AlarmRequest_ACTIVATE:
			g.alarmFor, g.alarm = 2+g.rng.IntN(alarmSteps), request.Alarm
			g.next = append(g.next, g.at(alarm, &pb.AlarmRequest{}), g.at(status, &pb.StatusRequest{}))
		case request.Action == pb.AlarmRequest_DEACTIVATE && request.Alarm == g.alarm:
			g.alarmFor, g.alarm = 0, pb.AlarmType_NONE
		}
	case *pb.LeaseGrantRequest:
		id := a.message.(*pb.LeaseGrantResponse).ID
		g.leases = append(g.leases, id)
		g.ownIDs[id] = request.ID != 0
	case *pb.LeaseRevokeRequest:
		g.leases = slices.DeleteFunc(g.leases, func(id int64) bool { return id == request.ID })
	}
	switch message := a.message.(type) {
	case *v3lockpb.LockResponse:
		g.locks = append(g.locks, message.Key)
		g.locks = g.locks[max(0, len(g.locks)-8):]
	case *v3electionpb.CampaignResponse:
		g.leaders = append(g.leaders, message.Leader)
		g.leaders = g.leaders[max(0, len(g.leaders)-8):]
	}
}
