#include "replica/lease_queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/random.h"

#define LEASES 500

/* The earliest of those that are in it, without a heap. */
static time_ns earliest(const struct lease *leases)
{
    time_ns first = TIME_NS_NEVER;
    for (int i = 0; i < LEASES; i++) {
        if (lease_queue_has(&leases[i]) && leases[i].deadline < first) first = leases[i].deadline;
    }
    return first;
}

static void assert_first(const struct lease_queue *queue, const struct lease *leases)
{
    lease_queue_verify(queue);
    const struct lease_due *first = lease_queue_first(queue);
    if (first == NULL) {
        assert_true(earliest(leases) == TIME_NS_NEVER);
        return;
    }
    assert_int_equal(first->due, earliest(leases));
    assert_int_equal(first->lease->deadline, first->due);
}

static void test_random(void **state)
{
    (void)state;
    struct lease *leases = mem_alloc_zero(LEASES * sizeof leases[0]);
    struct lease_queue queue = {0};
    struct random random;
    random_seed(&random, 4);
    for (int step = 0; step < 20000; step++) {
        struct lease *lease = &leases[random_below(&random, LEASES)];
        time_ns due = (time_ns)random_below(&random, 300);
        if (!lease_queue_has(lease)) {
            lease->deadline = due;
            lease_queue_add(&queue, lease, due);
        } else if (random_chance(&random, 400)) {
            lease_queue_remove(&queue, lease);
            assert_false(lease_queue_has(lease));
        } else {
            lease->deadline = due;
            lease_queue_move(&queue, lease, due);
            assert_int_equal(lease_queue_due(&queue, lease), due);
        }
        if (step % 50 == 0) assert_first(&queue, leases);
    }
    time_ns last = 0;
    while (lease_queue_first(&queue) != NULL) {
        struct lease_due first = *lease_queue_first(&queue);
        assert_true(first.due >= last);
        last = first.due;
        lease_queue_remove(&queue, first.lease);
    }
    lease_queue_free(&queue);
    mem_free(leases);
}

static void test_filled_at_once(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 5);
    for (uint32_t count = 0; count <= LEASES; count += 1 + count / 3) {
        struct lease *leases = mem_alloc_zero(LEASES * sizeof leases[0]);
        struct lease_queue queue = {0};
        lease_queue_reserve(&queue, count);
        for (uint32_t i = 0; i < count; i++) {
            leases[i].heap_slot = 77; /* of an earlier queue */
            leases[i].deadline = (time_ns)random_below(&random, 100);
            lease_queue_add_unordered(&queue, &leases[i], leases[i].deadline);
        }
        lease_queue_order(&queue);
        assert_first(&queue, leases);
        lease_queue_free(&queue);
        mem_free(leases);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_filled_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
