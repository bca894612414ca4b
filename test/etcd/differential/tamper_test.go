package differential

import (
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"coracle/test/etcd/reference"
)

// listener is a test that only counts what is reported.
type listener struct {
	testing.TB
	lock    sync.Mutex
	reports int
}

func (l *listener) Errorf(string, ...any) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.reports++
}

// TestFindsDifferences changes the answers of one of two etcds a little; each change must be found.
func TestFindsDifferences(t *testing.T) {
	etcd := dial(t, "etcd", reference.Start(t, 1).Endpoints())
	etcd.leaky = true
	other := dial(t, "other etcd", reference.Start(t, 1).Endpoints())

	// All sequences are one, for the servers go on from where they were; only what they answer is changed.
	generator := newGenerator(1)
	mustFind := func(t *testing.T, changed *bool) {
		t.Helper()
		heard := &listener{TB: t}
		for round := 0; round < 30 && heard.reports == 0; round++ {
			s := newSequence(heard, 1, etcd, other)
			s.generator = generator
			s.run(1000)
			s.unalarm()
			s.endWatches()
		}
		if !*changed {
			t.Fatal("nothing was changed: the sequence never came to it")
		}
		if heard.reports == 0 {
			t.Fatal("a change of one answer wasn't found")
		}
	}

	// Each changes one answer that it applies to, and says whether it did.
	answers := map[string]func(c *call, message proto.Message) bool{
		"a range without its last key": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.RangeResponse)
			if !ok || len(response.Kvs) < 2 {
				return false
			}
			response.Kvs = response.Kvs[:len(response.Kvs)-1]
			return true
		},
		"a count too high": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.RangeResponse)
			if ok {
				response.Count++
			}
			return ok
		},
		"more forgotten": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.RangeResponse)
			if !ok || !response.More {
				return false
			}
			response.More = false
			return true
		},
		"two keys in the wrong order": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.RangeResponse)
			if !ok || len(response.Kvs) < 2 || response.Count > stableSortMost {
				return false
			}
			response.Kvs[0], response.Kvs[1] = response.Kvs[1], response.Kvs[0]
			return true
		},
		"a revision too high": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.PutResponse)
			if ok {
				response.Header.Revision++
			}
			return ok
		},
		"another cluster": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.PutResponse)
			if ok {
				response.Header.ClusterId++
			}
			return ok
		},
		"no previous value": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.PutResponse)
			if !ok || response.PrevKv == nil {
				return false
			}
			response.PrevKv = nil
			return true
		},
		"a transaction's inner revision": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.TxnResponse)
			if !ok || len(response.Responses) == 0 || response.Responses[0].GetResponsePut() == nil {
				return false
			}
			response.Responses[0].GetResponsePut().Header.Revision--
			return true
		},
		"a lease's key missing": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.LeaseTimeToLiveResponse)
			if !ok || len(response.Keys) == 0 {
				return false
			}
			response.Keys = response.Keys[1:]
			return true
		},
		"more time left than granted": func(c *call, message proto.Message) bool {
			response, ok := message.(*pb.LeaseTimeToLiveResponse)
			if ok {
				response.TTL = response.GrantedTTL + 1
			}
			return ok
		},
	}
	for name, change := range answers {
		t.Run(name, func(t *testing.T) {
			var once sync.Mutex
			changed := false
			other.tamper = func(c *call, message proto.Message, err error) error {
				once.Lock()
				defer once.Unlock()
				if err == nil && !changed {
					changed = change(c, message)
				}
				return err
			}
			defer func() { other.tamper = nil; other.clusterID = 0 }()
			mustFind(t, &changed)
		})
	}
	errors := map[string]func(c *call, err error) error{
		"another text": func(c *call, err error) error {
			return grpcstatus.Error(grpcstatus.Code(err), grpcstatus.Convert(err).Message()+" ")
		},
		"another code": func(c *call, err error) error {
			return grpcstatus.Error(codes.Unknown, grpcstatus.Convert(err).Message())
		},
		"no error": func(c *call, err error) error { return nil },
	}
	for name, change := range errors {
		t.Run(name, func(t *testing.T) {
			var once sync.Mutex
			changed := false
			other.tamper = func(c *call, message proto.Message, err error) error {
				once.Lock()
				defer once.Unlock()
				if err != nil && !changed && grpcstatus.Code(err) != codes.Unknown && c.method == put {
					changed = true
					return change(c, err)
				}
				return err
			}
			defer func() { other.tamper = nil }()
			mustFind(t, &changed)
		})
	}
	events := map[string]func(response *pb.WatchResponse) []*pb.WatchResponse{
		"an event lost": func(response *pb.WatchResponse) []*pb.WatchResponse {
			response.Events = response.Events[1:]
			return []*pb.WatchResponse{response}
		},
		"an event twice": func(response *pb.WatchResponse) []*pb.WatchResponse {
			return []*pb.WatchResponse{response, proto.Clone(response).(*pb.WatchResponse)}
		},
		"an event of another watcher": func(response *pb.WatchResponse) []*pb.WatchResponse {
			response.WatchId = 4711
			return []*pb.WatchResponse{response}
		},
		"another value": func(response *pb.WatchResponse) []*pb.WatchResponse {
			response.Events[0].Kv.Value = append(response.Events[0].Kv.Value, 'x')
			return []*pb.WatchResponse{response}
		},
		"a previous value nobody asked for": func(response *pb.WatchResponse) []*pb.WatchResponse {
			for _, event := range response.Events {
				if event.PrevKv != nil {
					return nil
				}
			}
			response.Events[0].PrevKv = &mvccpb.KeyValue{Key: response.Events[0].Kv.Key, ModRevision: 1}
			return []*pb.WatchResponse{response}
		},
		"a revision in two parts": func(response *pb.WatchResponse) []*pb.WatchResponse {
			for i := 1; i < len(response.Events); i++ {
				if response.Events[i].Kv.ModRevision == response.Events[i-1].Kv.ModRevision {
					rest := proto.Clone(response).(*pb.WatchResponse)
					response.Events, rest.Events = response.Events[:i], rest.Events[i:]
					return []*pb.WatchResponse{response, rest}
				}
			}
			return nil
		},
	}
	for name, change := range events {
		t.Run(name, func(t *testing.T) {
			var once sync.Mutex
			changed := false
			other.tamperWatch = func(response *pb.WatchResponse) []*pb.WatchResponse {
				once.Lock()
				defer once.Unlock()
				if len(response.Events) > 0 && !changed {
					if responses := change(response); responses != nil {
						changed = true
						return responses
					}
				}
				return []*pb.WatchResponse{response}
			}
			defer func() { other.tamperWatch = nil }()
			mustFind(t, &changed)
		})
	}
}
