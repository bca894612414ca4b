package wire

import (
	"math"
	"math/rand"

	"google.golang.org/protobuf/reflect/protoreflect"
)

const depthMax = 6

var texts = []string{
	"", "a", "key", "/registry/pods/default/web-0", "say \"hi\"", "back\\slash", "tab\tline\nreturn\r\b\f", "\x00", "\x01\x1f\x7f",
	"größe", "日本語", "😀", "\u2028\u2029", "<a href='x'>&amp;</a>", "http://127.0.0.1:2380",
}

var numbers = []uint64{0, 1, 2, 127, 128, 1000, math.MaxInt32, math.MaxUint32, 1 << 53, 1<<53 + 1, math.MaxInt64, 1 << 63, math.MaxUint64}

func randomNumber(random *rand.Rand) uint64 {
	if random.Intn(2) == 0 {
		return numbers[random.Intn(len(numbers))]
	}
	return random.Uint64() >> random.Intn(64)
}

func randomBytes(random *rand.Rand) []byte {
	if random.Intn(4) == 0 {
		return []byte(texts[random.Intn(len(texts))])
	}
	bytes := make([]byte, random.Intn(40))
	random.Read(bytes)
	return bytes
}

func randomScalar(random *rand.Rand, field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(random.Intn(2) == 0)
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		if random.Intn(6) == 0 {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(randomNumber(random))))
		}
		return protoreflect.ValueOfEnum(values.Get(random.Intn(values.Len())).Number())
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(randomNumber(random)))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(randomNumber(random))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(randomNumber(random)))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(texts[random.Intn(len(texts))])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(randomBytes(random))
	default:
		panic("a kind of field that no message has: " + field.Kind().String())
	}
}

// Fills `message` with whatever its fields may hold.
func fill(random *rand.Rand, message protoreflect.Message, depth int) {
	fields := message.Descriptor().Fields()
	for i := 0; i < fields.Len(); i++ {
		field := fields.Get(i)
		if random.Intn(3) == 0 || (field.Message() != nil && depth >= depthMax) {
			continue
		}
		switch {
		case field.IsList():
			list := message.Mutable(field).List()
			for n := random.Intn(4); n > 0; n-- {
				if field.Message() != nil {
					fill(random, list.AppendMutable().Message(), depth+1)
				} else {
					list.Append(randomScalar(random, field))
				}
			}
		case field.Message() != nil:
			fill(random, message.Mutable(field).Message(), depth+1)
		default:
			message.Set(field, randomScalar(random, field))
		}
	}
}
