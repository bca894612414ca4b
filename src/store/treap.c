#include "store/treap.h"

#include "base/check.h"

#include <stddef.h>

static void updated(struct treap_link *link, const struct treap_order *order)
{
    if (order->update) order->update(link);
}

/* Parts the tree into what comes before `at` and what comes after; `at` isn't in it. */
static void split(struct treap_link *root, const struct treap_link *at, struct treap_link **before,
                  struct treap_link **after, const struct treap_order *order)
{
    if (!root) {
        *before = NULL;
        *after = NULL;
        return;
    }
    int compared = order->compare(at, root);
    CHECK(compared != 0);
    if (compared < 0) {
        split(root->left, at, before, &root->left, order);
        *after = root;
    } else {
        split(root->right, at, &root->right, after, order);
        *before = root;
    }
    updated(root, order);
}

/* All of `before` comes before all of `after`. */
static struct treap_link *join(struct treap_link *before, struct treap_link *after, const struct treap_order *order)
{
    if (!before) return after;
    if (!after) return before;
    if (before->priority > after->priority) {
        before->right = join(before->right, after, order);
        updated(before, order);
        return before;
    }
    after->left = join(before, after->left, order);
    updated(after, order);
    return after;
}

void treap_insert(struct treap_link **root, struct treap_link *link, const struct treap_order *order)
{
    if (!*root || link->priority > (*root)->priority) {
        split(*root, link, &link->left, &link->right, order);
        *root = link;
        updated(link, order);
        return;
    }
    int compared = order->compare(link, *root);
    CHECK(compared != 0);
    treap_insert(compared < 0 ? &(*root)->left : &(*root)->right, link, order);
    updated(*root, order);
}

void treap_remove(struct treap_link **root, struct treap_link *link, const struct treap_order *order)
{
    CHECK(*root);
    if (*root == link) {
        *root = join(link->left, link->right, order);
        return;
    }
    treap_remove(order->compare(link, *root) < 0 ? &(*root)->left : &(*root)->right, link, order);
    updated(*root, order);
}
