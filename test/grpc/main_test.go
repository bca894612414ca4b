// Clients that others wrote, against wire/grpc on a real socket: grpc-go, Go's own HTTP/2 client, and h2spec.
package grpctest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	http2spec "github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A message is its bytes.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte{}, data...); return nil }
func (raw) Name() string                       { return "proto" }

var _ encoding.Codec = raw{}

func server(t *testing.T) string {
	t.Helper()
	command := exec.Command(os.Getenv("CORACLE_GRPC_SERVER"))
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	command.Stderr = &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("the server: %v\n%s", err, stderr.String())
		}
	})
	return "127.0.0.1:" + strings.TrimSpace(line)
}

func dial(t *testing.T, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(64<<20)))
	connection, err := grpc.NewClient(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

func unary(ctx context.Context, connection *grpc.ClientConn, method string, message []byte, options ...grpc.CallOption) ([]byte, error) {
	var reply []byte
	err := connection.Invoke(ctx, "/t.T/"+method, &message, &reply, options...)
	return reply, err
}

func wantStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || status.Convert(err).Message() != text {
		t.Fatalf("got %v, want %v %q", err, code, text)
	}
}

func random(r *rand.Rand, size int) []byte {
	message := make([]byte, size)
	r.Read(message)
	return message
}

func TestUnary(t *testing.T) {
	connection := dial(t, server(t))
	r := rand.New(rand.NewSource(1))
	for _, size := range []int{0, 1, 300, 16379, 16384, 65535, 100000, 1 << 20, 2 << 20} {
		message := random(r, size)
		reply, err := unary(context.Background(), connection, "Unary", message)
		if err != nil || !bytes.Equal(reply, message) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	_, err := unary(context.Background(), connection, "Unary", make([]byte, 2<<20+1))
	wantStatus(t, err, codes.ResourceExhausted, "grpc: received message larger than max (2097153 vs. 2097152)")
	_, err = unary(context.Background(), connection, "Fail", []byte("x"))
	wantStatus(t, err, codes.NotFound, "no: 100% über")
	_, err = unary(context.Background(), connection, "Nowhere", []byte("x"))
	wantStatus(t, err, codes.Unimplemented, "unknown method")
	_, err = unary(context.Background(), connection, "Unary", []byte("x"), grpc.UseCompressor("gzip"))
	wantStatus(t, err, codes.Unimplemented, `grpc: Decompressor is not installed for grpc-encoding "gzip"`)
}

func TestManyAtOnce(t *testing.T) {
	address := server(t)
	connection := dial(t, address)
	var group sync.WaitGroup
	for i := range 200 {
		group.Add(1)
		go func() {
			defer group.Done()
			r := rand.New(rand.NewSource(int64(i)))
			for range 50 {
				size := r.Intn(1000)
				if r.Intn(20) == 0 {
					size = r.Intn(300000)
				}
				message := random(r, size)
				reply, err := unary(context.Background(), connection, "Unary", message)
				if err != nil || !bytes.Equal(reply, message) {
					t.Errorf("%d bytes: %v", size, err)
					return
				}
			}
		}()
	}
	group.Wait()
}

func TestLargeAtOnce(t *testing.T) {
	address := server(t)
	connection := dial(t, address)
	var group sync.WaitGroup
	for i := range 64 {
		group.Add(1)
		go func() {
			defer group.Done()
			message := random(rand.New(rand.NewSource(int64(i))), 1<<20)
			reply, err := unary(context.Background(), connection, "Unary", message)
			if err != nil || !bytes.Equal(reply, message) {
				t.Errorf("%v", err)
			}
		}()
	}
	group.Wait()
}

func TestHeaders(t *testing.T) {
	connection := dial(t, server(t))
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "hasleader", "true", "token", "abc.1")
	reply, err := unary(ctx, connection, "Info", nil)
	if err != nil {
		t.Fatal(err)
	}
	var timeout int
	var rest string
	if n, err := fmt.Sscanf(string(reply), "timeout_ms=%d hasleader=1 token=%s", &timeout, &rest); n != 2 || err != nil ||
		rest != "abc.1" || timeout > 3600000 || timeout < 3000000 {
		t.Fatalf("%s: %v", reply, err)
	}
	reply, err = unary(context.Background(), connection, "Info", nil)
	if err != nil || string(reply) != "timeout_ms=-1 hasleader=0 token=" {
		t.Fatalf("%s: %v", reply, err)
	}
}

var bidi = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

func TestBidi(t *testing.T) {
	connection := dial(t, server(t))
	stream, err := connection.NewStream(context.Background(), bidi, "/t.T/Echo")
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewSource(3))
	for i := range 500 {
		size := r.Intn(2000)
		if i%20 == 0 {
			size = r.Intn(500000)
		}
		message := random(r, size)
		var reply []byte
		if err := stream.SendMsg(&message); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&reply); err != nil || !bytes.Equal(reply, message) {
			t.Fatalf("message %d of %d bytes: %v", i, size, err)
		}
	}
	stream.CloseSend()
	var reply []byte
	if err := stream.RecvMsg(&reply); err != io.EOF {
		t.Fatal(err)
	}
}

// A stream of 64 MiB to a slow reader, beside unary calls on the same connection; the server keeps little of it.
func TestLargeStreamAndSlowReader(t *testing.T) {
	address := server(t)
	connection := dial(t, address)
	stream, err := connection.NewStream(context.Background(), bidi, "/t.T/Stream")
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("1024 65536")
	if err := stream.SendMsg(&message); err != nil {
		t.Fatal(err)
	}
	for i := range 1024 {
		var part []byte
		if err := stream.RecvMsg(&part); err != nil {
			t.Fatal(err)
		}
		if len(part) != 65536 || part[0] != byte(i) || part[65535] != byte(i) {
			t.Fatalf("part %d is wrong", i)
		}
		if i%16 == 0 {
			if _, err := unary(context.Background(), connection, "Unary", []byte("beside")); err != nil {
				t.Fatal(err)
			}
		}
	}
	var end []byte
	if err := stream.RecvMsg(&end); err != io.EOF {
		t.Fatal(err)
	}
	memory, err := strconv.Atoi(get(t, address, "/memory"))
	if err != nil || memory > 1<<20 {
		t.Fatalf("the server needed %d bytes (%v)", memory, err)
	}
}

func TestCancelAndDeadline(t *testing.T) {
	address := server(t)
	connection := dial(t, address)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := unary(ctx, connection, "Silent", []byte("x"))
	wantStatus(t, err, codes.DeadlineExceeded, "context deadline exceeded")
	ctx, cancel = context.WithCancel(context.Background())
	if _, err := connection.NewStream(ctx, bidi, "/t.T/Silent"); err != nil {
		t.Fatal(err)
	}
	// The stream's beginning is sent before this answer comes, on the same connection.
	if _, err := unary(context.Background(), connection, "Unary", nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	for get(t, address, "/closed") != "2" {
		time.Sleep(time.Millisecond)
	}
}

// A graceful end: calls under way are answered, new ones go to another connection.
func TestShutdown(t *testing.T) {
	address := server(t)
	var connections []net.Conn
	dialer := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		connections = append(connections, connection)
		return connection, err
	})
	connection := dial(t, address, dialer)
	stream, err := connection.NewStream(context.Background(), bidi, "/t.T/Echo")
	if err != nil {
		t.Fatal(err)
	}
	echo := func(text string) {
		t.Helper()
		message, reply := []byte(text), []byte{}
		if err := stream.SendMsg(&message); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&reply); err != nil || string(reply) != text {
			t.Fatalf("%q: %v", reply, err)
		}
	}
	echo("before")
	if _, err := unary(context.Background(), connection, "Shutdown", nil); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := unary(context.Background(), connection, "Unary", []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	echo("after")
	stream.CloseSend()
	var end []byte
	if err := stream.RecvMsg(&end); err != io.EOF {
		t.Fatal(err)
	}
	if len(connections) != 2 {
		t.Fatalf("%d connections", len(connections))
	}
}

func plain() *http.Client {
	return &http.Client{Transport: &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}}
}

func get(t *testing.T, address, path string) string {
	t.Helper()
	client := plain()
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%d %v", response.StatusCode, err)
	}
	return string(body)
}

func TestPlain(t *testing.T) {
	address := server(t)
	if body := get(t, address, "/health"); body != "/health" {
		t.Fatal(body)
	}
	client := plain()
	defer client.CloseIdleConnections()
	for _, size := range []int{1, 1000, 100000, 2 << 20} {
		message := random(rand.New(rand.NewSource(5)), size)
		for _, known := range []bool{true, false} {
			var reader io.Reader = bytes.NewReader(message)
			if !known {
				reader = io.MultiReader(reader)
			}
			response, err := client.Post("http://"+address+"/echo", "text/plain", reader)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || !bytes.Equal(body, message) {
				t.Fatalf("%d bytes: %v", size, err)
			}
		}
	}
	response, err := client.Post("http://"+address+"/echo", "text/plain", bytes.NewReader(make([]byte, 2<<20+1)))
	if err != nil || response.StatusCode != 413 {
		t.Fatalf("%v %v", response, err)
	}
	response, err = client.Head("http://" + address + "/health")
	if err != nil || response.ContentLength != 7 {
		t.Fatalf("%v %v", response, err)
	}
}

// Our client against grpc-go's server.
func TestOurClient(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	echo := func(_ any, stream grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(stream); method == "/t.T/Fail" {
			return status.Error(codes.NotFound, "no: 100% über")
		}
		if _, ok := stream.Context().Deadline(); !ok {
			return status.Error(codes.Internal, "no deadline")
		}
		for {
			var message []byte
			if err := stream.RecvMsg(&message); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		}
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(echo), grpc.MaxConcurrentStreams(100))
	go server.Serve(listener)
	defer server.Stop()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	output, err := exec.Command(os.Getenv("CORACLE_GRPC_CLIENT"), port).CombinedOutput()
	if err != nil || string(output) != "400 calls\n" {
		t.Fatalf("%v: %s", err, output)
	}
}

// nghttp2 forgets a stream as soon as it is closed, which is most of what a connection would cost, and passes over what a client sends
// for it afterwards; and priorities are refused, by SETTINGS_NO_RFC7540_PRIORITIES, so their frames are passed over, too. The suite
// wants an error for both. (Where the stream isn't closed yet, as the answer is still to come, there is one; so some fail by chance.)
var passedOver = []string{
	"5.1. Stream States: half closed (remote): Sends a DATA frame",
	"5.1. Stream States: half closed (remote): Sends a HEADERS frame",
	"5.1. Stream States: closed: Sends a DATA frame after sending RST_STREAM frame",
	"5.1. Stream States: closed: Sends a HEADERS frame after sending RST_STREAM frame",
	"5.1. Stream States: closed: Sends a DATA frame",
	"5.1. Stream States: closed: Sends a HEADERS frame",
	"5.1.1. Stream Identifiers: Sends stream identifier that is numerically smaller than previous",
	"5.3.1. Stream Dependencies: Sends PRIORITY frame that depend on itself",
	"6.1. DATA: Sends a DATA frame on the stream that is not in \"open\" or \"half-closed (local)\" state",
	"6.3. PRIORITY: Sends a PRIORITY frame with 0x0 stream identifier",
}

func failures(group *spec.TestGroup) (passed int, failed []string) {
	for _, test := range group.Tests {
		if test.Result == nil || test.Result.Skipped {
			continue
		}
		if test.Result.Failed {
			failed = append(failed, fmt.Sprintf("%s. %s: %s", group.Section, group.Name, test.Desc))
		} else {
			passed++
		}
	}
	for _, inner := range group.Groups {
		more, names := failures(inner)
		passed += more
		failed = append(failed, names...)
	}
	return passed, failed
}

func TestConformance(t *testing.T) {
	host, port, _ := net.SplitHostPort(server(t))
	number, _ := strconv.Atoi(port)
	settings := &config.Config{
		Host: host, Port: number, Path: "/", Timeout: time.Second, MaxHeaderLen: 4000, Strict: true,
	}
	var passed int
	var failed []string
	for _, group := range []*spec.TestGroup{generic.Spec(), http2spec.Spec(), hpack.Spec()} {
		group.Test(settings)
		more, names := failures(group)
		passed += more
		failed = append(failed, names...)
	}
	for _, name := range failed {
		if !slices.Contains(passedOver, name) {
			t.Errorf("%s", name)
		}
	}
	if passed+len(passedOver) < 145 {
		t.Fatalf("only %d passed", passed)
	}
}
