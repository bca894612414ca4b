#include "storage/debug_print.h"

#include "base/mem.h"
#include "storage/command_format.h"
#include "storage/log_batch.h"
#include "storage/log_format.h"
#include "storage/log_metadata.h"
#include "storage/raft_state.h"
#include "storage/snapshot.h"

/* Of a longer key the beginning is printed. */
#define KEY_BYTES_SHOWN_MAX 64u

#define HEADER_BLOCKS (LOG_SEGMENT_HEADER_BYTES / LOG_BLOCK_BYTES)

struct debug_print {
    struct debug_print_options options;
    struct buffer *out; /* during a call */
    bool bad;
    uint64_t offset; /* of what isn't yet printed */
    struct buffer fed;

    /* A log. */
    uint64_t written_blocks; /* that aren't all zero, and those of them that have a log's mark */
    uint64_t marked_blocks;
    enum log_block_state run_state; /* of the blocks of one state that were seen last; GOOD: there is no run */
    uint64_t run_offset;
    uint64_t run_blocks;
    bool collecting;
    struct log_block_header batch_header;
    uint64_t batch_offset;
    struct buffer content;
    struct log_batch batch;

    /* A snapshot. */
    struct snapshot_reader *snapshot;
    bool failed;
};

struct debug_print *debug_print_new(const struct debug_print_options *options)
{
    struct debug_print *print = mem_alloc_zero(sizeof *print);
    print->options = *options;
    print->run_state = LOG_BLOCK_GOOD;
    if (options->kind == DEBUG_PRINT_SNAPSHOT) print->snapshot = snapshot_reader_new();
    return print;
}

void debug_print_free(struct debug_print *print)
{
    if (print == NULL) return;
    buffer_free(&print->fed);
    buffer_free(&print->content);
    log_batch_free(&print->batch);
    snapshot_reader_free(print->snapshot);
    mem_free(print);
}

/* ---- Lines ---- */

static void line_begin(struct debug_print *print, const char *name)
{
    buffer_append_string(print->out, print->options.json ? "{\"line\":\"" : "");
    buffer_append_string(print->out, name);
    buffer_append_string(print->out, print->options.json ? "\"" : "");
}

static void line_end(struct debug_print *print)
{
    buffer_append_string(print->out, print->options.json ? "}\n" : "\n");
}

static void field_name(struct debug_print *print, const char *name)
{
    buffer_append_string(print->out, print->options.json ? ",\"" : " ");
    buffer_append_string(print->out, name);
    buffer_append_string(print->out, print->options.json ? "\":" : "=");
}

static void field_number(struct debug_print *print, const char *name, uint64_t value)
{
    field_name(print, name);
    buffer_append_decimal(print->out, value);
}

static void field_bool(struct debug_print *print, const char *name, bool value)
{
    field_name(print, name);
    buffer_append_string(print->out, value ? "true" : "false");
}

/* Identities: as text in JSON too, where numbers of 64 bits don't survive every reader. */
static void field_hex(struct debug_print *print, const char *name, uint64_t value)
{
    field_name(print, name);
    const char *quote = print->options.json ? "\"" : "";
    buffer_append_format(print->out, "%s%016llx%s", quote, (unsigned long long)value, quote);
}

static void field_chain(struct debug_print *print, const char *name, uint32_t value)
{
    field_name(print, name);
    const char *quote = print->options.json ? "\"" : "";
    buffer_append_format(print->out, "%s%08x%s", quote, value, quote);
}

/* What isn't plain ASCII is escaped, so that a damaged file can't send commands to a terminal. */
static void field_bytes(struct debug_print *print, const char *name, struct bytes text)
{
    field_name(print, name);
    buffer_append_byte(print->out, '"');
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '"' || c == '\\') {
            buffer_append_byte(print->out, '\\');
            buffer_append_byte(print->out, c);
        } else if (c < 0x20 || c >= 0x7f) {
            buffer_append_format(print->out, "\\u%04x", c);
        } else {
            buffer_append_byte(print->out, c);
        }
    }
    buffer_append_byte(print->out, '"');
}

static void field_text(struct debug_print *print, const char *name, const char *text)
{
    field_bytes(print, name, bytes_of_string(text));
}

static void print_failure(struct debug_print *print, uint64_t offset, const char *what)
{
    line_begin(print, "damage");
    field_number(print, "offset", offset);
    field_text(print, "what", what);
    line_end(print);
    print->bad = true;
}

/* ---- A log segment ---- */

static const char *entry_type_name(enum entry_type type)
{
    switch (type) {
    case ENTRY_EMPTY:
        return "empty";
    case ENTRY_COMMAND:
        return "command";
    case ENTRY_MEMBERSHIP:
        return "membership";
    }
    return "unknown";
}

static void end_run(struct debug_print *print)
{
    if (print->run_state != LOG_BLOCK_GOOD) {
        line_begin(print, "blocks");
        field_number(print, "offset", print->run_offset);
        field_number(print, "count", print->run_blocks);
        field_text(print, "state", log_block_state_name(print->run_state));
        line_end(print);
        if (print->run_state != LOG_BLOCK_UNTOUCHED) print->bad = true;
    }
    print->run_state = LOG_BLOCK_GOOD;
}

static void extend_run(struct debug_print *print, enum log_block_state state)
{
    if (state != print->run_state) {
        end_run(print);
        print->run_state = state;
        print->run_offset = print->offset;
        print->run_blocks = 0;
    }
    print->run_blocks++;
}

static void print_segment_header(struct debug_print *print, const uint8_t *block)
{
    struct log_segment_header header;
    enum error error = log_segment_header_decode(block, &header);
    line_begin(print, "segment");
    if (error == ERR_OK) {
        field_number(print, "number", header.number);
        field_hex(print, "log_id", header.log_id);
        field_number(print, "size", header.size_bytes);
        field_number(print, "first_index", header.first_index);
        field_number(print, "previous_term", header.previous_term);
        field_chain(print, "previous_chain", header.previous_chain);
        field_number(print, "first_batch", header.first_batch_number);
        if (header.owed) {
            field_number(print, "owed_index", header.owed_index);
            field_number(print, "owed_term", header.owed_term);
            field_bool(print, "owed_extent_known", header.owed_extent_known);
        }
        if (print->options.log_id == 0) print->options.log_id = header.log_id;
        if (print->options.segment_number == 0) print->options.segment_number = header.number;
    } else {
        const char *state = error == ERR_NO_FILE       ? "untouched"
                            : error == ERR_BAD_VERSION ? "newer version"
                            : log_block_is_cut(block)  ? "cut"
                                                       : "damaged";
        field_text(print, "header", state);
        print->bad = print->bad || error != ERR_NO_FILE;
    }
    line_end(print);
}

static void print_incomplete(struct debug_print *print, const char *reason)
{
    const struct log_block_header *header = &print->batch_header;
    line_begin(print, "bad_batch");
    field_number(print, "offset", print->batch_offset);
    field_number(print, "number", header->batch_number);
    field_number(print, "blocks", header->count);
    field_number(print, "last_index", header->last_index);
    field_number(print, "last_term", header->last_term);
    field_text(print, "reason", reason);
    line_end(print);
    print->collecting = false;
    print->bad = true;
}

static const char *command_name(enum command_kind kind)
{
    switch (kind) {
    case COMMAND_PUT:
        return "put";
    case COMMAND_DELETE:
        return "delete";
    case COMMAND_COMPACT:
        return "compact";
    case COMMAND_TXN:
        return "txn";
    case COMMAND_LEASE_GRANT:
        return "lease_grant";
    case COMMAND_LEASE_REVOKE:
        return "lease_revoke";
    case COMMAND_LEASE_CHECKPOINT:
        return "lease_checkpoint";
    }
    return "unknown";
}

/* What the payload says, as fields of the entry's line. */
static void print_command(struct debug_print *print, struct bytes payload)
{
    struct command command;
    enum error error = command_format_decode(payload, &command);
    if (error != ERR_OK) {
        field_text(print, "command", error == ERR_BAD_VERSION ? "of a newer version" : "malformed");
        return;
    }
    field_text(print, "command", command_name(command.kind));
    if (command.kind == COMMAND_COMPACT) {
        field_number(print, "revision", command.argument);
        return;
    }
    if (command.kind == COMMAND_LEASE_GRANT || command.kind == COMMAND_LEASE_REVOKE) {
        field_number(print, "lease", command.argument);
        return;
    }
    if (command.key.size == 0) {
        field_number(print, "bytes", command.value.size);
        return;
    }
    size_t shown = command.key.size < KEY_BYTES_SHOWN_MAX ? command.key.size : KEY_BYTES_SHOWN_MAX;
    field_bytes(print, "key", bytes_of(command.key.data, shown));
    field_number(print, "key_bytes", command.key.size);
    if (command.kind == COMMAND_PUT) field_number(print, "value_bytes", command.value.size);
}

static void print_batch(struct debug_print *print)
{
    struct log_batch *batch = &print->batch;
    const char *reason;
    if (log_batch_parse(batch, buffer_bytes(&print->content), &print->batch_header, &reason) != ERR_OK) {
        print_incomplete(print, reason);
        return;
    }
    print->collecting = false;
    line_begin(print, "batch");
    field_number(print, "offset", print->batch_offset);
    field_number(print, "number", print->batch_header.batch_number);
    field_number(print, "blocks", print->batch_header.count);
    field_number(print, "first_index", batch->first_index);
    field_number(print, "last_index", batch->last_index);
    field_number(print, "last_term", batch->last_term);
    field_number(print, "commit", batch->commit);
    field_number(print, "records", print->content.size - LOG_BATCH_HEADER_BYTES);
    line_end(print);
    for (uint32_t i = 0; print->options.entries && i < batch->entry_count; i++) {
        const struct entry *entry = batch->entries[i];
        line_begin(print, "entry");
        field_number(print, "index", entry_index(entry));
        field_number(print, "term", entry_term(entry));
        field_text(print, "type", entry_type_name(entry_type_of(entry)));
        field_number(print, "payload", entry_payload_bytes(entry).size);
        if (entry_type_of(entry) == ENTRY_COMMAND) print_command(print, entry_payload_bytes(entry));
        field_chain(print, "chain", entry_chain(entry));
        line_end(print);
    }
    log_batch_clear(batch);
}

static void print_block(struct debug_print *print, const uint8_t *block)
{
    if (!log_block_is_zero(block)) print->written_blocks++;
    if (log_block_is_marked(block)) print->marked_blocks++;
    uint64_t number = print->offset / LOG_BLOCK_BYTES;
    if (number == 0) {
        print_segment_header(print, block);
        return;
    }
    struct log_block_header header;
    enum log_block_state state =
        log_block_read(print->options.log_id, print->options.segment_number, (uint32_t)number, block, &header);
    uint64_t start = print->offset - (state == LOG_BLOCK_GOOD ? (uint64_t)header.number * LOG_BLOCK_BYTES : 0);
    bool goes_on = state == LOG_BLOCK_GOOD && print->collecting && start == print->batch_offset &&
                   header.batch_number == print->batch_header.batch_number && header.count == print->batch_header.count;
    if (print->collecting && !goes_on) print_incomplete(print, "a block is missing or bad");
    if (state != LOG_BLOCK_GOOD) {
        /* The header's padding is no news, unless it is bad. */
        if (number >= HEADER_BLOCKS || state != LOG_BLOCK_UNTOUCHED) extend_run(print, state);
        return;
    }
    end_run(print);
    if (!goes_on) {
        print->batch_header = header;
        print->batch_offset = start;
        print->collecting = header.number == 0;
        buffer_clear(&print->content);
        if (!print->collecting) print_incomplete(print, "its blocks before this one are missing or bad");
    }
    if (!print->collecting) return;
    buffer_append(&print->content, block + LOG_BLOCK_CONTENT_OFFSET, header.used_bytes);
    if (header.number + 1 == header.count) print_batch(print);
}

static void feed_log(struct debug_print *print, struct bytes bytes)
{
    buffer_append(&print->fed, bytes.data, bytes.size);
    size_t at = 0;
    for (; print->fed.size - at >= LOG_BLOCK_BYTES; at += LOG_BLOCK_BYTES) {
        print_block(print, print->fed.data + at);
        print->offset += LOG_BLOCK_BYTES;
    }
    buffer_consume(&print->fed, at);
}

static void finish_log(struct debug_print *print)
{
    end_run(print);
    if (print->collecting) print_incomplete(print, "the file ends");
    if (print->fed.size > 0) {
        line_begin(print, "odd_bytes");
        field_number(print, "offset", print->offset);
        field_number(print, "count", print->fed.size);
        line_end(print);
        print->bad = true;
    }
    /* A file of something else may have a mark here and there. */
    bool any_block = print->offset > 0;
    if (!any_block || print->marked_blocks * 2 < print->written_blocks)
        print_failure(print, 0, "this is no segment of a log");
}

/* ---- A snapshot ---- */

static const char *chunk_type_name(enum snapshot_chunk_type type)
{
    switch (type) {
    case SNAPSHOT_CHUNK_HEADER:
        return "header";
    case SNAPSHOT_CHUNK_SESSIONS:
        return "sessions";
    case SNAPSHOT_CHUNK_LEASES:
        return "leases";
    case SNAPSHOT_CHUNK_KEYS:
        return "keys";
    case SNAPSHOT_CHUNK_CONTENT_SCRUB:
        return "content scrub";
    case SNAPSHOT_CHUNK_END:
        return "end";
    }
    return "unknown";
}

static void print_snapshot_header(struct debug_print *print, const struct snapshot_header *header)
{
    line_begin(print, "snapshot");
    field_hex(print, "snapshot_id", header->snapshot_id);
    field_hex(print, "cluster_id", header->cluster_id);
    field_number(print, "index", header->index);
    field_number(print, "term", header->term);
    field_chain(print, "chain", header->chain);
    field_number(print, "revision", (uint64_t)header->revision);
    field_number(print, "compacted_revision", (uint64_t)header->compacted_revision);
    field_hex(print, "apply_hash", header->apply_hash);
    line_end(print);
    for (uint32_t i = 0; i < header->member_count; i++) {
        const struct snapshot_member *member = &header->members[i];
        line_begin(print, "member");
        field_hex(print, "id", member->id);
        field_text(print, "node_id", member->node_id);
        field_text(print, "rpc_address", member->rpc_address);
        field_text(print, "api_address", member->api_address);
        field_bool(print, "learner", member->learner);
        line_end(print);
    }
}

static void feed_snapshot(struct debug_print *print, struct bytes bytes)
{
    const size_t head = SNAPSHOT_CHUNK_HEADER_BYTES + sizeof(uint32_t);
    size_t wanted = head - print->fed.size;
    buffer_append(&print->fed, bytes.data, bytes.size < wanted ? bytes.size : wanted);
    if (print->failed) return;
    snapshot_reader_feed(print->snapshot, bytes);
    for (;;) {
        struct snapshot_chunk chunk;
        enum error error = snapshot_reader_next(print->snapshot, &chunk);
        if (error == ERR_NOT_READY) return;
        if (error != ERR_OK) {
            print_failure(print, snapshot_reader_offset(print->snapshot), snapshot_reader_damage(print->snapshot));
            print->failed = true;
            return;
        }
        if (chunk.type == SNAPSHOT_CHUNK_HEADER) print_snapshot_header(print, snapshot_reader_header(print->snapshot));
        line_begin(print, "chunk");
        field_number(print, "offset", chunk.offset);
        field_text(print, "type", chunk_type_name(chunk.type));
        field_number(print, "payload", chunk.payload.size);
        line_end(print);
    }
}

static void finish_snapshot(struct debug_print *print)
{
    if (!print->failed && print->fed.size > 0 && !snapshot_reader_complete(print->snapshot)) {
        print_failure(print, snapshot_reader_offset(print->snapshot), "the file ends early");
    }
    bool marked = print->fed.size == SNAPSHOT_CHUNK_HEADER_BYTES + sizeof(uint32_t) &&
                  get_u32(print->fed.data + SNAPSHOT_CHUNK_HEADER_BYTES) == SNAPSHOT_MAGIC;
    if (!marked && snapshot_reader_offset(print->snapshot) == 0) print_failure(print, 0, "this is no snapshot");
}

/* ---- Two slots ---- */

/* "node@host:port", each. */
static void print_members(struct debug_print *print, const struct raft_state *state)
{
    if (state->member_count == 0) return;
    struct buffer members = {0};
    for (uint32_t i = 0; i < state->member_count; i++) {
        const struct raft_state_member *member = &state->members[i];
        buffer_append_format(&members, "%s%s@%s:%u", i == 0 ? "" : ",", member->node_id, member->rpc_host,
                             member->rpc_port);
    }
    buffer_append_byte(&members, 0);
    field_text(print, "members", (const char *)members.data);
    buffer_free(&members);
}

static void print_raft_state(struct debug_print *print, const struct raft_state *state)
{
    field_text(print, "node_id", state->node_id);
    field_hex(print, "member", state->member);
    field_hex(print, "cluster_id", state->cluster_id);
    field_hex(print, "founding_nonce", state->founding_nonce);
    field_hex(print, "log_id", state->log_id);
    field_number(print, "term", state->term);
    field_hex(print, "vote", state->vote);
    field_number(print, "incarnation", state->incarnation);
    field_number(print, "no_vote_before_term", state->no_vote_before_term);
    field_bool(print, "catching_up", state->catching_up);
    print_members(print, state);
}

/* False when it isn't even known what stood there. */
static bool print_slot(struct debug_print *print, size_t offset, struct bytes slot)
{
    union {
        struct raft_state raft_state;
        struct log_metadata log_metadata;
        struct snapshot_metadata snapshot_metadata;
    } content;
    uint64_t generation = 0;
    char damage[SLOT_DAMAGE_BYTES];
    uint32_t magic = slot.size >= 8 ? get_u32(slot.data + 4) : 0;
    enum error error;
    const char *kind;
    if (magic == LOG_METADATA_MAGIC) {
        kind = "log metadata";
        error = log_metadata_decode(slot, &content.log_metadata, &generation, damage);
    } else if (magic == SNAPSHOT_METADATA_MAGIC) {
        kind = "snapshot metadata";
        error = snapshot_metadata_decode(slot, &content.snapshot_metadata, &generation, damage);
    } else {
        /* All else is judged as a raft state: what it is, if not good, can't be known. */
        kind = magic == RAFT_STATE_MAGIC ? "raft state" : "unknown";
        error = raft_state_decode(slot, &content.raft_state, &generation, damage);
    }

    line_begin(print, "slot");
    field_number(print, "offset", offset);
    if (error != ERR_OK) {
        field_text(print, "kind", kind);
        field_text(print, "state", error == ERR_NO_FILE ? "empty" : error_code(error));
        print->bad = true;
        line_end(print);
        return magic == LOG_METADATA_MAGIC || magic == SNAPSHOT_METADATA_MAGIC || magic == RAFT_STATE_MAGIC;
    }
    field_text(print, "kind", kind);
    field_text(print, "state", "good");
    field_number(print, "generation", generation);
    if (magic == LOG_METADATA_MAGIC) {
        field_hex(print, "log_id", content.log_metadata.log_id);
        field_number(print, "first_segment", content.log_metadata.first_segment);
        field_number(print, "last_segment", content.log_metadata.last_segment);
        const struct raft_state *identity = &content.log_metadata.identity;
        if (identity->member != 0) {
            field_text(print, "node_id", identity->node_id);
            field_hex(print, "cluster_id", identity->cluster_id);
            print_members(print, identity);
        }
    } else if (magic == SNAPSHOT_METADATA_MAGIC) {
        field_number(print, "epoch", content.snapshot_metadata.epoch);
        field_number(print, "index", content.snapshot_metadata.index);
        field_number(print, "term", content.snapshot_metadata.term);
        field_number(print, "size", content.snapshot_metadata.size_bytes);
        field_hex(print, "snapshot_id", content.snapshot_metadata.snapshot_id);
    } else {
        print_raft_state(print, &content.raft_state);
    }
    line_end(print);
    return true;
}

static void feed_state(struct debug_print *print, struct bytes bytes)
{
    print->offset += bytes.size;
    /* No more than such a file has, whatever is fed. */
    size_t room = SLOT_COUNT * SLOT_BYTES - print->fed.size;
    buffer_append(&print->fed, bytes.data, bytes.size < room ? bytes.size : room);
}

static void finish_state(struct debug_print *print)
{
    bool known = false;
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        size_t offset = i * SLOT_BYTES;
        struct bytes slot = buffer_bytes(&print->fed);
        slot.size = slot.size > offset ? slot.size - offset : 0;
        if (slot.size > SLOT_BYTES) slot.size = SLOT_BYTES;
        if (slot.size > 0) slot.data += offset;
        known = print_slot(print, offset, slot) || known;
    }
    if (!known) print_failure(print, 0, "this is neither a raft state nor metadata of a log or of snapshots");
    if (print->offset > SLOT_COUNT * SLOT_BYTES) {
        print_failure(print, SLOT_COUNT * SLOT_BYTES, "bytes follow the slots");
    }
}

/* ---- The calls ---- */

void debug_print_feed(struct debug_print *print, struct bytes bytes, struct buffer *out)
{
    print->out = out;
    switch (print->options.kind) {
    case DEBUG_PRINT_LOG:
        feed_log(print, bytes);
        break;
    case DEBUG_PRINT_SNAPSHOT:
        feed_snapshot(print, bytes);
        break;
    case DEBUG_PRINT_STATE:
        feed_state(print, bytes);
        break;
    }
    print->out = NULL;
}

bool debug_print_finish(struct debug_print *print, struct buffer *out)
{
    print->out = out;
    switch (print->options.kind) {
    case DEBUG_PRINT_LOG:
        finish_log(print);
        break;
    case DEBUG_PRINT_SNAPSHOT:
        finish_snapshot(print);
        break;
    case DEBUG_PRINT_STATE:
        finish_state(print);
        break;
    }
    print->out = NULL;
    return !print->bad;
}
