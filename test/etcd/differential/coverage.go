package differential

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// coverage counts what a run has reached. The rules are those of etcd's behaviour that are easy to get wrong; a run that
// should have met one and didn't compares less than it seems to.
type coverage map[string]int

func (reached coverage) add(what string) { reached[what]++ }

func (reached coverage) addIf(condition bool, what string) {
	if condition {
		reached[what]++
	}
}

func (reached coverage) String() string {
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(reached)) {
		lines = append(lines, fmt.Sprintf("%9d  %s", reached[what], what))
	}
	return strings.Join(lines, "\n")
}

func shortName(c *call) string { return c.method.name[strings.LastIndex(c.method.name, "/")+1:] }

// observe counts what one call and its answer are examples of.
func (reached coverage) observe(c *call, a answer, revisionBefore int64) {
	name := shortName(c)
	if c.gateway {
		reached.add(fmt.Sprintf("gateway: HTTP %d", a.httpStatus))
		reached.add("gateway: " + c.method.path)
		if a.httpStatus != 200 {
			return
		}
	} else if a.message == nil {
		reached.add(fmt.Sprintf("%s: %s: %s", name, a.code, a.text))
		return
	}
	reached.add(name + ": OK")
	switch request := c.request.(type) {
	case *pb.RangeRequest:
		reached.observeRange(request, a.message)
	case *pb.PutRequest:
		response := a.message.(*pb.PutResponse)
		reached.addIf(response.PrevKv != nil, "Put: with a previous value")
		reached.addIf(request.PrevKv && response.PrevKv == nil, "Put: asked for a previous value, none there")
		reached.addIf(request.IgnoreValue, "Put: ignore_value")
		reached.addIf(request.IgnoreLease, "Put: ignore_lease")
		reached.addIf(request.Lease != 0, "Put: with a lease")
		reached.addIf(response.PrevKv.GetLease() != 0 && request.Lease == 0, "Put: leaves a lease")
	case *pb.DeleteRangeRequest:
		response := a.message.(*pb.DeleteRangeResponse)
		reached.addIf(response.Deleted == 0, "DeleteRange: nothing")
		reached.addIf(response.Deleted == 1, "DeleteRange: one key")
		reached.addIf(response.Deleted > 1, "DeleteRange: several keys")
		reached.addIf(len(response.PrevKvs) > 1, "DeleteRange: several previous values")
		reached.addIf(response.Deleted == 0 && response.Header.Revision == revisionBefore, "DeleteRange: the revision stays")
	case *pb.TxnRequest:
		response := a.message.(*pb.TxnResponse)
		reached.addIf(response.Header.Revision == revisionBefore, "Txn: the revision stays")
		reached.observeTxn(request, response, 0)
	case *pb.CompactionRequest:
		reached.addIf(request.Physical, "Compact: physical")
		reached.addIf(request.Revision == revisionBefore, "Compact: at the current revision")
	case *pb.LeaseGrantRequest:
		response := a.message.(*pb.LeaseGrantResponse)
		reached.addIf(request.ID == 0, "LeaseGrant: the server chooses the id")
		reached.addIf(request.TTL < response.TTL, "LeaseGrant: TTL raised to the least")
		reached.addIf(request.TTL == ttlLongest, "LeaseGrant: the longest TTL")
	case *pb.LeaseRevokeRequest:
		reached.addIf(a.message.(*pb.LeaseRevokeResponse).Header.Revision > revisionBefore, "LeaseRevoke: deletes keys")
		reached.addIf(a.message.(*pb.LeaseRevokeResponse).Header.Revision == revisionBefore, "LeaseRevoke: the revision stays")
	case *pb.LeaseTimeToLiveRequest:
		response := a.message.(*pb.LeaseTimeToLiveResponse)
		reached.addIf(response.TTL == -1, "LeaseTimeToLive: no such lease")
		reached.addIf(len(response.Keys) > 1, "LeaseTimeToLive: several keys")
	case *pb.LeaseKeepAliveRequest:
		reached.addIf(a.message.(*pb.LeaseKeepAliveResponse).TTL == 0, "LeaseKeepAlive: no such lease")
	case *pb.StatusRequest:
		reached.addIf(len(a.message.(*pb.StatusResponse).Errors) > 0, "Status: lists an alarm")
	case *pb.AlarmRequest:
		reached.addIf(request.Action == pb.AlarmRequest_GET && len(a.message.(*pb.AlarmResponse).Alarms) > 0, "Alarm: lists one")
	}
}

func (reached coverage) observeRange(request *pb.RangeRequest, message proto.Message) {
	response, ok := message.(*pb.RangeResponse)
	if !ok {
		return
	}
	reached.addIf(response.More, "Range: more")
	reached.addIf(request.Limit > 0 && !response.More, "Range: a limit that cuts nothing off")
	reached.addIf(request.Limit > 0 && response.Count > request.Limit && !response.More,
		"Range: a limit that filters made needless")
	reached.addIf(response.Count > int64(len(response.Kvs)) && !response.More && !request.CountOnly, "Range: filtered")
	reached.addIf(request.CountOnly && response.Count > 0, "Range: count_only")
	reached.addIf(request.KeysOnly && len(response.Kvs) > 0, "Range: keys_only")
	reached.addIf(response.Count == 0 && len(request.RangeEnd) > 0, "Range: empty")
	reached.addIf(request.Revision > 0 && request.Revision < response.GetHeader().GetRevision() && len(response.Kvs) > 0,
		"Range: an old revision")
	reached.addIf(request.Revision < 0, "Range: a negative revision")
	reached.addIf(len(request.RangeEnd) == 1 && request.RangeEnd[0] == 0 && response.Count > 1, "Range: every key from one on")
	reached.addIf(response.Count > stableSortMost, "Range: more keys than etcd sorts stably")
	for _, kv := range response.Kvs {
		reached.addIf(kv.Version == 1 && kv.CreateRevision > 2, "Range: a key that was made anew")
		reached.addIf(kv.Lease != 0, "Range: a key with a lease")
	}
	if len(response.Kvs) > 1 {
		reached.add(fmt.Sprintf("Range: sorted by %s, %s", request.SortTarget, request.SortOrder))
	}
}

func (reached coverage) observeTxn(request *pb.TxnRequest, response *pb.TxnResponse, depth int) {
	branch := request.Failure
	if response.Succeeded {
		branch = request.Success
	}
	reached.add(fmt.Sprintf("Txn: depth %d, succeeded %t", depth, response.Succeeded))
	reached.addIf(len(branch) == 0, "Txn: an empty branch")
	reached.addIf(len(request.Compare) > 100 || len(branch) > 100, "Txn: more than 100 operations")
	if len(request.Compare) == 1 {
		compare := request.Compare[0]
		ranged := ""
		if len(compare.RangeEnd) > 0 {
			ranged = ", of a range"
		}
		reached.add(fmt.Sprintf("Txn: compare %s%s: %t", compare.Target, ranged, response.Succeeded))
		reached.add(fmt.Sprintf("Txn: compare %s: %t", compare.Result, response.Succeeded))
	}
	wrote := false
	for i, op := range branch {
		switch op := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			wrote = true
		case *pb.RequestOp_RequestRange:
			reached.addIf(wrote && len(response.Responses[i].GetResponseRange().Kvs) > 0, "Txn: reads after a write of its own")
			reached.observeRange(op.RequestRange, response.Responses[i].GetResponseRange())
		case *pb.RequestOp_RequestTxn:
			reached.observeTxn(op.RequestTxn, response.Responses[i].GetResponseTxn(), depth+1)
		}
	}
}
