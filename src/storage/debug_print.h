/*
 * debug_print.h - a storage file's contents as text, for `coracle debug log|snapshot|state FILE`.
 *
 * Bytes are fed as they come, so a file of any size is printed with little memory. Each finding is one line, as
 *
 *     batch offset=4096 number=1 blocks=3 first_index=1 last_index=4 last_term=1 commit=0 records=812
 *
 * or, as JSON lines, {"line":"batch","offset":4096,…} with the same names. What is damaged is printed as such, and
 * doesn't end the printing where the rest can still be made out.
 */
#ifndef CORACLE_STORAGE_DEBUG_PRINT_H
#define CORACLE_STORAGE_DEBUG_PRINT_H

#include "base/bytes.h"

enum debug_print_kind {
    DEBUG_PRINT_LOG,      /* a log segment */
    DEBUG_PRINT_SNAPSHOT, /* a snapshot */
    DEBUG_PRINT_STATE,    /* a file of two slots: raft state, log metadata, snapshot metadata */
};

struct debug_print_options {
    enum debug_print_kind kind;
    bool json;
    bool entries; /* of a log: a line for each entry too, with its command, the beginning of its key and sizes */
    /* Of a log: what its header says, unless given here (not 0) since the header is damaged. */
    uint64_t log_id;
    uint64_t segment_number;
};

struct debug_print;

struct debug_print *debug_print_new(const struct debug_print_options *options);
void debug_print_free(struct debug_print *print);

/* The file's next bytes (borrowed). Appends whole lines to `out`, which the caller may empty in between. */
void debug_print_feed(struct debug_print *print, struct bytes bytes, struct buffer *out);

/* The end of the file. True when all of it was good; a torn end isn't. */
bool debug_print_finish(struct debug_print *print, struct buffer *out);

#endif
