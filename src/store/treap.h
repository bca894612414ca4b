/*
 * treap.h - an intrusive ordered tree, balanced by random priorities.
 *
 * The links live in what they order, which the caller owns; nothing is allocated. The order is the caller's compare
 * function; two equal links must not be in one tree. Whoever searches follows `left` and `right` itself.
 *
 * A caller that keeps something about whole subtrees in its nodes (the greatest end of an interval, say) gives an `update`
 * function, which is called for each link whose subtree changed, children first.
 *
 * Priorities are the caller's: drawn from a seed that clients don't know, they make the expected depth about
 * 2 × log2(n) for any order of insertion. The recursion is as deep as the tree. The order of the links doesn't depend on them.
 */
#ifndef CORACLE_STORE_TREAP_H
#define CORACLE_STORE_TREAP_H

#include <stdint.h>

struct treap_link {
    struct treap_link *left;
    struct treap_link *right;
    uint32_t priority;
};

struct treap_order {
    /* Below, at or above 0, as `a` comes before, is, or comes after `b`. */
    int (*compare)(const struct treap_link *a, const struct treap_link *b);
    void (*update)(struct treap_link *link); /* may be NULL */
};

void treap_insert(struct treap_link **root, struct treap_link *link, const struct treap_order *order);
/* The link must be in the tree. */
void treap_remove(struct treap_link **root, struct treap_link *link, const struct treap_order *order);

#endif
