package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// fragmentBytes is how large an answer may get before who asked for fragments gets them.
const fragmentBytes = 2 << 20

// watchStream is one stream of watches of one target. It keeps what each of its watchers was told until that is compared.
type watchStream struct {
	target *target
	node   int
	client grpc.BidiStreamingClient[pb.WatchRequest, pb.WatchResponse]
	cancel context.CancelFunc

	lock    sync.Mutex
	changed *sync.Cond
	// told is what came for each watch id, in order: responses without events, and single events.
	told     map[int64][]proto.Message
	watchers map[int64]*watcher
	// creating is the request that the next created response answers.
	creating *pb.WatchCreateRequest
	created  int
	// createdID is the watch id of the last created response.
	createdID int64
	fragments int
	progress  int64
	// ended: the server ended the stream, with this status.
	ended  bool
	status answer
	// Ids of watchers that compaction ended, and whose cancelling a second time is left out.
	compacted map[int64]bool
}

// watcher is what the responses for one watch id must agree with.
type watcher struct {
	request      *pb.WatchCreateRequest
	lastRevision int64
	// inFragments: the last response said that it goes on.
	inFragments bool
}

func (target *target) openWatch(node int) *watchStream {
	node %= len(target.conns)
	ctx, cancel := context.WithCancel(context.Background())
	client, err := pb.NewWatchClient(target.conns[node]).Watch(ctx)
	if err != nil {
		target.t.Fatalf("%s: no stream of watches: %v", target.name, err)
	}
	stream := &watchStream{target: target, node: node, client: client, cancel: cancel, told: map[int64][]proto.Message{},
		watchers: map[int64]*watcher{}, compacted: map[int64]bool{}}
	stream.changed = sync.NewCond(&stream.lock)
	target.t.Cleanup(cancel)
	go stream.receive()
	return stream
}

func (stream *watchStream) receive() {
	for {
		response, err := stream.client.Recv()
		stream.lock.Lock()
		if err != nil {
			stream.ended = true
			if !errors.Is(err, io.EOF) {
				s := grpcstatus.Convert(err)
				stream.status = answer{code: s.Code(), text: s.Message()}
			}
		} else {
			responses := []*pb.WatchResponse{response}
			if stream.target.tamperWatch != nil {
				responses = stream.target.tamperWatch(response)
			}
			for _, response := range responses {
				stream.take(response)
			}
		}
		stream.changed.Broadcast()
		stream.lock.Unlock()
		if err != nil {
			return
		}
	}
}

func (stream *watchStream) take(response *pb.WatchResponse) {
	id := response.WatchId
	size := proto.Size(response)
	stream.target.checkHeader("Watch", stream.node, response.Header)
	stream.target.translateLeases(response.ProtoReflect(), stream.target.toReference)
	if len(response.Events) == 0 {
		switch {
		case response.Created:
			stream.created++
			stream.createdID = id
			delete(stream.compacted, id)
			if !response.Canceled {
				stream.watchers[id] = &watcher{request: stream.creating}
			}
		case response.Canceled:
			if stream.compacted[id] {
				return // row 'a watcher that compaction ended'
			}
			if response.CompactRevision != 0 {
				response.Header.Revision = 0 // when the server came to it is chance
			}
			delete(stream.watchers, id)
		default:
			stream.progress = max(stream.progress, response.Header.Revision)
			return
		}
		stream.told[id] = append(stream.told[id], response)
		return
	}
	watcher := stream.watchers[id]
	if watcher == nil || response.Created || response.Canceled {
		stream.target.broke("Watch: events for a watcher that isn't: %s", show(response))
		return
	}
	first, last := response.Events[0].Kv.ModRevision, response.Events[len(response.Events)-1].Kv.ModRevision
	if first < watcher.lastRevision || (first == watcher.lastRevision && !watcher.inFragments) {
		stream.target.broke("Watch: events of revision %d after those of %d: %s", first, watcher.lastRevision, show(response))
	}
	if response.Fragment && !watcher.request.Fragment {
		stream.target.broke("Watch: a fragment that nobody asked for: %s", show(response))
	}
	if watcher.request.Fragment && size > fragmentBytes && len(response.Events) > 1 {
		stream.target.broke("Watch: %d bytes with %d events in one fragment", size, len(response.Events))
	}
	if response.Header.Revision < last || response.CompactRevision != 0 {
		stream.target.broke("Watch: a header that can't be: %s", show(response))
	}
	watcher.lastRevision, watcher.inFragments = last, response.Fragment
	if response.Fragment {
		stream.fragments++
	}
	for _, event := range response.Events {
		if first > event.Kv.ModRevision {
			stream.target.broke("Watch: events out of order: %s", show(response))
		}
		first = event.Kv.ModRevision
		if stream.target.leaky && !watcher.request.PrevKv {
			event.PrevKv = nil // row 'previous values nobody asked for'
		}
		stream.told[id] = append(stream.told[id], event)
	}
}

func (stream *watchStream) send(request *pb.WatchRequest) {
	if err := stream.client.Send(proto.Clone(request).(*pb.WatchRequest)); err != nil {
		stream.target.broke("Watch: the stream has ended: %v", err)
	}
}

// wake lets who waits look again.
func (stream *watchStream) wake() {
	stream.lock.Lock()
	defer stream.lock.Unlock()
	stream.changed.Broadcast()
}

// await waits until something is so, and complains when it never is.
func (stream *watchStream) await(what string, so func() bool) {
	deadline := time.AfterFunc(answerLimit, stream.wake)
	defer deadline.Stop()
	started := time.Now()
	stream.lock.Lock()
	defer stream.lock.Unlock()
	for !so() {
		if stream.ended || time.Since(started) > answerLimit {
			stream.target.broke("Watch: never came: %s (stream ended: %t, %s)", what, stream.ended, stream.status)
			return
		}
		stream.changed.Wait()
	}
}

// create sends the request and returns the watch id of the answer.
func (stream *watchStream) create(request *pb.WatchCreateRequest) int64 {
	stream.lock.Lock()
	stream.creating = request
	before := stream.created
	stream.lock.Unlock()
	stream.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
	stream.await("a created response", func() bool { return stream.created > before })
	stream.lock.Lock()
	defer stream.lock.Unlock()
	return stream.createdID
}

// cancelCompacted ends a watcher that compaction ended already. A real etcd answers that, and answers no request for progress
// before.
func (stream *watchStream) cancelCompacted(id int64) {
	stream.await("a cancelled response because of compaction", func() bool { return stream.watchers[id] == nil })
	stream.lock.Lock()
	stream.compacted[id] = true
	stream.lock.Unlock()
	stream.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

// sync waits until every watcher was told of everything up to the revision.
func (stream *watchStream) sync(revision int64) bool {
	started := time.Now()
	for {
		stream.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		stream.lock.Lock()
		// A request isn't answered while a watcher still catches up; so ask again.
		pause := time.AfterFunc(5*time.Millisecond, stream.wake)
		if stream.progress < revision && !stream.ended {
			stream.changed.Wait()
		}
		progress, ended := stream.progress, stream.ended
		stream.lock.Unlock()
		pause.Stop()
		if progress >= revision {
			return true
		}
		if ended || time.Since(started) > answerLimit {
			stream.target.broke("Watch: no progress to revision %d, only to %d (stream ended: %t)", revision, progress, ended)
			return false
		}
	}
}

func (stream *watchStream) takeTold() map[int64][]proto.Message {
	stream.lock.Lock()
	defer stream.lock.Unlock()
	told := stream.told
	stream.told = map[int64][]proto.Message{}
	return told
}

// ---- Both servers' streams, side by side ----

const (
	streamsMost    = 3
	watchersMost   = 6
	stepsOfWatches = 300
)

// watches is a stream to each server, and what the sequence knows of its watchers.
type watches struct {
	streams [2]*watchStream
	ids     []int64
	// future is the revision that the watchers' furthest start is at.
	future int64
}

func (w *watches) both(do func(stream *watchStream)) {
	var done sync.WaitGroup
	for _, stream := range w.streams {
		done.Go(func() { do(stream) })
	}
	done.Wait()
}

// watchStep does something with a watch. before: watchers may start in the past, which a real etcd looks after only ten
// times a second.
func (s *sequence) watchStep(before bool) {
	g := s.generator
	if s.without["Watch"] {
		return
	}
	if len(s.watches) == 0 || (len(s.watches) < streamsMost && g.chance(4)) {
		node := g.rng.IntN(1 << 20)
		s.watches = append(s.watches, &watches{streams: [2]*watchStream{s.reference.openWatch(node), s.candidate.openWatch(node)}})
		s.reached.add("Watch: a stream")
		return
	}
	at := g.rng.IntN(len(s.watches))
	w := s.watches[at]
	switch n := g.rng.IntN(20); {
	case n < 12 && len(w.ids) < watchersMost:
		s.createWatch(w, before)
	case n < 17:
		id := pick(g, int64(0), 99)
		if len(w.ids) > 0 {
			id = pick(g, w.ids...)
		}
		s.cancelWatch(w, id)
	case n < 19:
		w.both(func(stream *watchStream) {
			stream.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		})
	default:
		s.syncWatches()
		w.both(func(stream *watchStream) { stream.cancel() })
		s.watches = append(s.watches[:at], s.watches[at+1:]...)
		s.reached.add("Watch: a stream ended by the client")
	}
}

func (s *sequence) createWatch(w *watches, before bool) {
	g := s.generator
	request := &pb.WatchCreateRequest{
		PrevKv: g.chance(2), ProgressNotify: g.chance(4), Fragment: g.chance(4),
	}
	request.Key, request.RangeEnd = g.keyRange()
	if g.chance(3) {
		// Most ranges are of one key; watchers of more see more.
		request.Key, request.RangeEnd = []byte{0}, []byte{0}
	}
	if g.chance(4) {
		request.Filters = append(request.Filters, pick(g, pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE))
		if g.chance(5) {
			request.Filters = append(request.Filters, pick(g, pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE, 7))
		}
	}
	if g.chance(4) {
		request.WatchId = pick(g, int64(1), 2, 5, 1000)
	}
	switch n := g.rng.IntN(10); {
	case before && n < 5:
		request.StartRevision = max(1, g.compacted+g.rng.Int64N(g.revision-g.compacted+1))
	case before && n < 6:
		request.StartRevision = max(1, g.compacted)
	case before && n < 7:
		request.StartRevision = max(1, g.compacted-1)
	case n < 8:
		request.StartRevision = g.revision + g.rng.Int64N(6)
	case n < 9:
		request.StartRevision = pick(g, int64(0), 0, -1, -100)
	}
	if !before && request.StartRevision > 0 && request.StartRevision <= g.revision {
		request.StartRevision = 0
	}
	s.catchUp(w)
	var ids [2]int64
	var done sync.WaitGroup
	for i, stream := range w.streams {
		done.Go(func() { ids[i] = stream.create(request) })
	}
	done.Wait()
	s.note(fmt.Sprintf("%6d watch on member %d: %s → id %d", s.step, w.streams[1].node, show(request), ids[0]))
	if ids[0] != ids[1] {
		s.differ("Watch: ids", fmt.Sprintf("  request: %s\n  ids %d and %d", show(request), ids[0], ids[1]))
		s.lost = true
		return
	}
	s.reached.addIf(len(request.Filters) > 0, "Watch: filtered")
	if ids[0] < 0 {
		return
	}
	if request.StartRevision > 0 && request.StartRevision < g.compacted {
		w.both(func(stream *watchStream) { stream.cancelCompacted(ids[0]) })
		return
	}
	w.ids = append(w.ids, ids[0])
	w.future = max(w.future, request.StartRevision, g.revision+1)
	s.reached.addIf(request.StartRevision > g.revision, "Watch: starts in the future")
	s.reached.addIf(request.StartRevision > 0 && request.StartRevision <= g.revision, "Watch: starts in the past")
	s.reached.addIf(request.StartRevision > 0 && request.StartRevision == g.compacted, "Watch: starts at the compacted revision")
}

// catchUp waits until the members that the streams are on have all that was written.
func (s *sequence) catchUp(w *watches) {
	w.both(func(stream *watchStream) {
		stream.target.do(&call{method: rangeKeys, request: &pb.RangeRequest{Key: []byte("a"), CountOnly: true}, node: stream.node})
	})
}

func (s *sequence) cancelWatch(w *watches, id int64) {
	s.syncWatches()
	known := false
	for i, other := range w.ids {
		if other == id {
			w.ids = append(w.ids[:i], w.ids[i+1:]...)
			known = true
			break
		}
	}
	s.note(fmt.Sprintf("%6d cancel of watch %d on member %d", s.step, id, w.streams[1].node))
	w.both(func(stream *watchStream) {
		stream.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
		if known {
			stream.await("a cancelled response", func() bool { return stream.watchers[id] == nil })
		}
	})
	s.reached.addIf(known, "Watch: cancelled by the client")
	s.reached.addIf(!known, "Watch: a cancel of an unknown id")
}

// syncWatches waits until every watcher was told everything, and compares it.
func (s *sequence) syncWatches() {
	if len(s.watches) == 0 {
		return
	}
	s.reachFuture()
	var stuck atomic.Bool
	for _, w := range s.watches {
		if len(w.ids) > 0 {
			w.both(func(stream *watchStream) {
				if !stream.sync(s.generator.revision) {
					stuck.Store(true)
				}
			})
		}
	}
	s.lost = s.lost || stuck.Load()
	for i, w := range s.watches {
		expected, got := w.streams[0].takeTold(), w.streams[1].takeTold()
		ids := map[int64]bool{}
		for id := range expected {
			ids[id] = true
		}
		for id := range got {
			ids[id] = true
		}
		for id := range ids {
			s.compareTold(i, id, expected[id], got[id])
		}
	}
	s.takeBroken("between the steps")
}

// reachFuture writes until no watcher starts later than now, for until then no progress is told. And once after any watcher
// was made, so that progress to this write was surely asked for after that.
func (s *sequence) reachFuture() {
	for _, w := range s.watches {
		for s.generator.revision < w.future && !s.lost {
			before := s.generator.revision
			s.unalarm()
			s.one(s.generator.at(put, &pb.PutRequest{Key: []byte("a"), Value: []byte("on to the future")}))
			if s.generator.revision == before {
				s.t.Fatalf("step %d of seed %d: etcd refuses a put", s.step, s.seed)
			}
		}
	}
}

// unalarm lets writes through.
func (s *sequence) unalarm() {
	if s.generator.alarm == pb.AlarmType_NONE {
		return
	}
	s.one(s.generator.at(alarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: thisMember, Alarm: s.generator.alarm}))
}

func (s *sequence) compareTold(stream int, id int64, expected, got []proto.Message) {
	for i := range max(len(expected), len(got)) {
		var here, there proto.Message
		if i < len(expected) {
			there = expected[i]
			s.observeTold(there)
		}
		if i < len(got) {
			here = got[i]
		}
		if !proto.Equal(there, here) {
			text := func(m proto.Message) string {
				if m == nil {
					return "nothing more"
				}
				return show(m)
			}
			var lines string
			for _, line := range s.recent[max(0, len(s.recent)-relevantMost):] {
				lines += "    " + shortenTo(line, 600) + "\n"
			}
			s.differ(fmt.Sprintf("Watch: %T and %T", there, here), fmt.Sprintf(
				"  stream %d, watch id %d, number %d of %d and %d that it was told\n  %-10s %s\n  %-10s %s\n  the last writes:\n%s",
				stream, id, i, len(expected), len(got), s.reference.name+":", text(there), s.candidate.name+":", text(here), lines))
			return
		}
	}
}

func (s *sequence) observeTold(message proto.Message) {
	switch message := message.(type) {
	case *pb.WatchResponse:
		reason := message.CancelReason
		if message.CompactRevision > 0 {
			reason += "compacted"
		}
		s.reached.add(fmt.Sprintf("Watch: created %t, cancelled %t %s", message.Created, message.Canceled, reason))
	case *mvccpb.Event:
		s.reached.add(fmt.Sprintf("Watch: %s, with a previous value %t", message.Type, message.PrevKv != nil))
	}
}
