#include "sim/sim_trace.h"

#include "base/check.h"
#include "base/mem.h"

/* ---- lines ---- */

static void ring_append(struct sim_trace_ring *ring, const char *data, size_t size)
{
    while (size > 0) {
        size_t at = (size_t)(ring->written % ring->capacity);
        size_t part = size < ring->capacity - at ? size : (size_t)ring->capacity - at;
        memcpy(ring->data + at, data, part);
        ring->written += part;
        data += part;
        size -= part;
    }
}

void sim_trace_add(struct sim_trace *trace, const char *line, size_t size)
{
    if (trace->ring != NULL) {
        ring_append(trace->ring, line, size);
        ring_append(trace->ring, "\n", 1);
    }
    if (trace->out == NULL || trace->cut) return;
    if (trace->bytes + size + 1 > trace->limit_bytes) {
        trace->cut = true;
        return;
    }
    fwrite(line, 1, size, trace->out);
    putc('\n', trace->out);
    trace->bytes += size + 1;
}

void sim_trace_ring_init(struct sim_trace_ring *ring, size_t bytes)
{
    CHECK(bytes > sizeof *ring);
    ring->capacity = bytes - sizeof *ring;
    ring->written = 0;
}

void sim_trace_ring_read(const struct sim_trace_ring *ring, struct buffer *out)
{
    uint64_t from = 0;
    if (ring->written > ring->capacity) {
        /* The oldest line has lost its beginning. */
        from = ring->written - ring->capacity;
        while (from < ring->written && ring->data[from % ring->capacity] != '\n') from++;
        from++;
    }
    while (from < ring->written) {
        size_t at = (size_t)(from % ring->capacity);
        uint64_t left = ring->written - from, room = ring->capacity - at;
        buffer_append(out, ring->data + at, (size_t)(left < room ? left : room));
        from += left < room ? left : room;
    }
}

/* ---- what a text names ---- */

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_letter(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_';
}

static bool ends_with(struct bytes word, const char *end)
{
    size_t size = strlen(end);
    return word.size >= size && memcmp(word.data + word.size - size, end, size) == 0;
}

static uint64_t read_number(struct bytes text, size_t *at)
{
    uint64_t number = 0;
    while (*at < text.size && is_digit(text.data[*at])) number = number * 10 + (uint64_t)(text.data[(*at)++] - '0');
    return number;
}

/* The kind that the word before a number says; SIM_FACT_KINDS: none. */
static enum sim_fact_kind kind_of(struct bytes word)
{
    if (ends_with(word, "index") || ends_with(word, "entries")) return SIM_FACT_INDEX;
    if (ends_with(word, "key")) return SIM_FACT_KEY;
    if (ends_with(word, "term")) return SIM_FACT_TERM;
    if (ends_with(word, "revision")) return SIM_FACT_REVISION;
    return SIM_FACT_KINDS;
}

void sim_facts_of(struct bytes text, struct sim_facts *out)
{
    out->count = 0;
    uint64_t from_index = 0;
    for (size_t i = 1; i < text.size && out->count < SIM_FACTS_MAX;) {
        if (!is_digit(text.data[i]) || is_digit(text.data[i - 1])) {
            i++;
            continue;
        }
        size_t begin = i;
        struct sim_fact fact = {.kind = SIM_FACT_KINDS, .low = read_number(text, &i)};
        fact.high = fact.low;
        uint8_t separator = text.data[begin - 1];
        if (separator == '-' && ends_with(bytes_of(text.data, begin), "node-")) fact.kind = SIM_FACT_NODE;
        if (separator == ' ' || separator == '=') {
            size_t word = begin - 1;
            while (word > 0 && is_letter(text.data[word - 1])) word--;
            struct bytes name = bytes_of(text.data + word, begin - 1 - word);
            fact.kind = kind_of(name);
            if (ends_with(name, "from_index")) from_index = fact.low;
            if (ends_with(name, "last_index") && from_index != 0) fact.low = from_index;
        }
        if (i + 2 < text.size && text.data[i] == '.' && text.data[i + 1] == '.' && is_digit(text.data[i + 2])) {
            i += 2;
            fact.high = read_number(text, &i);
        }
        if (fact.kind != SIM_FACT_KINDS) out->facts[out->count++] = fact;
    }
}

static bool share(const struct sim_facts *a, const struct sim_facts *b, bool nodes)
{
    for (unsigned i = 0; i < a->count; i++) {
        for (unsigned j = 0; j < b->count; j++) {
            const struct sim_fact *one = &a->facts[i], *other = &b->facts[j];
            if (one->kind != other->kind || (one->kind == SIM_FACT_NODE) != nodes) continue;
            if (one->low <= other->high && other->low <= one->high) return true;
        }
    }
    return false;
}

static bool names_more_than_nodes(const struct sim_facts *facts)
{
    for (unsigned i = 0; i < facts->count; i++) {
        if (facts->facts[i].kind != SIM_FACT_NODE) return true;
    }
    return false;
}

/* ---- narrowing ---- */

/* By what a line is there; the lower, the more it matters. */
enum tier { TIER_SUBJECT, TIER_DECISION, TIER_NODE, TIER_NONE };
static const unsigned tier_lines[TIER_NONE] = {100, 60, 40};

struct line {
    struct bytes text;
    enum tier tier;
};

static bool begins_with(struct bytes text, const char *begin)
{
    size_t size = strlen(begin);
    return text.size >= size && memcmp(text.data, begin, size) == 0;
}

static enum tier tier_of(struct bytes line, const struct sim_facts *subject)
{
    struct sim_facts facts;
    sim_facts_of(line, &facts);
    bool by_node = share(subject, &facts, true);
    bool node_is_subject = by_node && !names_more_than_nodes(subject);
    if (share(subject, &facts, false) || node_is_subject) return TIER_SUBJECT;
    /* "  12.345678 node-2    text" */
    struct bytes rest = line;
    while (rest.size > 0 && *rest.data == ' ') rest = bytes_of(rest.data + 1, rest.size - 1);
    while (rest.size > 0 && *rest.data != ' ') rest = bytes_of(rest.data + 1, rest.size - 1);
    while (rest.size > 0 && *rest.data == ' ') rest = bytes_of(rest.data + 1, rest.size - 1);
    bool client = begins_with(rest, "client-");
    while (rest.size > 0 && *rest.data != ' ') rest = bytes_of(rest.data + 1, rest.size - 1);
    while (rest.size > 0 && *rest.data == ' ') rest = bytes_of(rest.data + 1, rest.size - 1);
    if (begins_with(rest, "disk:") || begins_with(rest, "->") || begins_with(rest, "<-")) {
        return by_node ? TIER_NODE : TIER_NONE;
    }
    return client ? TIER_NONE : TIER_DECISION;
}

size_t sim_trace_narrow(struct bytes lines, const char *violation, struct buffer *out)
{
    struct sim_facts subject;
    /* The first line says what; those after it are details, and name more than matters. */
    sim_facts_of(bytes_of(violation, strcspn(violation, "\n")), &subject);
    /* From the end back, until there are enough of each tier. What one tier leaves, the next may use. */
    struct line *kept = mem_alloc(SIM_NARROW_LINES * 4 * sizeof *kept);
    unsigned counts[TIER_NONE] = {0}, limits[TIER_NONE];
    size_t kept_count = 0;
    for (unsigned tier = 0; tier < TIER_NONE; tier++) limits[tier] = SIM_NARROW_LINES;
    size_t end = lines.size;
    while (end > 0) {
        if (lines.data[end - 1] == '\n') end--;
        size_t begin = end;
        while (begin > 0 && lines.data[begin - 1] != '\n') begin--;
        struct bytes text = bytes_of(lines.data + begin, end - begin);
        end = begin;
        enum tier tier = tier_of(text, &subject);
        if (tier == TIER_NONE || counts[tier] == limits[tier]) continue;
        counts[tier]++;
        kept[kept_count++] = (struct line){.text = text, .tier = tier};
    }
    unsigned spare = 0;
    for (unsigned tier = 0; tier < TIER_NONE; tier++) {
        limits[tier] = tier_lines[tier] + spare;
        spare = counts[tier] < limits[tier] ? limits[tier] - counts[tier] : 0;
        counts[tier] = 0;
    }
    size_t chosen = 0;
    for (size_t i = 0; i < kept_count; i++) {
        if (++counts[kept[i].tier] <= limits[kept[i].tier]) kept[chosen++] = kept[i];
    }
    for (size_t i = chosen; i > 0; i--) {
        buffer_append(out, kept[i - 1].text.data, kept[i - 1].text.size);
        buffer_append_byte(out, '\n');
    }
    mem_free(kept);
    return chosen;
}
