/*
 * watch_internal.h - what the files of the watch registry share.
 */
#ifndef CORACLE_STORE_WATCH_INTERNAL_H
#define CORACLE_STORE_WATCH_INTERNAL_H

#include "store/watch.h"

#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* What the allocator is assumed to add to an allocation, in watch_memory_bytes. */
#define WATCH_ALLOCATION_OVERHEAD_BYTES 16u

/* ---- lists: a ring, where a link that heads one isn't a member; a link in no ring is alone ---- */

static inline void watch_link_init(struct watch_link *link)
{
    link->previous = link;
    link->next = link;
}

static inline bool watch_link_is_alone(const struct watch_link *link)
{
    return link->next == link;
}

static inline void watch_link_remove(struct watch_link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    watch_link_init(link);
}

/* At the end of the ring that `head` heads. The link mustn't be in any. */
static inline void watch_link_append(struct watch_link *head, struct watch_link *link)
{
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

/* Moves all members of `from` to the end of `to`. */
static inline void watch_link_splice(struct watch_link *to, struct watch_link *from)
{
    if (watch_link_is_alone(from)) return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    watch_link_init(from);
}

#endif
