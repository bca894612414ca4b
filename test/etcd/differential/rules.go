package differential

import (
	"fmt"
	"slices"
)

// rule is one of the rules of etcd's behaviour that are easy to get wrong, with what a run must have met to have tested it.
type rule struct {
	says string
	met  []string
}

const (
	emptyKey    = "InvalidArgument: etcdserver: key is not provided"
	noKey       = "InvalidArgument: etcdserver: key not found"
	compacted   = "OutOfRange: etcdserver: mvcc: required revision has been compacted"
	future      = "OutOfRange: etcdserver: mvcc: required revision is a future revision"
	noLease     = "NotFound: etcdserver: requested lease not found"
	noSpace     = "ResourceExhausted: etcdserver: mvcc: database space exceeded"
	corrupt     = "DataLoss: etcdserver: corrupt cluster"
	badSort     = "InvalidArgument: etcdserver: invalid sort option"
	unknownAuth = "FailedPrecondition: etcdserver: authentication is not enabled"
)

// rules are those that a long sequence must meet.
var rules = []rule{
	{"what changes nothing leaves the revision alone", []string{
		"Txn: the revision stays", "DeleteRange: the revision stays", "LeaseRevoke: the revision stays"}},
	{"a range in a transaction sees its earlier writes", []string{"Txn: reads after a write of its own"}},
	{"compares, on missing keys and on ranges too", []string{
		"Txn: compare VERSION: true", "Txn: compare VERSION: false", "Txn: compare CREATE: true", "Txn: compare CREATE: false",
		"Txn: compare MOD: true", "Txn: compare MOD: false", "Txn: compare VALUE: true", "Txn: compare VALUE: false",
		"Txn: compare LEASE: true", "Txn: compare LEASE: false",
		"Txn: compare VERSION, of a range: true", "Txn: compare VERSION, of a range: false",
		"Txn: compare CREATE, of a range: true", "Txn: compare CREATE, of a range: false",
		"Txn: compare MOD, of a range: true", "Txn: compare MOD, of a range: false",
		"Txn: compare VALUE, of a range: true", "Txn: compare VALUE, of a range: false",
		"Txn: compare LEASE, of a range: true", "Txn: compare LEASE, of a range: false",
		"Txn: compare EQUAL: true", "Txn: compare EQUAL: false", "Txn: compare GREATER: true", "Txn: compare GREATER: false",
		"Txn: compare LESS: true", "Txn: compare LESS: false", "Txn: compare NOT_EQUAL: true", "Txn: compare NOT_EQUAL: false"}},
	{"transactions nest", []string{"Txn: depth 1, succeeded true", "Txn: depth 1, succeeded false",
		"Txn: depth 2, succeeded true", "Txn: depth 2, succeeded false", "Txn: an empty branch"}},
	{"128 operations, nested ones counted", []string{
		"Txn: InvalidArgument: etcdserver: too many operations in txn request", "Txn: more than 100 operations"}},
	{"a key is put once", []string{"Txn: InvalidArgument: etcdserver: duplicate key given in txn request"}},
	{"an operation with nothing in it, and checks that fail before any write", []string{"Txn: " + noKey, "Txn: " + noLease,
		"Txn: InvalidArgument: etcdserver: lease is provided", "Txn: InvalidArgument: etcdserver: value is provided"}},
	{"revisions in transactions", []string{"Txn: " + compacted, "Txn: " + future}},
	{"a plain range takes a negative revision as now", []string{"Range: a negative revision"}},
	{"an empty key", []string{"Range: " + emptyKey, "Put: " + emptyKey, "DeleteRange: " + emptyKey, "Txn: " + emptyKey,
		"RangeStream: " + emptyKey}},
	{"range_end", []string{"Range: every key from one on", "Range: empty"}},
	{"count, more and limit", []string{"Range: more", "Range: a limit that cuts nothing off",
		"Range: a limit that filters made needless", "Range: filtered", "Range: count_only"}},
	{"sorting", []string{"Range: " + badSort, "Txn: " + badSort, "RangeStream: " + badSort,
		"Range: sorted by KEY, NONE", "Range: sorted by KEY, ASCEND", "Range: sorted by KEY, DESCEND",
		"Range: sorted by VERSION, NONE", "Range: sorted by VERSION, ASCEND", "Range: sorted by VERSION, DESCEND",
		"Range: sorted by CREATE, NONE", "Range: sorted by CREATE, ASCEND", "Range: sorted by CREATE, DESCEND",
		"Range: sorted by MOD, NONE", "Range: sorted by MOD, ASCEND", "Range: sorted by MOD, DESCEND",
		"Range: sorted by VALUE, NONE", "Range: sorted by VALUE, ASCEND", "Range: sorted by VALUE, DESCEND"}},
	{"keys_only", []string{"Range: keys_only"}},
	{"old revisions", []string{"Range: an old revision", "Range: " + compacted, "Range: " + future,
		"RangeStream: " + compacted, "RangeStream: " + future}},
	{"streamed ranges", []string{"RangeStream: OK", "RangeStream: Unimplemented: RangeStream does not support custom sort orders",
		"RangeStream: Unimplemented: RangeStream does not support revision filters"}},
	{"compaction", []string{"Compact: OK", "Compact: physical", "Compact: at the current revision", "Compact: " + compacted,
		"Compact: " + future, "HashKV: OK", "HashKV: " + compacted, "HashKV: " + future}},
	{"a key deleted and put again", []string{"Range: a key that was made anew"}},
	{"ignore_value and ignore_lease", []string{"Put: ignore_value", "Put: ignore_lease", "Put: " + noKey,
		"Put: InvalidArgument: etcdserver: value is provided", "Put: InvalidArgument: etcdserver: lease is provided"}},
	{"leases of keys", []string{"Put: with a lease", "Put: leaves a lease", "Put: " + noLease, "Range: a key with a lease"}},
	{"previous values", []string{"Put: with a previous value", "Put: asked for a previous value, none there",
		"DeleteRange: several previous values", "DeleteRange: several keys", "DeleteRange: nothing"}},
	{"leases", []string{"LeaseGrant: the server chooses the id", "LeaseGrant: TTL raised to the least", "LeaseGrant: the longest TTL",
		"LeaseGrant: OutOfRange: etcdserver: too large lease TTL", "LeaseGrant: FailedPrecondition: etcdserver: lease already exists",
		"LeaseKeepAlive: no such lease", "LeaseTimeToLive: no such lease", "LeaseTimeToLive: several keys",
		"LeaseRevoke: deletes keys", "LeaseRevoke: " + noLease, "LeaseLeases: OK"}},
	{"alarms", []string{"Alarm: lists one", "Status: lists an alarm", "Put: " + noSpace, "Txn: " + noSpace, "LeaseGrant: " + noSpace,
		"Put: " + corrupt, "Txn: " + corrupt, "DeleteRange: " + corrupt}},
	{"watches", []string{"Watch: created true, cancelled false ", "Watch: starts in the past", "Watch: starts in the future",
		"Watch: starts at the compacted revision", "Watch: filtered", "Watch: created false, cancelled true compacted",
		"Watch: created true, cancelled true etcdserver: mvcc: required revision has been compacted",
		"Watch: created true, cancelled true mvcc: duplicate watch ID provided on the WatchStream",
		"Watch: created true, cancelled true mvcc: watcher range is empty",
		"Watch: cancelled by the client", "Watch: a cancel of an unknown id", "Watch: a stream ended by the client",
		"Watch: PUT, with a previous value true", "Watch: PUT, with a previous value false",
		"Watch: DELETE, with a previous value true", "Watch: DELETE, with a previous value false"}},
	{"locks and elections", []string{"Lock: OK", "Unlock: OK", "Campaign: OK", "Proclaim: OK", "Resign: OK", "Leader: OK",
		"Leader: Unknown: election: no leader", "Proclaim: Unknown: election: not leader",
		`Proclaim: Unknown: "leader" field must be provided`, `Resign: Unknown: "leader" field must be provided`}},
	{"what needs no data", []string{"AuthStatus: OK", "Authenticate: " + unknownAuth, "MemberList: OK", "Status: OK", "Hash: OK",
		"Check: OK", "Check: NotFound: unknown service",
		"Downgrade: InvalidArgument: etcdserver: wrong downgrade target version format",
		"Downgrade: InvalidArgument: etcdserver: invalid downgrade target version", "HashKV: compared between members"}},
	{"the gateway", []string{"gateway: HTTP 200", "gateway: HTTP 400", "gateway: HTTP 404", "gateway: HTTP 500",
		"gateway: /v3/kv/range", "gateway: /v3/kv/put", "gateway: /v3/kv/deleterange", "gateway: /v3/kv/txn", "gateway: /v3/kv/compaction",
		"gateway: /v3/lease/grant", "gateway: /v3/lease/revoke", "gateway: /v3/kv/lease/revoke", "gateway: /v3/lease/timetolive",
		"gateway: /v3/lease/leases", "gateway: /v3/lock/lock", "gateway: /v3/lock/unlock", "gateway: /v3/election/campaign",
		"gateway: /v3/election/proclaim", "gateway: /v3/election/leader", "gateway: /v3/election/resign",
		"gateway: /v3/cluster/member/list", "gateway: /v3/maintenance/status", "gateway: /v3/maintenance/alarm",
		"gateway: /v3/maintenance/hashkv"}},
}

// untested returns what a run should have met and didn't.
func (reached coverage) untested() (lines []string) {
	for _, rule := range rules {
		missing := slices.DeleteFunc(slices.Clone(rule.met), func(what string) bool { return reached[what] > 0 })
		for _, what := range missing {
			lines = append(lines, fmt.Sprintf("%s: never %q", rule.says, what))
		}
	}
	return lines
}
