// Package wire compares our bytes of the etcd v3 interface with those of etcd's own modules.
package wire

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
)

// Ours, and what they must be equal to.
var files = map[string]protoreflect.FileDescriptor{
	"auth":       authpb.File_auth_proto,
	"health":     grpc_health_v1.File_grpc_health_v1_health_proto,
	"kv":         mvccpb.File_kv_proto,
	"rpc":        etcdserverpb.File_rpc_proto,
	"v3election": v3electionpb.File_v3election_proto,
	"v3lock":     v3lockpb.File_v3lock_proto,
}

func repoRoot(t *testing.T) string {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(here, "..", "..", "..")
}

func describeEnum(enum protoreflect.EnumDescriptor, facts map[string]string) {
	for i := 0; i < enum.Values().Len(); i++ {
		value := enum.Values().Get(i)
		facts[fmt.Sprintf("enum %s %s", enum.FullName(), value.Name())] = fmt.Sprint(value.Number())
	}
}

func describeField(field protoreflect.FieldDescriptor) string {
	fact := fmt.Sprintf("%d %s %s json=%s presence=%t packed=%t map=%t", field.Number(), field.Cardinality(), field.Kind(),
		field.JSONName(), field.HasPresence(), field.IsPacked(), field.IsMap())
	if field.Message() != nil {
		fact += " of " + string(field.Message().FullName())
	}
	if field.Enum() != nil {
		fact += " of " + string(field.Enum().FullName())
	}
	if field.ContainingOneof() != nil {
		fact += " in " + string(field.ContainingOneof().Name())
	}
	return fact
}

func describeMessage(message protoreflect.MessageDescriptor, facts map[string]string) {
	facts["message "+string(message.FullName())] = "there"
	for i := 0; i < message.Fields().Len(); i++ {
		field := message.Fields().Get(i)
		facts["field "+string(field.FullName())] = describeField(field)
	}
	for i := 0; i < message.Enums().Len(); i++ {
		describeEnum(message.Enums().Get(i), facts)
	}
	for i := 0; i < message.Messages().Len(); i++ {
		describeMessage(message.Messages().Get(i), facts)
	}
}

// All that a client can tell, as one line for each thing.
func describe(file protoreflect.FileDescriptor) map[string]string {
	facts := map[string]string{"package": string(file.Package()), "syntax": file.Syntax().String()}
	for i := 0; i < file.Messages().Len(); i++ {
		describeMessage(file.Messages().Get(i), facts)
	}
	for i := 0; i < file.Enums().Len(); i++ {
		describeEnum(file.Enums().Get(i), facts)
	}
	for i := 0; i < file.Services().Len(); i++ {
		service := file.Services().Get(i)
		for j := 0; j < service.Methods().Len(); j++ {
			method := service.Methods().Get(j)
			facts["method "+string(method.FullName())] = fmt.Sprintf("%s %t to %s %t", method.Input().FullName(),
				method.IsStreamingClient(), method.Output().FullName(), method.IsStreamingServer())
		}
	}
	return facts
}

func differences(ours, theirs map[string]string) []string {
	var all []string
	for name, fact := range theirs {
		if ours[name] != fact {
			all = append(all, fmt.Sprintf("%s: %q, and etcd's is %q", name, ours[name], fact))
		}
	}
	for name, fact := range ours {
		if _, there := theirs[name]; !there {
			all = append(all, fmt.Sprintf("%s: %q, which etcd has not", name, fact))
		}
	}
	sort.Strings(all)
	return all
}

func TestDescriptorsAreEqual(t *testing.T) {
	root := repoRoot(t)
	set := filepath.Join(t.TempDir(), "set")
	arguments := []string{"--proto_path=" + root, "--include_imports", "--descriptor_set_out=" + set}
	for name := range files {
		arguments = append(arguments, filepath.Join(root, "proto", "etcd", name+".proto"))
	}
	if out, err := exec.Command("protoc-c", arguments...).CombinedOutput(); err != nil {
		t.Fatalf("protoc-c: %v\n%s", err, out)
	}
	content, err := os.ReadFile(set)
	if err != nil {
		t.Fatal(err)
	}
	var parsed descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(content, &parsed); err != nil {
		t.Fatal(err)
	}
	ours, err := protodesc.NewFiles(&parsed)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for name, theirs := range files {
		file, err := ours.FindFileByPath("proto/etcd/" + name + ".proto")
		if err != nil {
			t.Fatal(err)
		}
		facts := describe(file)
		compared += len(facts)
		if found := differences(facts, describe(theirs)); len(found) > 0 {
			t.Errorf("%s.proto:\n%s", name, strings.Join(found, "\n"))
		}
	}
	if compared < 400 {
		t.Errorf("only %d facts were compared", compared)
	}
	t.Logf("%d facts are equal", compared)

	// The comparison sees a difference in a single field's number.
	changed := describe(files["kv"])
	changed["field mvccpb.KeyValue.lease"] = strings.Replace(changed["field mvccpb.KeyValue.lease"], "6", "7", 1)
	if len(differences(changed, describe(files["kv"]))) != 1 {
		t.Error("a changed number wasn't noticed")
	}
}
