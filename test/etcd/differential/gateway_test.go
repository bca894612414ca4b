package differential

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// text is one request to the JSON gateway as a person might write it.
type text struct {
	verb, path, body string
}

// The same thing said in every way that JSON for protobuf allows, and in many that it doesn't. Values are base64:
// "YQ==" is a, "Yg==" is b.
var texts = []text{
	{"POST", "/v3/kv/put", `{"key":"YQ==","value":"Yg=="}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","value":"Yg==","prev_kv":true}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","value":"Yg==","prevKv":true}`},
	{"POST", "/v3/kv/put", ` { "key" : "YQ" , "value" : "Yg" } `},
	{"POST", "/v3/kv/put", `{"key":"YQ==","value":null,"lease":null}`},
	{"POST", "/v3/kv/put", `{"key":"_-8=","value":"-_8"}`},
	{"POST", "/v3/kv/put", `{"key":"/+8=","value":"+/8="}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","value":"Yg==","unknown":{"deep":[1,2,{"x":null}]}}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":"0"}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":0}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":0.0}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":"12345678901234567"}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":1e3}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":"1e3"}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":1.5}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":"9223372036854775808"}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":"-9223372036854775808"}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":" 1"}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":true}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","lease":""}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","prev_kv":"true"}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","prev_kv":1}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","ignore_value":true,"value":"Yg=="}`},
	{"POST", "/v3/kv/put", `{"key":"Y"}`},
	{"POST", "/v3/kv/put", `{"key":"*"}`},
	{"POST", "/v3/kv/put", `{"key":"Y Q=="}`},
	{"POST", "/v3/kv/put", `{"key":["YQ=="]}`},
	{"POST", "/v3/kv/put", `{"key":5}`},
	{"POST", "/v3/kv/put", `{"key":""}`},
	{"POST", "/v3/kv/put", `{}`},
	{"POST", "/v3/kv/put", ``},
	{"POST", "/v3/kv/put", `[]`},
	{"POST", "/v3/kv/put", `null`},
	{"POST", "/v3/kv/put", `"YQ=="`},
	{"POST", "/v3/kv/put", `{"key":"YQ=="`},
	{"POST", "/v3/kv/put", `{"key":"YQ==",}`},
	{"POST", "/v3/kv/put", `{'key':'YQ=='}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","key":"Yg=="}`},
	{"POST", "/v3/kv/put", `{"prev_kv":true,"prevKv":true,"key":"YQ=="}`},
	{"POST", "/v3/kv/put", `{"key":"\u0059\u0051=="}`},
	{"POST", "/v3/kv/put", `{"k\u0065y":"YQ=="}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","unknown":"\ud800"}`},
	{"POST", "/v3/kv/put", `{"key":"YQ=="} {"key":"Yg=="}`},
	{"POST", "/v3/kv/put", `{"key":"YQ=="} rubbish`},
	{"POST", "/v3/kv/put", "\ufeff" + `{"key":"YQ=="}`},
	{"POST", "/v3/kv/put", `{"KEY":"YQ=="}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","unknown":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`},
	{"POST", "/v3/kv/put", `{"key":"YQ==","unknown":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`},
	{"POST", "/v3/kv/range", `{"key":"YQ=="}`},
	{"POST", "/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":"DESCEND","sort_target":"MOD","limit":"2"}`},
	{"POST", "/v3/kv/range", `{"key":"AA==","rangeEnd":"AA==","sortOrder":2,"sortTarget":3,"limit":2,"keysOnly":true}`},
	{"POST", "/v3/kv/range", `{"key":"AA==","sort_order":"descend"}`},
	{"POST", "/v3/kv/range", `{"key":"AA==","sort_order":"SIDEWAYS"}`},
	{"POST", "/v3/kv/range", `{"key":"AA==","sort_order":"2"}`},
	{"POST", "/v3/kv/range", `{"key":"AA==","sort_order":9}`},
	{"POST", "/v3/kv/range", `{"key":"AA==","sort_order":null}`},
	{"POST", "/v3/kv/range", `{"key":"AA==","range_end":"AA==","count_only":true}`},
	{"POST", "/v3/kv/range", `{"key":"YQ==","revision":"999999999"}`},
	{"POST", "/v3/kv/deleterange", `{"key":"bm9uZQ=="}`},
	{"POST", "/v3/kv/deleterange", `{"key":"Yg==","prev_kv":true}`},
	{"POST", "/v3/kv/txn", `{}`},
	{"POST", "/v3/kv/txn", `{"compare":[],"success":null}`},
	{"POST", "/v3/kv/txn", `{"compare":[{"key":"YQ==","target":"VERSION","result":"GREATER","version":"0"}],` +
		`"success":[{"request_put":{"key":"Yg==","value":"Yg=="}},{"requestRange":{"key":"Yg=="}}],"failure":[{"request_range":{"key":"YQ=="}}]}`},
	{"POST", "/v3/kv/txn", `{"compare":[{"key":"YQ==","target":"CREATE","result":"EQUAL","createRevision":"0"}],` +
		`"failure":[{"request_txn":{"success":[{"request_delete_range":{"key":"Yg==","prev_kv":true}}]}}]}`},
	{"POST", "/v3/kv/txn", `{"compare":[{"key":"YQ==","version":"1","mod_revision":"2"}]}`},
	{"POST", "/v3/kv/txn", `{"success":[{"request_put":{"key":"Yg=="},"request_range":{"key":"Yg=="}}]}`},
	{"POST", "/v3/kv/txn", `{"success":[{"request_put":null}]}`},
	{"POST", "/v3/kv/txn", `{"success":[{}]}`},
	{"POST", "/v3/kv/txn", `{"success":[null]}`},
	{"POST", "/v3/kv/txn", `{"success":[{"request_put":{"key":"Yg=="}},{"request_put":{"key":"Yg=="}}]}`},
	{"POST", "/v3/kv/compaction", `{"revision":"0"}`},
	{"POST", "/v3/kv/compaction", `{"revision":"99999999"}`},
	{"POST", "/v3/lease/grant", `{"ID":"4711","TTL":"500000"}`},
	{"POST", "/v3/lease/grant", `{"id":"4712","ttl":"500000","TTL":"500000","ID":"4712"}`},
	{"POST", "/v3/lease/grant", `{"ID":4711,"TTL":500000}`},
	{"POST", "/v3/lease/grant", `{"ID":"4713","TTL":"9000000001"}`},
	{"POST", "/v3/lease/keepalive", `{"ID":"4711"}`},
	{"POST", "/v3/lease/keepalive", `{"ID":"1"}`},
	{"POST", "/v3/lease/timetolive", `{"ID":"1"}`},
	{"POST", "/v3/lease/leases", `{}`},
	{"POST", "/v3/lease/leases", ``},
	{"POST", "/v3/lease/revoke", `{"ID":"4711"}`},
	{"POST", "/v3/kv/lease/revoke", `{"ID":"4712"}`},
	{"POST", "/v3/kv/lease/revoke", `{"ID":"4712"}`},
	{"POST", "/v3/kv/lease/timetolive", `{"ID":"4712"}`},
	{"POST", "/v3/kv/lease/leases", `{}`},
	{"POST", "/v3/maintenance/alarm", `{"action":"GET"}`},
	{"POST", "/v3/auth/authenticate", `{"name":"root","password":"secret"}`},
	{"POST", "/v3/auth/status", `{}`},
	{"POST", "/v3/election/leader", `{"name":"bm9ib2R5"}`},
	{"POST", "/v3/election/proclaim", `{}`},
	{"POST", "/v3/kv/range/", `{"key":"YQ=="}`},
	{"POST", "/v3/kv/range?key=Yg==", `{"key":"YQ=="}`},
	{"POST", "/v3/kv/nothing", `{}`},
	{"POST", "/v3/kv", `{}`},
	{"POST", "/v3/", `{}`},
	{"POST", "/v3/kv/RANGE", `{"key":"YQ=="}`},
	{"POST", "/v3beta/kv/range", `{"key":"YQ=="}`},
	{"POST", "/v3alpha/kv/range", `{"key":"YQ=="}`},
	{"GET", "/v3/kv/range", ``},
	{"PUT", "/v3/kv/put", `{"key":"YQ=="}`},
	{"DELETE", "/v3/kv/range", ``},
	{"HEAD", "/v3/kv/range", ``},
	{"OPTIONS", "/v3/kv/range", ``},
	{"GET", "/health", ``},
	{"GET", "/health?serializable=true", ``},
	{"GET", "/health?exclude=NOSPACE", ``},
	{"GET", "/livez", ``},
	{"GET", "/readyz", ``},
	{"GET", "/livez?verbose", ``},
	{"GET", "/readyz?verbose", ``},
	{"GET", "/livez/serializable_read", ``},
	{"GET", "/readyz/data_corruption", ``},
	{"GET", "/readyz/linearizable_read", ``},
	{"GET", "/readyz?verbose&exclude=linearizable_read", ``},
	{"GET", "/readyz?exclude=nothing&verbose", ``},
	{"POST", "/health", ``},
}

// reply is what of a gateway's answer must be equal.
type reply struct {
	status      int
	contentType string
	allow       string
	body        any
}

func (s *sequence) askText(target *target, one text) reply {
	request, err := http.NewRequest(one.verb, "http://"+target.endpoints[0]+one.path, strings.NewReader(one.body))
	if err != nil {
		s.t.Fatal(err)
	}
	if one.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := target.http.Do(request)
	if err != nil {
		return reply{body: err.Error()}
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	r := reply{status: response.StatusCode, contentType: response.Header.Get("Content-Type"), allow: response.Header.Get("Allow")}
	var parsed any
	if json.Unmarshal(body, &parsed) != nil {
		// Row 'order of checks'.
		lines := strings.Split(string(body), "\n")
		slices.Sort(lines)
		r.body = lines
		return r
	}
	hideIdentity(parsed)
	if object, ok := parsed.(map[string]any); ok && response.StatusCode == http.StatusBadRequest {
		// Row 'texts of JSON errors': what the parser says of the text.
		if message, ok := object["message"].(string); ok && !strings.HasPrefix(message, "etcdserver: ") {
			object["message"], object["error"] = "about the JSON", "about the JSON"
		}
	}
	r.body = parsed
	return r
}

// leaveOwnForm takes out what differs in the answers to requests that aren't the gateway's (row 'outside the gateway').
func leaveOwnForm(expected, got *reply) {
	expected.contentType, got.contentType, expected.allow, got.allow = "", "", "", ""
	if expected.status != http.StatusOK {
		expected.body, got.body = nil, nil
	}
	// More may be checked, but not less.
	checks, ok := expected.body.([]string)
	done, too := got.body.([]string)
	if ok && too {
		got.body = slices.DeleteFunc(done, func(line string) bool {
			return strings.HasPrefix(line, "[+]") && !slices.Contains(checks, line)
		})
	}
}

// hideIdentity leaves of what a server says about itself only that it is there, as a string, as 64-bit numbers are.
func hideIdentity(value any) {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			switch name {
			case "cluster_id", "member_id", "raft_term":
				value[name] = fmt.Sprintf("a %T", member)
			case "leases": // whichever there are by chance of the sequence
				delete(value, name)
			default:
				hideIdentity(member)
			}
		}
	case []any:
		for _, member := range value {
			hideIdentity(member)
		}
	}
}

func (s *sequence) gatewayTexts(t *testing.T) {
	for _, one := range texts {
		expected, got := s.askText(s.reference, one), s.askText(s.candidate, one)
		if !strings.HasPrefix(one.path, "/v3/") && !strings.HasPrefix(one.path, "/v3beta/") {
			leaveOwnForm(&expected, &got)
		}
		s.reached.add(fmt.Sprintf("gateway: %s as text: HTTP %d", one.verb, expected.status))
		if !reflect.DeepEqual(expected, got) {
			s.differ("gateway "+one.verb+one.path+shortenTo(one.body, 60), fmt.Sprintf("  request: %s %s %s\n  %-10s %+v\n  %-10s %+v",
				one.verb, one.path, shortenTo(one.body, 300), s.reference.name+":", expected, s.candidate.name+":", got))
		}
	}
}

// lines opens a stream of the gateway; next returns its next line, with nothing in it that differs between equal servers.
func (s *sequence) lines(target *target, path, body string) (next func() any, end func()) {
	ctx, cancel := context.WithTimeout(context.Background(), answerLimit)
	request, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+target.endpoints[0]+path, strings.NewReader(body))
	response, err := target.http.Do(request)
	if err != nil {
		cancel()
		s.t.Fatalf("%s: %s: %v", target.name, path, err)
	}
	lines := bufio.NewReader(response.Body)
	next = func() any {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err.Error()
		}
		var parsed any
		if err := json.Unmarshal(line, &parsed); err != nil {
			return "not JSON: " + string(line)
		}
		hideIdentity(parsed)
		return parsed
	}
	return next, func() { cancel(); response.Body.Close() }
}

// gatewayWatch watches through the gateway, where a stream is lines of JSON.
func (s *sequence) gatewayWatch(t *testing.T) {
	body := `{"create_request":{"key":"Z2F0ZQ==","prev_kv":true}}`
	referenceNext, referenceEnd := s.lines(s.reference, "/v3/watch", body)
	defer referenceEnd()
	candidateNext, candidateEnd := s.lines(s.candidate, "/v3/watch", body)
	defer candidateEnd()
	compare := func(what string) {
		if expected, got := referenceNext(), candidateNext(); !reflect.DeepEqual(expected, got) {
			s.differ("gateway watch", fmt.Sprintf("  %s\n  %v\n  %v", what, expected, got))
		}
	}
	compare("created")
	for _, value := range []string{"1", "2"} {
		s.one(&call{method: put, request: &pb.PutRequest{Key: []byte("gate"), Value: []byte(value)}})
		compare("an event")
	}
	s.one(&call{method: deleteRange, request: &pb.DeleteRangeRequest{Key: []byte("gate")}})
	compare("a delete")
	s.reached.add("gateway: watch")
}
