package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// answerLimit is how long an answer may take; only a server that hangs needs so long.
const answerLimit = 30 * time.Second

// call is one request, as the reference server gets it.
type call struct {
	method  *method
	request proto.Message
	// node chooses the member; taken modulo the number of members.
	node int
	// gateway: sent as JSON over HTTP.
	gateway bool
	// hasLeader: sent with the metadata that asks for a leader.
	hasLeader bool
}

// answer is what came of a call: a message, or an error.
type answer struct {
	message proto.Message
	code    codes.Code
	text    string
	// Of the gateway: the HTTP status, and the body as parsed JSON.
	httpStatus int
	body       any
}

func (a answer) String() string {
	if a.httpStatus != 0 && a.message == nil {
		text, _ := json.Marshal(a.body)
		return fmt.Sprintf("HTTP %d %s", a.httpStatus, shorten(string(text)))
	}
	if a.code != codes.OK {
		return fmt.Sprintf("%s: %s", a.code, a.text)
	}
	return show(a.message)
}

// target is one of the servers that are compared: all of its members, and what must stay as it is.
type target struct {
	t         testing.TB
	name      string
	endpoints []string
	conns     []*grpc.ClientConn
	http      *http.Client
	// leaky: a real etcd, whose watchers may see the previous value that another watcher asked for (docs/ETCD.md,
	// row 'previous values nobody asked for').
	leaky bool
	// Tests of the comparison itself change answers here.
	tamper      func(c *call, message proto.Message, err error) error
	tamperWatch func(response *pb.WatchResponse) []*pb.WatchResponse

	lock      sync.Mutex
	clusterID uint64
	memberIDs map[int]uint64
	term      uint64
	broken    []string
	// Leases whose ids the server chose: the reference's id for this target's, and back.
	toReference, fromReference map[int64]int64
}

func dial(t testing.TB, name string, endpoints []string) *target {
	t.Helper()
	target := &target{
		t: t, name: name, endpoints: endpoints,
		http:        &http.Client{Timeout: answerLimit, Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
		memberIDs:   map[int]uint64{},
		toReference: map[int64]int64{}, fromReference: map[int64]int64{},
	}
	for _, endpoint := range endpoints {
		conn, err := grpc.NewClient("passthrough:///"+endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		target.conns = append(target.conns, conn)
	}
	return target
}

// do makes the call and returns its answer, with nothing in it that may differ between equal servers.
func (target *target) do(c *call) answer {
	request := proto.Clone(c.request)
	target.translateLeases(request.ProtoReflect(), target.fromReference)
	node := c.node % len(target.conns)
	if request, ok := request.(*pb.AlarmRequest); ok && request.MemberID == thisMember {
		request.MemberID = target.memberID(node)
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	defer cancel()
	if c.gateway {
		return target.doJSON(ctx, c, node, request)
	}
	if c.hasLeader {
		ctx = metadata.AppendToOutgoingContext(ctx, "hasleader", "true")
	}
	message := c.method.answer()
	var err error
	switch {
	case c.method == rangeStream:
		message, err = target.readRangeStream(ctx, node, request)
	case c.method.stream:
		err = target.firstOfStream(ctx, c.method, node, request, message)
	default:
		err = target.conns[node].Invoke(ctx, c.method.name, request, message)
	}
	if target.tamper != nil {
		err = target.tamper(c, message, err)
	}
	if err != nil {
		s := grpcstatus.Convert(err)
		return answer{code: s.Code(), text: s.Message()}
	}
	target.normalise(c, node, message)
	return answer{message: message}
}

// firstOfStream sends one request and takes one answer; of a keep-alive stream, that is all there is.
func (target *target) firstOfStream(ctx context.Context, m *method, node int, request, message proto.Message) error {
	stream, err := target.conns[node].NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, m.name)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.RecvMsg(message); err != nil {
		return err
	}
	stream.CloseSend()
	rest := m.answer()
	switch err := stream.RecvMsg(rest); {
	case err == nil:
		target.broke("%s: a second answer to one request: %s", m.name, show(rest))
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// readRangeStream joins the chunks, and checks what only the last one may say.
func (target *target) readRangeStream(ctx context.Context, node int, request proto.Message) (proto.Message, error) {
	stream, err := target.conns[node].NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, rangeStream.name)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	whole := new(pb.RangeResponse)
	ended := false
	for {
		chunk := new(pb.RangeStreamResponse)
		if err := stream.RecvMsg(chunk); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if ended {
			target.broke("RangeStream: a chunk after the one with the header: %s", show(chunk))
		}
		part := chunk.GetRangeResponse()
		ended = part.GetHeader() != nil
		if !ended && (part.GetCount() != 0 || part.GetMore()) {
			target.broke("RangeStream: count or more before the last chunk: %s", show(chunk))
		}
		proto.Merge(whole, part)
	}
	if !ended {
		target.broke("RangeStream: no chunk had a header; the request was %s", show(request))
	}
	return whole, nil
}

var toJSON = protojson.MarshalOptions{UseProtoNames: true}

func (target *target) doJSON(ctx context.Context, c *call, node int, request proto.Message) answer {
	body, err := toJSON.Marshal(request)
	if err != nil {
		target.t.Fatalf("%s: %v", c.method.name, err)
	}
	post, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+target.endpoints[node]+c.method.path, bytes.NewReader(body))
	post.Header.Set("Content-Type", "application/json")
	return target.readJSON(c, node, post)
}

func sameJSON(one, other []byte) bool {
	var a, b any
	return json.Unmarshal(one, &a) == nil && json.Unmarshal(other, &b) == nil && reflect.DeepEqual(a, b)
}

func (target *target) readJSON(c *call, node int, request *http.Request) answer {
	response, err := target.http.Do(request)
	if err != nil {
		return answer{code: codes.Unavailable, text: err.Error()}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{code: codes.Unavailable, text: err.Error()}
	}
	a := answer{httpStatus: response.StatusCode}
	parsed := new(any)
	if err := json.Unmarshal(body, parsed); err != nil {
		a.body = "not JSON: " + string(body)
		return a
	}
	if response.StatusCode == http.StatusOK && c != nil {
		inner := body
		if c.method.stream {
			var wrapped struct{ Result json.RawMessage }
			if json.Unmarshal(body, &wrapped) == nil {
				inner = wrapped.Result
			}
		}
		a.message = c.method.answer()
		if err := protojson.Unmarshal(inner, a.message); err != nil {
			a.body = fmt.Sprintf("not a %T: %v: %s", a.message, err, inner)
			return a
		}
		// What the text says is compared as a message; that each value is written as it should be is seen here.
		if again, _ := toJSON.Marshal(a.message); !sameJSON(inner, again) {
			target.broke("%s: not as JSON is written: %s, but %s", c.method.path, inner, again)
		}
		target.normalise(c, node, a.message)
		return a
	}
	a.body = *parsed
	return a
}

func (target *target) memberID(node int) uint64 {
	target.lock.Lock()
	defer target.lock.Unlock()
	return target.memberIDs[node]
}

func (target *target) takeBroken() []string {
	target.lock.Lock()
	defer target.lock.Unlock()
	broken := target.broken
	target.broken = nil
	return broken
}

// invoke makes a call whose answer is left as it is.
func (target *target) invoke(node int, name string, request, response proto.Message) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	defer cancel()
	return target.conns[node].Invoke(ctx, name, request, response)
}

func (target *target) broke(format string, arguments ...any) {
	target.lock.Lock()
	defer target.lock.Unlock()
	target.broken = append(target.broken, target.name+": "+fmt.Sprintf(format, arguments...))
}

// leaseIsCalled says that both servers chose an id for the same lease.
func (target *target) leaseIsCalled(here, reference int64) {
	target.lock.Lock()
	defer target.lock.Unlock()
	target.toReference[here] = reference
	target.fromReference[reference] = here
}

// translateLeases replaces the ids of leases that a server chose, wherever they stand in the message.
func (target *target) translateLeases(message protoreflect.Message, names map[int64]int64) {
	target.lock.Lock()
	defer target.lock.Unlock()
	if len(names) > 0 {
		translateLeases(message, names)
	}
}

func translateLeases(message protoreflect.Message, names map[int64]int64) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Kind() == protoreflect.MessageKind && field.IsList():
			for i := range value.List().Len() {
				translateLeases(value.List().Get(i).Message(), names)
			}
		case field.Kind() == protoreflect.MessageKind:
			translateLeases(value.Message(), names)
		case field.Kind() == protoreflect.Int64Kind && (field.Name() == "lease" || field.Name() == "ID"):
			if name, ok := names[value.Int()]; ok {
				message.Set(field, protoreflect.ValueOfInt64(name))
			}
		}
		return true
	})
}

// normalise checks what a server says of itself, and takes it out.
func (target *target) normalise(c *call, node int, message proto.Message) {
	target.translateLeases(message.ProtoReflect(), target.toReference)
	if field := message.ProtoReflect().Descriptor().Fields().ByName("header"); field != nil && message.ProtoReflect().Has(field) {
		target.checkHeader(c.method.name, node, message.ProtoReflect().Get(field).Message().Interface().(*pb.ResponseHeader))
	}
	target.normaliseMessage(c, message)
}

func (target *target) checkHeader(where string, node int, header *pb.ResponseHeader) {
	target.lock.Lock()
	defer target.lock.Unlock()
	complain := func(what string, got, before uint64) {
		target.broken = append(target.broken,
			fmt.Sprintf("%s: %s: the header's %s is %d, before %d", target.name, where, what, got, before))
	}
	if header.ClusterId == 0 || (target.clusterID != 0 && header.ClusterId != target.clusterID) {
		complain("cluster_id", header.ClusterId, target.clusterID)
	}
	if before := target.memberIDs[node]; header.MemberId == 0 || (before != 0 && header.MemberId != before) {
		complain("member_id", header.MemberId, before)
	}
	if header.RaftTerm == 0 || header.RaftTerm < target.term {
		complain("raft_term", header.RaftTerm, target.term)
	}
	target.clusterID, target.memberIDs[node], target.term = header.ClusterId, header.MemberId, max(header.RaftTerm, target.term)
	header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
}
