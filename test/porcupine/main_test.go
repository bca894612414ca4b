// Histories that the simulator's checker judged, judged again by Porcupine, an independent checker of linearizability.
// Both must say the same of each.
//
// The histories are lines of JSON in the file that CORACLE_HISTORIES names (maker/histories.c writes them).
package main

import (
	"bufio"
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/anishathalye/porcupine"
)

const keysMax = 8

type operation struct {
	Kind     string
	Outcome  string
	Key      int
	Value    uint64
	Existed  bool
	Revision int64
	Mod      int64
	Create   int64
	Version  int64
	Sent     int64
	Answered int64
	Client   int
}

type history struct {
	Seed       uint64
	Mistake    bool
	Right      bool
	Undecided  int
	Operations []operation
}

// A revision that is told, or the least that it can be.
type revision struct {
	least int64
	exact bool
}

type key struct {
	value   uint64 // 0: not there
	version int64
	mod     revision
	create  revision // that of the put that made version 1; until version 2 it is mod
}

type store struct {
	keys [keysMax]key
	last int64 // the least that the store's revision can be
}

// tell says that a revision is this one; 0 says nothing. It may have raised the store's own.
func (r *revision) tell(told int64, s *store) bool {
	if told == 0 {
		return true
	}
	if told < r.least || (r.exact && told != r.least) {
		return false
	}
	r.least, r.exact = told, true
	if told > s.last {
		s.last = told
	}
	return true
}

func (s *store) get(o operation) bool {
	k := &s.keys[o.Key]
	if o.Value != k.value {
		return false
	}
	if o.Value == 0 {
		return true
	}
	if o.Version != 0 && o.Version != k.version {
		return false
	}
	if !k.mod.tell(o.Mod, s) {
		return false
	}
	if k.version == 1 {
		return k.mod.tell(o.Create, s)
	}
	return k.create.tell(o.Create, s) && k.create.least < k.mod.least
}

// change gives the store its next revision: the one that the operation was told, if it was.
func (s *store) change(o operation) (revision, bool) {
	r := revision{least: s.last + 1}
	if o.Revision != 0 {
		if o.Revision < r.least {
			return r, false
		}
		r = revision{least: o.Revision, exact: true}
	}
	s.last = r.least
	return r, true
}

func (s *store) put(o operation) bool {
	k := &s.keys[o.Key]
	r, good := s.change(o)
	if !good {
		return false
	}
	if k.version == 1 {
		k.create = k.mod
	}
	k.value, k.mod = o.Value, r
	k.version++
	return true
}

func (s *store) delete(o operation) bool {
	k := &s.keys[o.Key]
	exists := k.value != 0
	switch {
	case o.Outcome == "done" && o.Existed != exists:
		return false
	case o.Outcome == "unknown" && o.Revision != 0 && !exists:
		return false
	case exists:
		*k = key{}
		_, good := s.change(o)
		return good
	case o.Outcome == "done":
		if o.Revision < s.last {
			return false
		}
		s.last = o.Revision
	}
	return true
}

var model = porcupine.Model{
	Init: func() interface{} { return store{last: 1} },
	Step: func(state, input, output interface{}) (bool, interface{}) {
		s := state.(store) // a copy
		o := input.(operation)
		switch o.Kind {
		case "get":
			return s.get(o), s
		case "put":
			return s.put(o), s
		default:
			return s.delete(o), s
		}
	},
}

func judge(h history) bool {
	var operations []porcupine.Operation
	for _, o := range h.Operations {
		if o.Outcome == "nothing" || (o.Outcome == "unknown" && o.Kind == "get") {
			continue
		}
		answered := o.Answered
		if o.Outcome == "unknown" {
			// It may happen at any time. If it never did, it happened after all others, which is as good.
			answered = math.MaxInt64
		}
		operations = append(operations,
			porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Sent, Output: nil, Return: answered})
	}
	return porcupine.CheckOperations(model, operations)
}

func TestVerdictsAreEqual(t *testing.T) {
	path := os.Getenv("CORACLE_HISTORIES")
	if path == "" {
		t.Fatal("CORACLE_HISTORIES names no file of histories")
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	right, wrong := 0, 0
	for lines.Scan() {
		var h history
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			t.Fatal(err)
		}
		good := judge(h)
		if h.Undecided != 0 {
			t.Errorf("seed %d: the simulator's checker gave up", h.Seed)
		}
		if good != h.Right {
			t.Errorf("seed %d: Porcupine says right: %t; the simulator's checker: %t\n%s", h.Seed, good, h.Right,
				lines.Text())
		}
		if !good && !h.Mistake {
			t.Errorf("seed %d: nothing was done to it, and it is wrong", h.Seed)
		}
		if good {
			right++
		} else {
			wrong++
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	// A checker that always says the same agrees with nobody.
	if right < 100 || wrong < 100 {
		t.Errorf("too few to tell: %d right and %d wrong histories", right, wrong)
	}
	t.Logf("%d right and %d wrong histories", right, wrong)
}
