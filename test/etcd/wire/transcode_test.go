package wire

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"regexp"
	"sort"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// As etcd's gateway sets protojson up.
var (
	marshal   = protojson.MarshalOptions{UseProtoNames: true}
	unmarshal = protojson.UnmarshalOptions{DiscardUnknown: true}
)

// One line to our program, and what it answered.
type question struct {
	what  string
	name  protoreflect.FullName
	input []byte
	check func(good bool, result string) error
}

// Every message that a method takes or gives, but those with maps, which JSON never carries here.
func messageTypes(t *testing.T) []protoreflect.MessageType {
	seen := map[protoreflect.FullName]bool{}
	var types []protoreflect.MessageType
	for _, file := range files {
		for i := 0; i < file.Services().Len(); i++ {
			methods := file.Services().Get(i).Methods()
			for j := 0; j < methods.Len(); j++ {
				for _, message := range []protoreflect.MessageDescriptor{methods.Get(j).Input(), methods.Get(j).Output()} {
					if seen[message.FullName()] || message.FullName() == "grpc.health.v1.HealthListResponse" {
						continue
					}
					seen[message.FullName()] = true
					found, err := protoregistry.GlobalTypes.FindMessageByName(message.FullName())
					if err != nil {
						t.Fatal(err)
					}
					types = append(types, found)
				}
			}
		}
	}
	// Maps have no order; a seed must give the same messages each time.
	sort.Slice(types, func(i, j int) bool {
		return types[i].Descriptor().FullName() < types[j].Descriptor().FullName()
	})
	return types
}

// Asks our program all questions, and checks the answers.
func ask(t *testing.T, questions []question) {
	program := exec.Command(os.Getenv("CORACLE_WIRE_ECHO"))
	program.Stderr = os.Stderr
	stdin, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		out := bufio.NewWriterSize(stdin, 1<<20)
		for _, q := range questions {
			fmt.Fprintf(out, "%s %s %s\n", q.what, q.name, base64.StdEncoding.EncodeToString(q.input))
		}
		out.Flush()
		stdin.Close()
	}()
	answers := bufio.NewReaderSize(stdout, 1<<20)
	for _, q := range questions {
		answer, err := answers.ReadString('\n')
		if err != nil {
			t.Fatalf("no answer to %s %s %q: %v", q.what, q.name, q.input, err)
		}
		verdict, result, _ := strings.Cut(strings.TrimSuffix(answer, "\n"), " ")
		if err := q.check(verdict == "good", result); err != nil {
			t.Errorf("%s %s %q: %v", q.what, q.name, q.input, err)
		}
	}
	io.Copy(io.Discard, answers)
	if err := program.Wait(); err != nil {
		t.Error(err)
	}
}

// protojson puts in white space at random, so that nobody relies on its bytes.
func jsonOf(message proto.Message) (string, error) {
	text, err := marshal.Marshal(message)
	if err != nil {
		return "", err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return "", err
	}
	return compact.String(), nil
}

// What the gateway takes a body for: encoding/json finds its end, and protojson reads it.
func parse(kind protoreflect.MessageType, text []byte) (proto.Message, error) {
	message := kind.New().Interface()
	if !json.Valid(text) {
		return nil, fmt.Errorf("it isn't JSON")
	}
	return message, unmarshal.Unmarshal(text, message)
}

func sameMessage(kind protoreflect.MessageType, encoded string, expected proto.Message) error {
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	message := kind.New().Interface()
	if err := proto.Unmarshal(decoded, message); err != nil {
		return err
	}
	if !proto.Equal(message, expected) {
		return fmt.Errorf("it means %v, and Go says %v", message, expected)
	}
	return nil
}

// A number in a string with something behind it, which protojson doesn't look at and we refuse.
var looseNumber = regexp.MustCompile(`"-?[0-9][0-9.eE+-]*[^0-9a-zA-Z._+"-]`)

func fromJSON(kind protoreflect.MessageType, text []byte, counts map[string]int) question {
	expected, goError := parse(kind, text)
	return question{what: "FROM", name: kind.Descriptor().FullName(), input: text, check: func(good bool, result string) error {
		if goError != nil {
			counts["refused"]++
			if good {
				return fmt.Errorf("Go refuses it: %v", goError)
			}
			return nil
		}
		if !good {
			if strings.Contains(result, "is not an integer") && looseNumber.Match(text) {
				return nil
			}
			return fmt.Errorf("refused: %s", result)
		}
		counts["taken"]++
		return sameMessage(kind, result, expected)
	}}
}

func count(t *testing.T) int {
	if os.Getenv("CORACLE_TEST_QUICK") != "" {
		return 20
	}
	return 100
}

// Messages made by Go: our JSON is protojson's; its JSON in each style gives the message again; and so does protobuf-c.
func TestRandomMessages(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	styles := []protojson.MarshalOptions{
		{UseProtoNames: true},
		{},
		{UseEnumNumbers: true, EmitUnpopulated: true},
		{Multiline: true},
	}
	counts := map[string]int{}
	var questions []question
	for _, kind := range messageTypes(t) {
		name := kind.Descriptor().FullName()
		for i := 0; i < count(t); i++ {
			made := kind.New()
			if i > 0 {
				fill(random, made, 1)
			}
			message := made.Interface()
			encoded, err := proto.Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			text, err := jsonOf(message)
			if err != nil {
				t.Fatal(err)
			}
			questions = append(questions, question{what: "TO", name: name, input: encoded, check: func(good bool, result string) error {
				if !good || result != text {
					return fmt.Errorf("%s, and Go says %s", result, text)
				}
				return nil
			}})
			questions = append(questions, question{what: "UNPACK", name: name, input: encoded, check: func(good bool, result string) error {
				if !good {
					if strings.Contains(result, "zero byte") && bytes.Contains(encoded, []byte{0}) {
						return nil
					}
					return fmt.Errorf("refused: %s", result)
				}
				return sameMessage(kind, result, message)
			}})
			styled, err := styles[i%len(styles)].Marshal(message)
			if err != nil {
				t.Fatal(err)
			}
			questions = append(questions, fromJSON(kind, styled, counts))
		}
	}
	ask(t, questions)
	t.Logf("%d questions", len(questions))
}

func mutate(random *rand.Rand, original []byte, pieces []string) []byte {
	changed := append([]byte(nil), original...)
	for n := random.Intn(3) + 1; n > 0 && len(changed) > 0; n-- {
		at := random.Intn(len(changed))
		switch random.Intn(5) {
		case 0:
			changed[at] = byte(random.Intn(256))
		case 1:
			changed = append(changed[:at], changed[at+1:]...)
		case 2: // something that means something, in place of as much
			piece := pieces[random.Intn(len(pieces))]
			copy(changed[at:], piece)
		case 3:
			piece := pieces[random.Intn(len(pieces))]
			changed = append(changed[:at], append([]byte(piece), changed[at:]...)...)
		default: // a part of it comes twice
			end := at + random.Intn(len(changed)-at)
			part := append([]byte(nil), changed[at:end]...)
			changed = append(changed[:end], append(part, changed[end:]...)...)
		}
	}
	return changed
}

// JSON that was meddled with is taken if Go takes it, and then means the same.
func TestMutatedJSON(t *testing.T) {
	random := rand.New(rand.NewSource(2))
	pieces := []string{"null", "true", "1e3", "1.5", "-0", "-1", "\"\"", "{}", "[]", ",", ":", "\"", "\\u00e9", "\\ud83d\\ude00",
		"\\ud800", "\\n", "\\", "_", "-", "/", "=", "==", "\"key\":\"YQ\",", "\"range_end\":\"_-8\",", "\"rangeEnd\":null,",
		"\"unknown\":[{\"a\":[1,2.5e-3,null,\"x\"]}],", " ", "\n", "0", "00", "1e", "\xff", "\"NOSPACE\"", "\"header\":{},"}
	counts := map[string]int{}
	var questions []question
	for _, kind := range messageTypes(t) {
		for i := 0; i < count(t)*2; i++ {
			message := kind.New()
			fill(random, message, 3)
			text, err := (protojson.MarshalOptions{UseProtoNames: i%2 == 0}).Marshal(message.Interface())
			if err != nil {
				t.Fatal(err)
			}
			questions = append(questions, fromJSON(kind, mutate(random, text, pieces), counts))
		}
	}
	ask(t, questions)
	if counts["taken"] < len(questions)/10 || counts["refused"] < len(questions)/10 {
		t.Errorf("too few to tell: %v", counts)
	}
	t.Logf("%v", counts)
}

// Whether there is an unknown group, which Go skips and we refuse.
func hasGroup(message protoreflect.Message) bool {
	for unknown := message.GetUnknown(); len(unknown) > 0; {
		_, wireType, n := protowire.ConsumeField(unknown)
		if wireType == protowire.StartGroupType {
			return true
		}
		unknown = unknown[n:]
	}
	found := false
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < value.List().Len(); i++ {
				found = found || hasGroup(value.List().Get(i).Message())
			}
		default:
			found = found || hasGroup(value.Message())
		}
		return !found
	})
	return found
}

// Protobuf that was meddled with: what we take, Go takes, and means the same by. What only we refuse has a reason.
func TestMutatedProtobuf(t *testing.T) {
	random := rand.New(rand.NewSource(3))
	pieces := []string{"\x00", "\x01", "\x7f", "\xff", "\x80\x01", "\x0a\x00", "\x12\x00", "\x0a\x01a", "\x08\x01", "\x10\x00",
		"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\xfa\x07\x01x", "\x0d\x01\x02\x03\x04", "\x2a\x02\x00\x01"}
	reasons := []string{"comes twice", "another wire type", "zero byte"}
	counts := map[string]int{}
	var questions []question
	for _, kind := range messageTypes(t) {
		name := kind.Descriptor().FullName()
		for i := 0; i < count(t); i++ {
			made := kind.New()
			fill(random, made, 3)
			encoded, err := proto.Marshal(made.Interface())
			if err != nil {
				t.Fatal(err)
			}
			encoded = mutate(random, encoded, pieces)
			message := kind.New().Interface()
			goError := proto.Unmarshal(encoded, message)
			text := ""
			group := false
			if goError == nil {
				group = hasGroup(message.ProtoReflect())
				if text, err = jsonOf(message); err != nil {
					t.Fatal(err)
				}
			}
			for _, what := range []string{"TO", "UNPACK"} {
				questions = append(questions, question{what: what, name: name, input: encoded, check: func(good bool, result string) error {
					if goError != nil {
						counts["refused"]++
						if good {
							return fmt.Errorf("Go refuses it: %v", goError)
						}
						return nil
					}
					if !good {
						counts["refused by us alone"]++
						for _, reason := range reasons {
							if strings.Contains(result, reason) {
								return nil
							}
						}
						if group {
							return nil
						}
						return fmt.Errorf("refused: %s", result)
					}
					counts["taken"]++
					if what == "UNPACK" {
						return sameMessage(kind, result, message)
					}
					if result != text {
						return fmt.Errorf("%s, and Go says %s", result, text)
					}
					return nil
				}})
			}
		}
	}
	ask(t, questions)
	if counts["taken"] < len(questions)/10 || counts["refused"] < len(questions)/10 {
		t.Errorf("too few to tell: %v", counts)
	}
	t.Logf("%v", counts)
}

// What JSON can say in several ways, one by one.
func TestForms(t *testing.T) {
	forms := map[string][]string{
		"etcdserverpb.PutRequest": {
			`{}`, ` { } `, `{"key":"_-8"}`, `{"key":"_-8="}`, `{"key":"/+8="}`, `{"key":"/+8"}`, `{"key":"/-8"}`, `{"key":"YR=="}`,
			`{"key":"Y"}`, `{"key":"YQ="}`, `{"key":"YWI="}`, `{"key":"YW=="}`, `{"key":"=="}`, `{"key":"Y==="}`, `{"key":"YQ==YQ=="}`,
			`{"key":"YQ\n=="}`, `{"key":"YQ=\n=aaa"}`, `{"key":"Y\nQ\n=\n=\n"}`, `{"key":"YQ==\n"}`, `{"key":"YWFh\r\n\r\n"}`, `{"key":"YWFh\n"}`, `{"key":"\/\/8="}`,
			`{"key":"\u0059Q=="}`, `{"key":null}`, `{"key":null,"key":"YQ=="}`, `{"key":1}`, `{"key":["YQ=="]}`, `{"key":"YQ==","key":"YQ=="}`,
			`{"lease":1}`, `{"lease":"1"}`, `{"lease":" 1"}`, `{"lease":"1 "}`, `{"lease":""}`, `{"lease":"0x1"}`, `{"lease":"01"}`,
			`{"lease":1.0}`, `{"lease":1.5}`, `{"lease":1e18}`, `{"lease":1e19}`, `{"lease":9223372036854775807}`,
			`{"lease":9223372036854775808}`, `{"lease":-9223372036854775808}`, `{"lease":-9223372036854775809}`,
			`{"lease":"-0"}`, `{"lease":100e-2}`, `{"lease":105e-2}`, `{"lease":1.25e2}`, `{"lease":0.05e2}`, `{"lease":0e99999999999}`,
			`{"lease":0.0000000000000000000000001e25}`, `{"lease":1e99999999999}`, `{"lease":1e-99999999999}`, `{"lease":true}`,
			`{"prev_kv":true}`, `{"prevKv":true}`, `{"prevKV":true}`, `{"prev_kv":"true"}`, `{"prev_kv":1}`, `{"prev_kv":true,"prevKv":true}`,
			`{"@type":"x","key":"YQ=="}`, `{"[a.b]":{"c":[]},"key":"YQ=="}`, `{"x":{"key":"Yg=="},"key":"YQ=="}`, `{"x":01}`, `{"x":"\ud800"}`,
			`[]`, `null`, `""`, `1`, ``, ` `, `{`, `{"key"}`, `{"key":}`, `{"key":"YQ==",}`, `{,}`, `{"x":[1,]}`, `{"x":[}`, `{} {}`, `{}x`,
			`{'key':"YQ=="}`, `{key:"YQ=="}`, `{"key":"YQ==" "lease":1}`, "{\"\xff\":1}", "{\"x\":\"\x01\"}", "\xef\xbb\xbf{}",
		},
		"etcdserverpb.RangeRequest": {
			`{"sort_order":"DESCEND"}`, `{"sortOrder":2}`, `{"sort_order":"2"}`, `{"sort_order":"descend"}`, `{"sort_order":77}`,
			`{"sort_order":-1}`, `{"sort_order":2147483648}`, `{"sort_order":1.0}`, `{"sort_order":null}`, `{"sort_order":{}}`, `{"sort_order":"\u004eONE"}`,
		},
		"etcdserverpb.WatchRequest": {
			`{"create_request":{"filters":["NOPUT","NODELETE",0,1,7,"?"]}}`, `{"create_request":{"filters":["?"]}}`, `{"create_request":{"filters":[null]}}`,
			`{"create_request":{"filters":"NOPUT"}}`, `{"create_request":{"filters":null}}`, `{"create_request":{"filters":[]}}`,
			`{"create_request":{},"cancel_request":{}}`, `{"create_request":null,"cancel_request":{}}`, `{"create_request":{},"cancel_request":null}`,
			`{"progress_request":{}}`, `{"progress_request":[]}`, `{"cancelRequest":{"watchId":"-1"}}`,
		},
		"etcdserverpb.TxnRequest": {
			`{"compare":[{"version":"0"}],"success":[{"request_put":{}}]}`, `{"compare":[{"value":""}]}`, `{"compare":[{"version":0,"lease":0}]}`,
			`{"compare":[null]}`, `{"compare":{}}`, `{"success":[{"requestTxn":{"failure":[{"requestDeleteRange":{"key":"YQ"}},{}]}}]}`,
		},
		"etcdserverpb.AlarmRequest": {`{"memberID":18446744073709551615}`, `{"memberID":"18446744073709551616"}`, `{"memberID":-1}`, `{"memberID":-0}`},
		"etcdserverpb.MemberAddRequest": {
			`{"peerURLs":["http:\/\/a",""]}`, `{"peerURLs":["\ud83d\ude00\u0000\u00e9"]}`, `{"peerURLs":[1]}`, `{"peerURLs":["\ude00"]}`, `{"peerURLs":["\ud83d\u0041"]}`,
		},
		"etcdserverpb.HashKVResponse": {`{"hash":4294967295}`, `{"hash":"4294967296"}`, `{"hash":-1}`},
	}
	counts := map[string]int{}
	var questions []question
	for name, all := range forms {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range all {
			questions = append(questions, fromJSON(kind, []byte(text), counts))
		}
	}
	ask(t, questions)
	if counts["taken"] < 40 || counts["refused"] < 40 {
		t.Errorf("too few to tell: %v", counts)
	}
	t.Logf("%v", counts)
}
