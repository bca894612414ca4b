"""Frames of the peers' protocol (src/replica/peer_codec.h), good and bad, made without the program's own code."""

import struct

GREETING, MESSAGE = 1, 2
FRAME_BYTES_MAX = 16 * 1024 * 1024

# proto/peer.proto, Greeting: name -> (number, wire type)
VARINT, FIXED64, TEXT = 0, 1, 2
FIELDS = {
    "version_min": (1, VARINT),
    "version_max": (2, VARINT),
    "cluster_id": (3, FIXED64),
    "member": (4, FIXED64),
    "node_id": (5, TEXT),
    "incarnation": (6, VARINT),
    "founding_nonce": (7, FIXED64),
    "membership_hash": (8, FIXED64),
    "product": (9, TEXT),
    "term": (10, VARINT),
}
NAMES = {number: name for name, (number, _) in FIELDS.items()}


def _table():
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return rows


_TABLE = _table()


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def frame(kind, protobuf, trailer=b"", crc=None):
    checked = struct.pack("<II", len(protobuf), kind) + protobuf + trailer
    return struct.pack("<II", len(protobuf) + len(trailer), crc32c(checked) if crc is None else crc) + checked


def greeting(fields):
    out = b""
    for name, (number, wire) in FIELDS.items():
        value = fields.get(name, "" if wire == TEXT else 0)
        if not value:
            continue
        out += _varint(number << 3 | wire)
        if wire == VARINT:
            out += _varint(value)
        elif wire == FIXED64:
            out += struct.pack("<Q", value)
        else:
            out += _varint(len(value.encode())) + value.encode()
    return frame(GREETING, out)


def read_greeting(data):
    """The fields of a greeting frame, whose check must be good."""
    size, crc, protobuf_bytes, kind = struct.unpack_from("<IIII", data)
    assert kind == GREETING and size == protobuf_bytes == len(data) - 16, data
    assert crc == crc32c(data[8:]), "the node's own frame has a bad check"
    fields, at = {}, 16
    while at < len(data):
        key, at = _read_varint(data, at)
        name = NAMES[key >> 3]
        if key & 7 == VARINT:
            fields[name], at = _read_varint(data, at)
        elif key & 7 == FIXED64:
            fields[name] = struct.unpack_from("<Q", data, at)[0]
            at += 8
        else:
            size, at = _read_varint(data, at)
            fields[name] = data[at : at + size].decode()
            at += size
    return fields
