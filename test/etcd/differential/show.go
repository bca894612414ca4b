package differential

import (
	"fmt"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

const shownMost = 4000

func shorten(text string) string {
	if len(text) <= shownMost {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes in all)", text[:shownMost], len(text))
}

func show(message proto.Message) string {
	text, err := prototext.MarshalOptions{EmitASCII: true}.Marshal(message)
	if err != nil {
		return err.Error()
	}
	return shorten(string(text))
}

func (c *call) String() string {
	way := ""
	if c.gateway {
		way = " as JSON"
	}
	return fmt.Sprintf("%s%s at member %d: %s", c.method.name, way, c.node, show(c.request))
}

func shortenTo(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
