package differential

import (
	"bytes"
	"cmp"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// thisMember stands, in the requests of a sequence and in answers, for the id of the member that is asked.
const thisMember = 1

// stableSortMost is up to how many keys etcd's sort keeps the order of those that it finds equal. Above, their order is
// chance (docs/ETCD.md, row 'order of equals').
const stableSortMost = 12

var alarmOfMember = regexp.MustCompile(`memberID:\d+`)

// normaliseMessage takes out of an answer what may differ between two servers that do the same. Whatever it takes out, it
// checks by itself.
func (target *target) normaliseMessage(c *call, message proto.Message) {
	switch message := message.(type) {
	case *pb.RangeResponse:
		if request, ok := c.request.(*pb.RangeRequest); ok {
			orderEquals(request, message)
		}
	case *pb.TxnResponse:
		orderEqualsOfTxn(c.request.(*pb.TxnRequest), message)
	case *pb.LeaseTimeToLiveResponse:
		if message.TTL > message.GrantedTTL || message.TTL < -1 {
			target.broke("LeaseTimeToLive: %d s are left of %d", message.TTL, message.GrantedTTL)
		}
		message.TTL = min(message.TTL, 0)
		slices.SortFunc(message.Keys, bytes.Compare)
	case *pb.LeaseLeasesResponse:
		slices.SortFunc(message.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
	case *pb.AlarmResponse:
		for _, alarm := range message.Alarms {
			target.checkMember(&alarm.MemberID, "Alarm")
		}
	case *pb.HashKVResponse:
		message.Hash = 0
	case *pb.HashResponse:
		message.Hash = 0
	case *pb.StatusResponse:
		target.normaliseStatus(message)
	case *pb.MemberListResponse:
		target.normaliseMembers(message)
	}
}

func (target *target) checkMember(id *uint64, where string) {
	target.lock.Lock()
	defer target.lock.Unlock()
	for _, known := range target.memberIDs {
		if *id == known {
			*id = thisMember
			return
		}
	}
	if *id != 0 {
		target.broken = append(target.broken, target.name+": "+where+": names a member that isn't one")
	}
}

func (target *target) normaliseStatus(status *pb.StatusResponse) {
	if !strings.HasPrefix(status.Version, "3.7.") {
		target.broke("Status: version is %q", status.Version)
	}
	if status.DbSize <= 0 || status.DbSizeInUse <= 0 || status.DbSizeInUse > status.DbSize || status.DbSizeQuota <= 0 {
		target.broke("Status: impossible sizes: %s", show(status))
	}
	if status.Leader == 0 || status.RaftTerm == 0 || status.RaftIndex == 0 || status.RaftAppliedIndex == 0 ||
		status.RaftAppliedIndex > status.RaftIndex {
		target.broke("Status: impossible leader, term or index: %s", show(status))
	}
	status.Version, status.DbSize, status.DbSizeInUse, status.DbSizeQuota = "", 0, 0, 0
	status.Leader, status.RaftTerm, status.RaftIndex, status.RaftAppliedIndex = 0, 0, 0, 0
	for i, text := range status.Errors {
		status.Errors[i] = alarmOfMember.ReplaceAllString(text, "memberID:1")
	}
	slices.Sort(status.Errors)
}

// normaliseMembers leaves nothing but the header: clusters of one and of three members may be compared.
func (target *target) normaliseMembers(list *pb.MemberListResponse) {
	ids, names := map[uint64]bool{}, map[string]bool{}
	for _, member := range list.Members {
		if member.ID == 0 || member.Name == "" || len(member.PeerURLs) == 0 || len(member.ClientURLs) == 0 || member.IsLearner {
			target.broke("MemberList: incomplete: %s", show(list))
		}
		for _, address := range append(slices.Clone(member.PeerURLs), member.ClientURLs...) {
			if !strings.HasPrefix(address, "http://") {
				target.broke("MemberList: %q is no address", address)
			}
		}
		ids[member.ID], names[member.Name] = true, true
	}
	if len(ids) < len(target.endpoints) || len(names) != len(ids) || len(list.Members) != len(ids) {
		target.broke("MemberList: not %d members or more, each once: %s", len(target.endpoints), show(list))
	}
	target.lock.Lock()
	defer target.lock.Unlock()
	for _, id := range target.memberIDs {
		if !ids[id] {
			target.broken = append(target.broken, target.name+": MemberList: a member that answers isn't in the list")
		}
	}
	list.Members = nil
}

func sortedBy(request *pb.RangeRequest) func(a, b *mvccpb.KeyValue) int {
	switch request.SortTarget {
	case pb.RangeRequest_VERSION:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.Version, b.Version) }
	case pb.RangeRequest_CREATE:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) }
	case pb.RangeRequest_MOD:
		return func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.ModRevision, b.ModRevision) }
	case pb.RangeRequest_VALUE:
		return func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Value, b.Value) }
	}
	return nil
}

// orderEquals puts keys that the sort finds equal in one order, where etcd's is chance.
func orderEquals(request *pb.RangeRequest, response *pb.RangeResponse) {
	compare := sortedBy(request)
	if response == nil || response.Count <= stableSortMost || compare == nil {
		return
	}
	if request.SortTarget == pb.RangeRequest_VALUE && request.KeysOnly {
		// Sorted by values that were then left out: which keys are equal can't be seen.
		compare = func(a, b *mvccpb.KeyValue) int { return 0 }
	}
	for start := 0; start < len(response.Kvs); {
		end := start + 1
		for end < len(response.Kvs) && compare(response.Kvs[start], response.Kvs[end]) == 0 {
			end++
		}
		if end == len(response.Kvs) && response.More {
			// Which of the equals the limit cut off is chance too.
			for i := start; i < end; i++ {
				response.Kvs[i] = &mvccpb.KeyValue{}
			}
			return
		}
		slices.SortFunc(response.Kvs[start:end], func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
		start = end
	}
}

func orderEqualsOfTxn(request *pb.TxnRequest, response *pb.TxnResponse) {
	branch := request.GetFailure()
	if response.GetSucceeded() {
		branch = request.GetSuccess()
	}
	for i, op := range branch {
		if i >= len(response.GetResponses()) {
			return
		}
		switch op := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			orderEquals(op.RequestRange, response.Responses[i].GetResponseRange())
		case *pb.RequestOp_RequestTxn:
			orderEqualsOfTxn(op.RequestTxn, response.Responses[i].GetResponseTxn())
		}
	}
}
