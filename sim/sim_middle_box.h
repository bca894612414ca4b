/*
 * sim_middle_box.h - something between two members that meddles with whole frames of the peer protocol: it drops, duplicates,
 * delays and swaps them, and makes a node's greeting say that it speaks other versions.
 *
 * TCP doesn't do that, and consensus must bear it all the same: messages mustn't rely on the order of their sending, nor on all
 * of them arriving. One box stands in one direction of one connection; it keeps what isn't a whole frame yet, and what it
 * holds back. Nothing is lost by itself: what the rules let pass comes out in order, at once.
 */
#ifndef CORACLE_SIM_MIDDLE_BOX_H
#define CORACLE_SIM_MIDDLE_BOX_H

#include "base/bytes.h"
#include "base/random.h"
#include "base/types.h"
#include "replica/peer_codec.h"

/* Which frames the rules are for: with a load, of entries or of a snapshot; or without: heartbeats, answers, votes. Or all of a
   leader's appends, heartbeats among them. */
enum sim_box_frames { SIM_BOX_ALL, SIM_BOX_LOADED, SIM_BOX_BARE, SIM_BOX_APPENDS };

/* Per mille of the frames, each drawn by itself, in this order. All zero: everything passes. */
struct sim_box_rules {
    enum sim_box_frames frames;
    unsigned drop;
    unsigned duplicate; /* at once, or one of the two held */
    unsigned hold;      /* for a time from hold_min to hold_max, while others pass */
    unsigned swap;      /* with the frame that comes next */
    time_ns hold_min, hold_max;
    bool greetings_too;                /* else these pass */
    uint32_t version_min, version_max; /* that greetings say; 0: as they are */
};

struct sim_box_counters {
    uint64_t frames, dropped, duplicated, held, swapped, greetings_changed;
};

struct sim_box;

struct sim_box *sim_box_new(void);
void sim_box_free(struct sim_box *box);

/* Bytes come in; what passes is appended to `out`. */
void sim_box_take(struct sim_box *box, const struct sim_box_rules *rules, struct random *random, time_ns now,
                  struct bytes bytes, struct buffer *out, struct sim_box_counters *counters);
/* When what is held must be released next; TIME_NS_NEVER: nothing is held for a time. */
time_ns sim_box_deadline(const struct sim_box *box);
/* What is due comes out; with `all`, everything. */
void sim_box_release(struct sim_box *box, time_ns now, bool all, struct buffer *out);

#endif
