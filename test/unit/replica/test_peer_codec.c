#include "replica/peer_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/random.h"
#include "replica/command.h"

/* Looks at a copy of the bytes that ends where its allocation ends, and decodes what is there. */
static enum error receive(struct bytes bytes, struct peer_message *message, struct peer_greeting *greeting,
                          struct buffer *copy)
{
    buffer_clear(copy);
    buffer_append(copy, bytes.data, bytes.size);
    struct peer_frame frame;
    size_t frame_bytes;
    enum error error = peer_frame_next(buffer_bytes(copy), &frame, &frame_bytes);
    if (error != ERR_OK) return error;
    assert_true(frame_bytes <= bytes.size);
    return frame.kind == PEER_FRAME_GREETING ? peer_greeting_decode(&frame, greeting)
                                             : peer_message_decode(&frame, message);
}

/* ---- greetings ---- */

static struct peer_greeting sample_greeting(void)
{
    struct peer_greeting greeting = {
        .version_min = 1,
        .version_max = 4,
        .cluster_id = 0xfedcba9876543210,
        .member = UINT64_MAX,
        .incarnation = 5,
        .founding_nonce = 6,
        .membership_hash = 7,
        .term = 8,
    };
    memset(greeting.node_id, 'n', NODE_ID_BYTES_MAX);
    strcpy(greeting.product, "coracle 0.1.0");
    return greeting;
}

static void test_greeting(void **state)
{
    (void)state;
    struct peer_greeting greetings[2] = {sample_greeting(), {.version_min = 1}}; /* the other is all but empty */
    memset(greetings[0].product, 'p', sizeof greetings[0].product - 1);
    for (int i = 0; i < 2; i++) {
        struct buffer out = {0}, copy = {0};
        peer_greeting_encode(&greetings[i], &out);
        struct peer_greeting decoded;
        memset(&decoded, 0xee, sizeof decoded);
        assert_int_equal(receive(buffer_bytes(&out), NULL, &decoded, &copy), ERR_OK);
        assert_int_equal(decoded.version_min, greetings[i].version_min);
        assert_int_equal(decoded.version_max, greetings[i].version_max);
        assert_int_equal(decoded.cluster_id, greetings[i].cluster_id);
        assert_int_equal(decoded.member, greetings[i].member);
        assert_string_equal(decoded.node_id, greetings[i].node_id);
        assert_int_equal(decoded.incarnation, greetings[i].incarnation);
        assert_int_equal(decoded.founding_nonce, greetings[i].founding_nonce);
        assert_int_equal(decoded.membership_hash, greetings[i].membership_hash);
        assert_int_equal(decoded.term, greetings[i].term);
        assert_string_equal(decoded.product, greetings[i].product);
        buffer_free(&out);
        buffer_free(&copy);
    }
}

/* A frame with any contents and a right checksum: what a peer could send on purpose. */
static struct bytes make_frame(struct buffer *out, uint32_t kind, struct bytes protobuf, struct bytes trailer)
{
    buffer_clear(out);
    buffer_append_u32(out, (uint32_t)(protobuf.size + trailer.size));
    buffer_append_u32(out, 0);
    buffer_append_u32(out, (uint32_t)protobuf.size);
    buffer_append_u32(out, kind);
    buffer_append(out, protobuf.data, protobuf.size);
    buffer_append(out, trailer.data, trailer.size);
    put_u32(out->data + 4, crc32c(0, out->data + 8, out->size - 8));
    return buffer_bytes(out);
}

static void append_text_field(struct buffer *out, uint8_t number, size_t size)
{
    buffer_append_byte(out, (uint8_t)(number << 3 | 2));
    buffer_append_byte(out, (uint8_t)size);
    for (size_t i = 0; i < size; i++) buffer_append_byte(out, 'x');
}

static void test_greeting_refused(void **state)
{
    (void)state;
    struct buffer protobuf = {0}, frame = {0}, copy = {0};
    struct peer_greeting greeting;
    static const struct {
        uint8_t field;
        size_t size;
        enum error error;
    } samples[] = {
        {5, NODE_ID_BYTES_MAX, ERR_OK},
        {5, NODE_ID_BYTES_MAX + 1, ERR_BAD_FRAME},
        {9, 31, ERR_OK},
        {9, 32, ERR_BAD_FRAME},
        {5, 127, ERR_BAD_FRAME},
        {15, 100, ERR_OK}, /* a field of a later version */
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        buffer_clear(&protobuf);
        append_text_field(&protobuf, samples[i].field, samples[i].size);
        struct bytes bytes = make_frame(&frame, PEER_FRAME_GREETING, buffer_bytes(&protobuf), bytes_of(NULL, 0));
        assert_int_equal(receive(bytes, NULL, &greeting, &copy), samples[i].error);
    }
    struct bytes bytes = make_frame(&frame, PEER_FRAME_GREETING, bytes_of_string("\xff\xff\xff"), bytes_of(NULL, 0));
    assert_int_equal(receive(bytes, NULL, &greeting, &copy), ERR_BAD_FRAME);
    bytes = make_frame(&frame, PEER_FRAME_GREETING, bytes_of(NULL, 0), bytes_of_string("trailer"));
    assert_int_equal(receive(bytes, NULL, &greeting, &copy), ERR_BAD_FRAME);

    /* Each decoder takes its own kind only. */
    struct peer_frame other = {.kind = PEER_FRAME_MESSAGE};
    assert_int_equal(peer_greeting_decode(&other, &greeting), ERR_BAD_FRAME);
    other.kind = PEER_FRAME_GREETING;
    struct peer_message message;
    assert_int_equal(peer_message_decode(&other, &message), ERR_BAD_FRAME);
    buffer_free(&protobuf);
    buffer_free(&frame);
    buffer_free(&copy);
}

/* ---- messages ---- */

static uint64_t random_value(struct random *random)
{
    return random_chance(random, 300) ? 0 : random_u64(random) >> random_below(random, 64);
}

static struct peer_message random_message(struct random *random, struct bytes data)
{
    struct peer_message message = {
        .type = (enum peer_message_type)random_between(random, PEER_PREVOTE, PEER_MESSAGE_TYPE_END - 1),
        .from = random_value(random),
        .to = random_value(random),
        .term = random_value(random),
        .index = random_value(random),
        .log_term = random_value(random),
        .commit = random_value(random),
        .rejected = random_chance(random, 500),
        .transfer = random_chance(random, 500),
        .uncertain = random_chance(random, 500),
        .reason = (uint32_t)random_below(random, ERROR_COUNT),
        .hint_index = random_value(random),
        .hint_term = random_value(random),
        .context = random_value(random),
        .incarnation = random_value(random),
        .hash_index = random_value(random),
        .apply_hash = random_value(random),
        .lease = random_value(random),
        .ttl_s = (int64_t)random_value(random),
        .granted_ttl_s = (int64_t)random_value(random),
        .timeout_ms = (uint32_t)random_value(random),
    };
    if (message.type == PEER_SNAPSHOT) {
        message.data = bytes_of(data.data, random_below(random, data.size + 1));
        message.offset = random_value(random) >> 1;
        message.total = message.offset + message.data.size + random_below(random, 2) * 100;
    }
    uint32_t count = message.type == PEER_FORWARD  ? 1
                     : message.type == PEER_APPEND ? (uint32_t)random_below(random, 6)
                                                   : 0;
    if (count > 0) message.entries = mem_alloc(count * sizeof(struct entry *));
    for (uint32_t i = 0; i < count; i++) {
        struct entry *entry =
            random_chance(random, 200) && message.type == PEER_APPEND
                ? entry_new(ENTRY_EMPTY, 0)
                : command_put(bytes_of_string("key"), bytes_of(data.data, random_below(random, data.size + 1)), i);
        entry_seal(entry, random_value(random), random_value(random), (uint32_t)random_u64(random));
        message.entries[message.entry_count++] = entry;
    }
    return message;
}

static void assert_same(const struct peer_message *a, const struct peer_message *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->from, b->from);
    assert_int_equal(a->to, b->to);
    assert_int_equal(a->term, b->term);
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->log_term, b->log_term);
    assert_int_equal(a->commit, b->commit);
    assert_int_equal(a->rejected, b->rejected);
    assert_int_equal(a->transfer, b->transfer);
    assert_int_equal(a->uncertain, b->uncertain);
    assert_int_equal(a->reason, b->reason);
    assert_int_equal(a->hint_index, b->hint_index);
    assert_int_equal(a->hint_term, b->hint_term);
    assert_int_equal(a->context, b->context);
    assert_int_equal(a->incarnation, b->incarnation);
    assert_int_equal(a->hash_index, b->hash_index);
    assert_int_equal(a->apply_hash, b->apply_hash);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->total, b->total);
    assert_int_equal(a->lease, b->lease);
    assert_int_equal(a->ttl_s, b->ttl_s);
    assert_int_equal(a->granted_ttl_s, b->granted_ttl_s);
    assert_int_equal(a->timeout_ms, b->timeout_ms);
    assert_true(bytes_equal(a->data, b->data));
    assert_int_equal(a->entry_count, b->entry_count);
    for (uint32_t i = 0; i < a->entry_count; i++) {
        assert_true(bytes_equal(bytes_of(a->entries[i]->record, a->entries[i]->record_bytes),
                                bytes_of(b->entries[i]->record, b->entries[i]->record_bytes)));
    }
}

static void test_messages(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 10);
    uint8_t data[300];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)random_u64(&random);
    uint32_t types = 0;
    for (int round = 0; round < 3000; round++) {
        struct peer_message message = random_message(&random, bytes_of(data, sizeof data));
        types |= 1u << message.type;
        struct buffer out = {0}, copy = {0};
        peer_message_encode(&message, &out);
        struct peer_message decoded;
        memset(&decoded, 0xee, sizeof decoded);
        assert_int_equal(receive(buffer_bytes(&out), &decoded, NULL, &copy), ERR_OK);
        assert_same(&message, &decoded);
        for (uint32_t i = 0; i < decoded.entry_count; i++) assert_int_equal(decoded.entries[i]->refs, 1);
        peer_message_release(&decoded);
        peer_message_release(&message);
        buffer_free(&out);
        buffer_free(&copy);
    }
    assert_int_equal(types, (1u << PEER_MESSAGE_TYPE_END) - 2); /* every type came */
}

/* The fields' numbers and types are a contract with older members: a heartbeat, byte by byte. */
static void test_bytes(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        27,   0,    0,    0, 0, 0, 0, 0, 27, 0, 0, 0, 2, 0, 0, 0, /* size, crc (below), protobuf bytes, kind */
        0x08, 5,                                                  /* type */
        0x11, 1,    0,    0, 0, 0, 0, 0, 0,                       /* from, fixed */
        0x19, 2,    0,    0, 0, 0, 0, 0, 0,                       /* to */
        0x20, 0xac, 0x02,                                         /* term 300 */
        0x28, 1,                                                  /* index */
        0x70, 9,                                                  /* context: 14 */
    };
    struct peer_message message = {.type = PEER_APPEND, .from = 1, .to = 2, .term = 300, .index = 1, .context = 9};
    struct buffer out = {0};
    peer_message_encode(&message, &out);
    assert_int_equal(out.size, sizeof expected);
    assert_int_equal(get_u32(out.data + 4), crc32c(0, expected + 8, sizeof expected - 8));
    put_u32(out.data + 4, 0);
    assert_memory_equal(out.data, expected, sizeof expected);
    buffer_free(&out);
}

static void test_frames_in_a_row(void **state)
{
    (void)state;
    struct buffer out = {0};
    struct peer_greeting greeting = sample_greeting();
    peer_greeting_encode(&greeting, &out);
    for (uint64_t i = 0; i < 10; i++) {
        struct peer_message message = {.type = PEER_VOTE, .term = i, .from = 1};
        peer_message_encode(&message, &out);
    }
    struct bytes rest = buffer_bytes(&out);
    uint64_t count = 0;
    while (rest.size > 0) {
        struct peer_frame frame;
        size_t frame_bytes;
        assert_int_equal(peer_frame_next(rest, &frame, &frame_bytes), ERR_OK);
        assert_int_equal(frame.kind, count == 0 ? PEER_FRAME_GREETING : PEER_FRAME_MESSAGE);
        if (count > 0) {
            struct peer_message message;
            assert_int_equal(peer_message_decode(&frame, &message), ERR_OK);
            assert_int_equal(message.term, count - 1);
        }
        rest = bytes_of(rest.data + frame_bytes, rest.size - frame_bytes);
        count++;
    }
    assert_int_equal(count, 11);
    buffer_free(&out);
}

/* ---- what isn't a frame ---- */

static struct buffer sample_frame(void)
{
    struct entry *entry = command_put(bytes_of_string("key"), bytes_of_string("value"), 0);
    struct peer_message message = {
        .type = PEER_APPEND, .from = 1, .to = 2, .term = 3, .entries = &entry, .entry_count = 1};
    struct buffer out = {0};
    peer_message_encode(&message, &out);
    entry_unref(entry);
    return out;
}

static void test_truncated(void **state)
{
    (void)state;
    struct buffer frame = sample_frame();
    for (size_t size = 0; size <= frame.size; size++) {
        struct buffer copy = {0};
        buffer_append(&copy, frame.data, size);
        struct peer_frame out;
        size_t frame_bytes = 99;
        assert_int_equal(peer_frame_next(buffer_bytes(&copy), &out, &frame_bytes),
                         size < frame.size ? ERR_NOT_READY : ERR_OK);
        assert_int_equal(frame_bytes, size < 8 ? 0 : frame.size);
        buffer_free(&copy);
    }
    buffer_free(&frame);
}

/* Every flipped bit is seen. */
static void test_garbled(void **state)
{
    (void)state;
    struct buffer frame = sample_frame(), copy = {0};
    for (size_t bit = 0; bit < frame.size * 8; bit++) {
        frame.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct peer_message message;
        enum error error = receive(buffer_bytes(&frame), &message, NULL, &copy);
        /* A size that became larger may only mean waiting; whatever comes then doesn't fit the checksum. */
        bool waits = error == ERR_NOT_READY && bit < 32;
        if (error != ERR_BAD_FRAME && !waits) fail_msg("bit %zu: %s", bit, error_code(error));
        frame.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buffer_free(&frame);
    buffer_free(&copy);
}

static void test_other_protocols(void **state)
{
    (void)state;
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n", "\x16\x03\x01\x02",
                                        "SSH-2.0-x\r\n", "\xff\xff\xff\xff"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct peer_frame frame;
        size_t frame_bytes;
        /* Each is told at its fourth byte. */
        assert_int_equal(peer_frame_next(bytes_of(texts[i], 3), &frame, &frame_bytes), ERR_NOT_READY);
        assert_int_equal(peer_frame_next(bytes_of(texts[i], 4), &frame, &frame_bytes), ERR_BAD_FRAME);
        assert_int_equal(peer_frame_next(bytes_of_string(texts[i]), &frame, &frame_bytes), ERR_BAD_FRAME);
    }
}

static void test_headers_refused(void **state)
{
    (void)state;
    static const struct {
        uint32_t content_bytes, protobuf_bytes, kind;
        enum error error;
    } samples[] = {
        {PEER_FRAME_BYTES_MAX, 0, 2, ERR_NOT_READY},
        {PEER_FRAME_BYTES_MAX, PEER_PROTOBUF_BYTES_MAX, 2, ERR_NOT_READY},
        {PEER_FRAME_BYTES_MAX + 1, 0, 2, ERR_BAD_FRAME},
        {UINT32_MAX, 0, 2, ERR_BAD_FRAME},
        {100, 101, 2, ERR_BAD_FRAME},
        {10000, PEER_PROTOBUF_BYTES_MAX + 1, 2, ERR_BAD_FRAME},
        {100, 100, 0, ERR_BAD_FRAME},
        {100, 100, 3, ERR_BAD_FRAME},
        {100, 100, UINT32_MAX, ERR_BAD_FRAME},
        {100, 100, 1, ERR_NOT_READY},
        {100, 99, 1, ERR_BAD_FRAME},
        {PEER_PROTOBUF_BYTES_MAX + 1, PEER_PROTOBUF_BYTES_MAX + 1, 1, ERR_BAD_FRAME},
    };
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        uint8_t header[PEER_FRAME_HEADER_BYTES] = {0};
        put_u32(header, samples[i].content_bytes);
        put_u32(header + 8, samples[i].protobuf_bytes);
        put_u32(header + 12, samples[i].kind);
        struct peer_frame frame;
        size_t frame_bytes;
        enum error error = peer_frame_next(bytes_of(header, sizeof header), &frame, &frame_bytes);
        if (error != samples[i].error) fail_msg("sample %zu: %s", i, error_code(error));
    }
}

static struct bytes message_frame(struct buffer *frame, uint64_t type, uint64_t entry_count, const char *more,
                                  size_t more_size, struct bytes trailer)
{
    struct buffer protobuf = {0};
    buffer_append_byte(&protobuf, 0x08);
    for (; type >= 128; type >>= 7) buffer_append_byte(&protobuf, (uint8_t)(type | 128));
    buffer_append_byte(&protobuf, (uint8_t)type);
    if (entry_count > 0) {
        buffer_append_byte(&protobuf, 0xa0); /* 20, a varint */
        buffer_append_byte(&protobuf, 0x01);
        for (; entry_count >= 128; entry_count >>= 7) buffer_append_byte(&protobuf, (uint8_t)(entry_count | 128));
        buffer_append_byte(&protobuf, (uint8_t)entry_count);
    }
    buffer_append(&protobuf, more, more_size);
    struct bytes bytes = make_frame(frame, PEER_FRAME_MESSAGE, buffer_bytes(&protobuf), trailer);
    buffer_free(&protobuf);
    return bytes;
}

/* Frames that are whole and make no sense. */
static void test_senseless_messages(void **state)
{
    (void)state;
    struct buffer records = {0};
    struct entry *put = command_put(bytes_of_string("k"), bytes_of_string("v"), 0);
    struct entry *empty = entry_new(ENTRY_EMPTY, 0);
    buffer_append(&records, put->record, put->record_bytes);
    buffer_append(&records, put->record, put->record_bytes);
    struct bytes none = bytes_of(NULL, 0), one = bytes_of(records.data, put->record_bytes),
                 two = buffer_bytes(&records);
    struct bytes cut = bytes_of(records.data, put->record_bytes + 31),
                 no_command = bytes_of(empty->record, empty->record_bytes);
    struct buffer bad_type = {0}, too_long = {0};
    buffer_append(&bad_type, put->record, put->record_bytes);
    bad_type.data[24] = 99;
    buffer_append(&too_long, put->record, put->record_bytes);
    put_u32(too_long.data, ENTRY_PAYLOAD_BYTES_MAX + 1);
    const struct {
        uint64_t type, entry_count;
        struct bytes trailer;
        enum error error;
    } samples[] = {
        {PEER_APPEND, 0, none, ERR_OK},
        {PEER_APPEND, 1, one, ERR_OK},
        {PEER_APPEND, 2, two, ERR_OK},
        {PEER_APPEND, 1, no_command, ERR_OK},
        {PEER_APPEND, 0, one, ERR_BAD_FRAME},
        {PEER_APPEND, 1, none, ERR_BAD_FRAME},
        {PEER_APPEND, 1, two, ERR_BAD_FRAME},
        {PEER_APPEND, 2, one, ERR_BAD_FRAME},
        {PEER_APPEND, 2, cut, ERR_BAD_FRAME},
        {PEER_APPEND, 1, cut, ERR_BAD_FRAME},
        {PEER_APPEND, UINT32_MAX, two, ERR_BAD_FRAME},
        {PEER_APPEND, 1, buffer_bytes(&bad_type), ERR_BAD_FRAME},
        {PEER_APPEND, 1, buffer_bytes(&too_long), ERR_BAD_FRAME},
        {PEER_FORWARD, 1, one, ERR_OK},
        {PEER_FORWARD, 0, none, ERR_BAD_FRAME},
        {PEER_FORWARD, 2, two, ERR_BAD_FRAME},
        {PEER_FORWARD, 1, no_command, ERR_BAD_FRAME},
        {PEER_VOTE, 0, none, ERR_OK},
        {PEER_VOTE, 1, one, ERR_BAD_FRAME},
        {PEER_VOTE, 0, one, ERR_BAD_FRAME},
        {PEER_APPEND_REPLY, 1, none, ERR_BAD_FRAME},
        {PEER_SNAPSHOT, 0, none, ERR_OK},
        {PEER_SNAPSHOT, 1, one, ERR_BAD_FRAME},
        {PEER_SNAPSHOT, 0, one, ERR_BAD_FRAME}, /* more than its total, 0 */
        {0, 0, none, ERR_BAD_FRAME},
        {PEER_MESSAGE_TYPE_END - 1, 0, none, ERR_OK},
        {PEER_MESSAGE_TYPE_END, 0, none, ERR_BAD_FRAME},
        {0x7fffffff, 0, none, ERR_BAD_FRAME},
    };
    struct buffer frame = {0}, copy = {0};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        struct bytes bytes = message_frame(&frame, samples[i].type, samples[i].entry_count, "", 0, samples[i].trailer);
        struct peer_message message;
        enum error error = receive(bytes, &message, NULL, &copy);
        if (error != samples[i].error) fail_msg("sample %zu: %s", i, error_code(error));
        if (error == ERR_OK) peer_message_release(&message);
    }

    /* Offsets and totals of a snapshot's chunk; 18 and 19 are varints. */
    static const struct {
        const char *fields;
        size_t size;
        enum error error;
    } chunks[] = {
        {"\x90\x01\x05\x98\x01\x0a", 6, ERR_OK},                                             /* 5 and 10: just fits */
        {"\x90\x01\x06\x98\x01\x0a", 6, ERR_BAD_FRAME},                                      /* 6 and 10 */
        {"\x90\x01\x0b\x98\x01\x0a", 6, ERR_BAD_FRAME},                                      /* begins behind the end */
        {"\x90\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x98\x01\x0a", 15, ERR_BAD_FRAME}, /* 2^64 - 1 */
    };
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        struct bytes bytes =
            message_frame(&frame, PEER_SNAPSHOT, 0, chunks[i].fields, chunks[i].size, bytes_of_string("12345"));
        struct peer_message message;
        assert_int_equal(receive(bytes, &message, NULL, &copy), chunks[i].error);
    }
    /* A reason that is no error; 11 is a varint. */
    struct peer_message message;
    const char reason[2] = {0x58, ERROR_COUNT};
    assert_int_equal(receive(message_frame(&frame, PEER_FORWARD_REPLY, 0, reason, 2, none), &message, NULL, &copy),
                     ERR_BAD_FRAME);
    const char last_reason[2] = {0x58, ERROR_COUNT - 1};
    assert_int_equal(receive(message_frame(&frame, PEER_FORWARD_REPLY, 0, last_reason, 2, none), &message, NULL, &copy),
                     ERR_OK);
    /* Protobuf that is none, and fields that a later version may add. */
    assert_int_equal(receive(message_frame(&frame, PEER_VOTE, 0, "\x20", 1, none), &message, NULL, &copy),
                     ERR_BAD_FRAME);
    assert_int_equal(receive(message_frame(&frame, PEER_VOTE, 0, "\xfa\x07\x02hi", 5, none), &message, NULL, &copy),
                     ERR_OK);

    entry_unref(put);
    entry_unref(empty);
    buffer_free(&bad_type);
    buffer_free(&too_long);
    buffer_free(&records);
    buffer_free(&frame);
    buffer_free(&copy);
}

/* Good checksums over damaged contents: nothing is read beyond its end, nothing leaks. */
static void test_random_contents(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 11);
    uint8_t data[40] = {0};
    int taken = 0;
    for (int round = 0; round < 20000; round++) {
        struct peer_message message = random_message(&random, bytes_of(data, sizeof data));
        struct buffer out = {0}, copy = {0};
        peer_message_encode(&message, &out);
        for (uint64_t i = random_below(&random, 4); i > 0; i--) {
            size_t at = random_between(&random, 16, out.size - 1);
            out.data[at] = (uint8_t)random_u64(&random);
        }
        put_u32(out.data + 4, crc32c(0, out.data + 8, out.size - 8));
        struct peer_message decoded;
        enum error error = receive(buffer_bytes(&out), &decoded, NULL, &copy);
        assert_true(error == ERR_OK || error == ERR_BAD_FRAME);
        if (error == ERR_OK) {
            taken++;
            peer_message_release(&decoded);
        }
        peer_message_release(&message);
        buffer_free(&out);
        buffer_free(&copy);
    }
    assert_in_range(taken, 5000, 19000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greeting),        cmocka_unit_test(test_greeting_refused),
        cmocka_unit_test(test_messages),        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_frames_in_a_row), cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_garbled),         cmocka_unit_test(test_other_protocols),
        cmocka_unit_test(test_headers_refused), cmocka_unit_test(test_senseless_messages),
        cmocka_unit_test(test_random_contents),
    };
    return cmocka_run_group_tests_name("peer_codec", tests, NULL, NULL);
}
