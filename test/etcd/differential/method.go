// Package differential drives a real etcd and another server with the same random requests and compares every answer.
package differential

import (
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// method is one call that a client can make: its name in gRPC and its path in the JSON gateway ("" when there is none).
type method struct {
	name   string
	path   string
	answer func() proto.Message
	// stream: the server answers with a stream, of which chunks are joined to one message.
	stream bool
	// writes: others must not run beside it.
	writes bool
}

func unary[M any, P interface {
	*M
	proto.Message
}](name, path string, writes bool) *method {
	return &method{name: name, path: path, writes: writes, answer: func() proto.Message { return P(new(M)) }}
}

var (
	rangeKeys   = unary[pb.RangeResponse]("/etcdserverpb.KV/Range", "/v3/kv/range", false)
	rangeStream = &method{name: "/etcdserverpb.KV/RangeStream", stream: true,
		answer: func() proto.Message { return new(pb.RangeStreamResponse) }}
	put         = unary[pb.PutResponse]("/etcdserverpb.KV/Put", "/v3/kv/put", true)
	deleteRange = unary[pb.DeleteRangeResponse]("/etcdserverpb.KV/DeleteRange", "/v3/kv/deleterange", true)
	txn         = unary[pb.TxnResponse]("/etcdserverpb.KV/Txn", "/v3/kv/txn", true)
	compact     = unary[pb.CompactionResponse]("/etcdserverpb.KV/Compact", "/v3/kv/compaction", true)

	leaseGrant      = unary[pb.LeaseGrantResponse]("/etcdserverpb.Lease/LeaseGrant", "/v3/lease/grant", true)
	leaseRevoke     = unary[pb.LeaseRevokeResponse]("/etcdserverpb.Lease/LeaseRevoke", "/v3/lease/revoke", true)
	leaseRevokeOld  = unary[pb.LeaseRevokeResponse]("/etcdserverpb.Lease/LeaseRevoke", "/v3/kv/lease/revoke", true)
	leaseTimeToLive = unary[pb.LeaseTimeToLiveResponse]("/etcdserverpb.Lease/LeaseTimeToLive", "/v3/lease/timetolive", false)
	leaseLeases     = unary[pb.LeaseLeasesResponse]("/etcdserverpb.Lease/LeaseLeases", "/v3/lease/leases", false)
	leaseKeepAlive  = &method{name: "/etcdserverpb.Lease/LeaseKeepAlive", path: "/v3/lease/keepalive", stream: true, writes: true,
		answer: func() proto.Message { return new(pb.LeaseKeepAliveResponse) }}

	memberList = unary[pb.MemberListResponse]("/etcdserverpb.Cluster/MemberList", "/v3/cluster/member/list", false)

	alarm      = unary[pb.AlarmResponse]("/etcdserverpb.Maintenance/Alarm", "/v3/maintenance/alarm", true)
	status     = unary[pb.StatusResponse]("/etcdserverpb.Maintenance/Status", "/v3/maintenance/status", false)
	hashKV     = unary[pb.HashKVResponse]("/etcdserverpb.Maintenance/HashKV", "/v3/maintenance/hashkv", false)
	hash       = unary[pb.HashResponse]("/etcdserverpb.Maintenance/Hash", "/v3/maintenance/hash", false)
	defragment = unary[pb.DefragmentResponse]("/etcdserverpb.Maintenance/Defragment", "/v3/maintenance/defragment", true)
	moveLeader = unary[pb.MoveLeaderResponse]("/etcdserverpb.Maintenance/MoveLeader", "/v3/maintenance/transfer-leadership", true)
	downgrade  = unary[pb.DowngradeResponse]("/etcdserverpb.Maintenance/Downgrade", "/v3/maintenance/downgrade", true)
	snapshot   = &method{name: "/etcdserverpb.Maintenance/Snapshot", path: "/v3/maintenance/snapshot", stream: true,
		answer: func() proto.Message { return new(pb.SnapshotResponse) }}

	authStatus   = unary[pb.AuthStatusResponse]("/etcdserverpb.Auth/AuthStatus", "/v3/auth/status", false)
	authenticate = unary[pb.AuthenticateResponse]("/etcdserverpb.Auth/Authenticate", "/v3/auth/authenticate", true)

	lock     = unary[v3lockpb.LockResponse]("/v3lockpb.Lock/Lock", "/v3/lock/lock", true)
	unlock   = unary[v3lockpb.UnlockResponse]("/v3lockpb.Lock/Unlock", "/v3/lock/unlock", true)
	campaign = unary[v3electionpb.CampaignResponse]("/v3electionpb.Election/Campaign", "/v3/election/campaign", true)
	proclaim = unary[v3electionpb.ProclaimResponse]("/v3electionpb.Election/Proclaim", "/v3/election/proclaim", true)
	leader   = unary[v3electionpb.LeaderResponse]("/v3electionpb.Election/Leader", "/v3/election/leader", false)
	resign   = unary[v3electionpb.ResignResponse]("/v3electionpb.Election/Resign", "/v3/election/resign", true)

	healthCheck = unary[grpc_health_v1.HealthCheckResponse]("/grpc.health.v1.Health/Check", "", false)
)
