/*
 * sim_trace.h - where the lines of a trace go, and which of them a reader of a failure needs.
 *
 * Every line is time, who, text: what a node decided, a message that it sent or got ("->", "<-"), what its disk did ("disk:"),
 * what a client was answered, which fault was injected. A run that is only checked makes no lines at all; since a seed
 * gives the same run again, a failed one is run again with its trace on.
 *
 * Lines go to a file, up to a limit, or into a ring that keeps the newest, which may lie in memory shared with another process
 * and so outlives a crash of this one.
 */
#ifndef CORACLE_SIM_TRACE_H
#define CORACLE_SIM_TRACE_H

#include <stdio.h>

#include "base/bytes.h"

struct sim_trace_ring {
    uint64_t capacity; /* of data */
    uint64_t written;  /* in all; what lies further back than capacity was overwritten */
    char data[];
};

struct sim_trace {
    FILE *out;                   /* NULL: none */
    uint64_t limit_bytes;        /* of out */
    uint64_t bytes;              /* written to out */
    bool cut;                    /* the limit was reached: out has no further lines */
    struct sim_trace_ring *ring; /* NULL: none */
};

/* `line` without its newline. */
void sim_trace_add(struct sim_trace *trace, const char *line, size_t size);

/* Makes a ring of `bytes` of memory, its head included. */
void sim_trace_ring_init(struct sim_trace_ring *ring, size_t bytes);
/* Appends its whole lines, oldest first. */
void sim_trace_ring_read(const struct sim_trace_ring *ring, struct buffer *out);

/* What a text names: "node-2", "index 7", "last_index=7", "entries 5..9", "key 3", "term 4", "revision 8". */
enum sim_fact_kind { SIM_FACT_NODE, SIM_FACT_INDEX, SIM_FACT_KEY, SIM_FACT_TERM, SIM_FACT_REVISION, SIM_FACT_KINDS };
#define SIM_FACTS_MAX 24u
struct sim_facts {
    struct sim_fact {
        enum sim_fact_kind kind;
        uint64_t low, high;
    } facts[SIM_FACTS_MAX];
    unsigned count;
};
void sim_facts_of(struct bytes text, struct sim_facts *out);

/* Lines that a narrowed trace has at most. */
#define SIM_NARROW_LINES 200u

/*
 * Of the lines of a trace, appends the last ones that matter for a violation, whose text is given: first of all those that name
 * an index, key, term or revision that it names; then what nodes decided and which faults there were; then messages and
 * disks of the nodes that it names. Returns how many.
 */
size_t sim_trace_narrow(struct bytes lines, const char *violation, struct buffer *out);

#endif
