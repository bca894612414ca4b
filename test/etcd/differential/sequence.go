package differential

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// Reads between two writes go out together, at most so many.
	togetherMost    = 8
	differencesMost = 10
	rememberedMost  = 400
	relevantMost    = 25
)

// sequence is one run: the same calls to both servers, and what was found.
type sequence struct {
	t testing.TB
	// whole is the test that t is a part of.
	whole       testing.TB
	seed        uint64
	reference   *target
	candidate   *target
	generator   *generator
	reached     coverage
	step        int
	differences int
	// Kinds of difference already shown.
	shown map[string]bool
	// recent are the last writes, for the report of a difference.
	recent  []string
	watches []*watches
	watched int
	// without are calls that are left out, for a server that isn't complete yet.
	without map[string]bool
	lost    bool
}

func newSequence(t testing.TB, seed uint64, reference, candidate *target) *sequence {
	return &sequence{t: t, whole: t, seed: seed, reference: reference, candidate: candidate, generator: newGenerator(seed),
		reached: coverage{}, shown: map[string]bool{}}
}

// run makes count calls. Writes go one by one, reads between them together.
func (s *sequence) run(count int) {
	var together []*call
	for i := 0; i < count && !s.lost; i++ {
		followsUp := len(s.generator.next) > 0
		c := s.generator.call()
		if s.without[shortName(c)] {
			continue
		}
		if !c.method.writes {
			together = append(together, c)
			if len(together) < togetherMost {
				continue
			}
		}
		s.all(together)
		together = nil
		if !c.method.writes {
			continue
		}
		switch {
		case followsUp:
		case c.method == compact:
			// What a watcher that lags behind a compaction is told is chance.
			s.syncWatches()
		case i/stepsOfWatches != s.watched:
			s.watched = i / stepsOfWatches
			s.syncWatches()
			for range 2 + s.generator.rng.IntN(4) {
				s.watchStep(true)
			}
			s.syncWatches()
		case s.generator.chance(stepsOfWatches / 3):
			s.watchStep(false)
		}
		s.one(c)
	}
	s.all(together)
	s.syncWatches()
	s.checkMembersAgree()
}

// awaitReady waits until every member answers.
func (s *sequence) awaitReady() {
	for _, target := range []*target{s.reference, s.candidate} {
		for node := range target.conns {
			read := &call{method: rangeKeys, request: &pb.RangeRequest{Key: []byte("a")}, node: node}
			for deadline := time.Now().Add(answerLimit); ; time.Sleep(50 * time.Millisecond) {
				a := target.do(read)
				if a.code == codes.OK {
					break
				}
				if time.Now().After(deadline) {
					s.t.Fatalf("%s, member %d: no answer, but %s", target.name, node, a)
				}
			}
		}
	}
}

// agree checks that both servers are at the same revision with the same keys.
func (s *sequence) agree(where string) {
	all := &call{method: rangeKeys, request: &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}}
	expected, got := s.reference.do(all), s.candidate.do(all)
	if revisionOf(expected) != revisionOf(got) {
		s.differ("revision", fmt.Sprintf("  after %s one is at revision %d, the other at %d", where, revisionOf(expected), revisionOf(got)))
		s.lost = true
	}
	s.generator.learn(all, expected)
	s.compare(all, expected, got)
}

// endWatches ends all streams.
func (s *sequence) endWatches() {
	for _, w := range s.watches {
		w.both(func(stream *watchStream) { stream.cancel() })
	}
	s.watches = nil
}

func (s *sequence) one(c *call) { s.all([]*call{c}) }

// all makes calls whose order doesn't matter.
func (s *sequence) all(calls []*call) {
	expected, got := make([]answer, len(calls)), make([]answer, len(calls))
	var done sync.WaitGroup
	for i, c := range calls {
		done.Go(func() { expected[i] = s.reference.do(c) })
		done.Go(func() { got[i] = s.candidate.do(c) })
	}
	done.Wait()
	for i, c := range calls {
		s.step++
		s.compare(c, expected[i], got[i])
	}
}

func (s *sequence) compare(c *call, expected, got answer) {
	before := s.generator.revision
	s.learnLease(c, expected, got)
	s.generator.learn(c, expected)
	s.reached.observe(c, expected, before)
	s.takeBroken("request: " + c.String())
	if !equal(expected, got) {
		s.differ(kindOf(c, expected, got), fmt.Sprintf("  request:   %s\n  %-10s %s\n  %-10s %s\n%s",
			c, s.reference.name+":", expected, s.candidate.name+":", got, s.relevant(c)))
		wrote := c.method.writes && (expected.message == nil) != (got.message == nil)
		apart := expected.message != nil && got.message != nil && revisionOf(expected) != revisionOf(got)
		s.lost = s.lost || wrote || apart
	}
	if c.method.writes {
		s.note(fmt.Sprintf("%6d %s → %s", s.step, c, expected))
	}
}

func (s *sequence) note(text string) {
	s.recent = append(s.recent, text)
	s.recent = s.recent[max(0, len(s.recent)-rememberedMost):]
}

// takeBroken reports what the targets found in their answers by themselves.
func (s *sequence) takeBroken(when string) {
	for _, target := range []*target{s.reference, s.candidate} {
		for _, what := range target.takeBroken() {
			s.differ("broken: "+what[:min(len(what), 60)], "  "+what+"\n  "+when)
		}
	}
}

func (s *sequence) learnLease(c *call, expected, got answer) {
	if _, ok := c.request.(*pb.LeaseGrantRequest); !ok || !serverChooses(c) || expected.message == nil || got.message == nil {
		return
	}
	here, there := got.message.(*pb.LeaseGrantResponse), expected.message.(*pb.LeaseGrantResponse)
	if here.ID <= 0 {
		s.candidate.broke("LeaseGrant: the server chose the id %d", here.ID)
	}
	s.candidate.leaseIsCalled(here.ID, there.ID)
	here.ID = there.ID
}

func equal(a, b answer) bool {
	return a.code == b.code && a.text == b.text && a.httpStatus == b.httpStatus && reflect.DeepEqual(a.body, b.body) &&
		proto.Equal(a.message, b.message)
}

// kindOf names a difference so that the same one isn't shown a hundred times.
func kindOf(c *call, expected, got answer) string {
	outcome := func(a answer) string {
		switch {
		case a.httpStatus != 0:
			return fmt.Sprint(a.httpStatus)
		case a.message == nil:
			return a.code.String() + a.text
		}
		return "OK"
	}
	kind := shortName(c) + " " + outcome(expected) + " " + outcome(got)
	if expected.message != nil && got.message != nil {
		kind += " " + strings.Join(differingFields(expected.message, got.message), ",")
	}
	return kind
}

func differingFields(a, b proto.Message) (names []string) {
	left, right := a.ProtoReflect(), b.ProtoReflect()
	for i := range left.Descriptor().Fields().Len() {
		field := left.Descriptor().Fields().Get(i)
		if !left.Get(field).Equal(right.Get(field)) {
			names = append(names, string(field.Name()))
		}
	}
	return names
}

func revisionOf(a answer) int64 {
	if a.message == nil {
		return 0
	}
	field := a.message.ProtoReflect().Descriptor().Fields().ByName("header")
	if field == nil {
		return 0
	}
	header, _ := a.message.ProtoReflect().Get(field).Message().Interface().(*pb.ResponseHeader)
	return header.GetRevision()
}

func (s *sequence) differ(kind, text string) {
	s.differences++
	if s.shown[kind] {
		return
	}
	s.shown[kind] = true
	s.t.Errorf("difference at step %d of seed %d (%s)\n%s", s.step, s.seed, kind, text)
	if len(s.shown) >= differencesMost {
		s.lost = true
	}
}

// relevant lists the last writes that touched what the call is about: its keys and leases, as text.
func (s *sequence) relevant(c *call) string {
	var names []string
	text, _ := prototext.MarshalOptions{EmitASCII: true}.Marshal(c.request)
	for _, word := range bytes.Fields(text) {
		for _, field := range []string{"key:", "ID:", "lease:"} {
			if bytes.HasPrefix(word, []byte(field)) && len(names) < 8 {
				names = append(names, string(word[len(field):]))
			}
		}
	}
	var lines []string
	for i := len(s.recent) - 1; i >= 0 && len(lines) < relevantMost; i-- {
		for _, name := range names {
			if strings.Contains(s.recent[i], name) || i == len(s.recent)-1 {
				lines = append([]string{"    " + shortenTo(s.recent[i], 600)}, lines...)
				break
			}
		}
	}
	return "  writes before it that name its keys, ranges or leases, and the last one:\n" + strings.Join(lines, "\n")
}

// checkMembersAgree compares the hashes of all of the candidate's members at one revision.
func (s *sequence) checkMembersAgree() {
	var first *pb.HashKVResponse
	for node := range s.candidate.conns {
		// A linearizable read waits until the member has everything.
		s.candidate.do(&call{method: rangeKeys, request: &pb.RangeRequest{Key: []byte("a")}, node: node})
		response := new(pb.HashKVResponse)
		if err := s.candidate.invoke(node, hashKV.name, &pb.HashKVRequest{Revision: s.generator.revision}, response); err != nil {
			s.differ("HashKV of members", fmt.Sprintf("member %d: HashKV at %d: %v", node, s.generator.revision, err))
			continue
		}
		if response.Hash == 0 {
			s.differ("HashKV is 0", fmt.Sprintf("member %d: %s", node, show(response)))
		}
		if first == nil {
			first = response
		} else if first.Hash != response.Hash || first.CompactRevision != response.CompactRevision ||
			first.HashRevision != response.HashRevision {
			s.differ("HashKV of members", fmt.Sprintf("members 0 and %d differ: %s and %s", node, show(first), show(response)))
		}
		s.reached.add("HashKV: compared between members")
	}
}
