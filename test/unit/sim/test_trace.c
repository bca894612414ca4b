#define _GNU_SOURCE 1
/* The ring of trace lines, what a text names, and which lines a failure's reader gets. */
#include "sim/sim_trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

static void add_lines(struct sim_trace *trace, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        char line[32];
        int size = snprintf(line, sizeof line, "line %u", i);
        sim_trace_add(trace, line, (size_t)size);
    }
}

static void test_the_ring_keeps_the_newest_whole_lines(void **state)
{
    (void)state;
    for (size_t capacity = 20; capacity < 80; capacity++) {
        struct sim_trace_ring *ring = mem_alloc(sizeof *ring + capacity);
        sim_trace_ring_init(ring, sizeof *ring + capacity);
        struct sim_trace trace = {.ring = ring};
        struct buffer lines = {0}, expected = {0};
        sim_trace_ring_read(ring, &lines);
        assert_int_equal(lines.size, 0);
        add_lines(&trace, 100, 2);
        sim_trace_ring_read(ring, &lines);
        buffer_append_string(&expected, "line 100\nline 101\n");
        assert_int_equal(lines.size, expected.size);
        assert_memory_equal(lines.data, expected.data, expected.size);
        add_lines(&trace, 102, 98);
        buffer_clear(&lines);
        buffer_clear(&expected);
        sim_trace_ring_read(ring, &lines);
        /* A line that fits by one byte has lost the newline before it, by which its beginning is known. */
        for (unsigned i = 200 - (unsigned)((capacity - 1) / 9); i < 200; i++) {
            buffer_append_format(&expected, "line %u\n", i);
        }
        assert_int_equal(lines.size, expected.size);
        assert_memory_equal(lines.data, expected.data, expected.size);
        buffer_free(&lines);
        buffer_free(&expected);
        mem_free(ring);
    }
}

static void test_a_file_gets_no_more_than_its_limit(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    struct sim_trace trace = {.out = open_memstream(&text, &size), .limit_bytes = 25};
    add_lines(&trace, 1, 3);
    assert_false(trace.cut);
    add_lines(&trace, 4, 100);
    assert_true(trace.cut);
    fclose(trace.out);
    assert_string_equal(text, "line 1\nline 2\nline 3\n");
    free(text);
}

static void assert_fact(const struct sim_facts *facts, unsigned i, enum sim_fact_kind kind, uint64_t low, uint64_t high)
{
    assert_true(i < facts->count);
    assert_int_equal(facts->facts[i].kind, kind);
    assert_int_equal(facts->facts[i].low, low);
    assert_int_equal(facts->facts[i].high, high);
}

static void test_facts(void **state)
{
    (void)state;
    struct sim_facts facts;
    sim_facts_of(bytes_of_string("node-3 has index 41 of term=7 committed; entries 5..19, key 6 at revision 12"),
                 &facts);
    assert_int_equal(facts.count, 6);
    assert_fact(&facts, 0, SIM_FACT_NODE, 3, 3);
    assert_fact(&facts, 1, SIM_FACT_INDEX, 41, 41);
    assert_fact(&facts, 2, SIM_FACT_TERM, 7, 7);
    assert_fact(&facts, 3, SIM_FACT_INDEX, 5, 19);
    assert_fact(&facts, 4, SIM_FACT_KEY, 6, 6);
    assert_fact(&facts, 5, SIM_FACT_REVISION, 12, 12);
    sim_facts_of(bytes_of_string("cut from_index=4 last_index=9"), &facts);
    assert_fact(&facts, 0, SIM_FACT_INDEX, 4, 4);
    assert_fact(&facts, 1, SIM_FACT_INDEX, 4, 9);
    sim_facts_of(bytes_of_string("17 is a number, 3.5 too, and index"), &facts);
    assert_int_equal(facts.count, 0);
    sim_facts_of(bytes_of_string(""), &facts);
    assert_int_equal(facts.count, 0);
}

static bool has(const struct buffer *lines, const char *text)
{
    return memmem(lines->data, lines->size, text, strlen(text)) != NULL;
}

static void test_what_matters_is_kept(void **state)
{
    (void)state;
    struct buffer lines = {0}, out = {0};
    buffer_append_string(&lines, "   0.000001 node-2        <- node-1 append entries 7..7\n");
    for (unsigned i = 0; i < 5000; i++) {
        buffer_append_format(&lines, "   1.%06u node-3            <- node-1 append entries %u..%u\n", i, 100 + i,
                             101 + i);
        buffer_append_format(&lines, "   1.%06u client-1  put key %u: done\n", i, i);
    }
    buffer_append_string(&lines, "   2.000001 node-1    became leader term=9\n");
    buffer_append_string(&lines, "   2.000002 node-1    disk: write log 0+4096\n");
    buffer_append_string(&lines, "   2.000003 node-3            disk: write log 0+4096\n");
    sim_trace_narrow(buffer_bytes(&lines), "node-1 has index 7 committed", &out);
    assert_true(has(&out, "   0.000001 node-2        <- node-1 append entries 7..7\n"));
    assert_true(has(&out, "became leader"));
    assert_true(has(&out, "node-1    disk: write"));
    assert_false(has(&out, "node-3            disk: write"));
    assert_false(has(&out, "client-1"));
    buffer_clear(&out);
    size_t count = sim_trace_narrow(buffer_bytes(&lines), "key 4321 has a value that nobody wrote", &out);
    assert_true(has(&out, "put key 4321: done"));
    assert_false(has(&out, "put key 432:"));
    assert_int_equal(count, 2);
    buffer_free(&out);
    buffer_free(&lines);
}

static void test_a_narrowed_trace_has_a_limit_and_keeps_its_order(void **state)
{
    (void)state;
    struct buffer lines = {0}, out = {0};
    for (unsigned i = 0; i < 3000; i++) {
        buffer_append_format(&lines, "   1.%06u node-1    decision about index %u\n", i, i % 3);
        buffer_append_format(&lines, "   1.%06u node-2        disk: sync\n", i);
    }
    assert_int_equal(sim_trace_narrow(buffer_bytes(&lines), "index 1 of node-2", &out), SIM_NARROW_LINES);
    size_t count = 0;
    unsigned last = 0;
    buffer_append_byte(&out, 0);
    for (char *line = strtok((char *)out.data, "\n"); line != NULL; line = strtok(NULL, "\n"), count++) {
        unsigned at;
        assert_int_equal(sscanf(line, " 1.%u", &at), 1);
        assert_true(at >= last);
        last = at;
    }
    assert_int_equal(count, SIM_NARROW_LINES);
    buffer_free(&out);
    buffer_free(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_ring_keeps_the_newest_whole_lines),
        cmocka_unit_test(test_a_file_gets_no_more_than_its_limit),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_what_matters_is_kept),
        cmocka_unit_test(test_a_narrowed_trace_has_a_limit_and_keeps_its_order),
    };
    return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
