/* What recovery feeds in, before the first event. */
#include "raft/raft.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void write_nothing(struct logger *logger, enum log_level level, const char *event, const char *fields)
{
    (void)logger;
    (void)level;
    (void)event;
    (void)fields;
}

static struct logger silent = {.level = LOG_LEVEL_ERROR, .write = write_nothing};

static struct entry *entry_of(raft_index index, raft_term term, uint32_t chain)
{
    struct entry *entry = entry_new(ENTRY_EMPTY, 0);
    entry_seal(entry, index, term, chain);
    return entry;
}

/* A log can know a later term than the raft state, when that was lost: it is saved once the host carries out saves, and not
   with the effects of applying during recovery, which nobody looks at. */
static void test_a_term_that_only_the_log_knows_is_saved_after_recovery(void **state)
{
    (void)state;
    struct raft_config config = {.self = 1,
                                 .members = {1, 2, 3},
                                 .member_count = 3,
                                 .election_timeout = TIME_NS_PER_S,
                                 .heartbeat_interval = 100 * TIME_NS_PER_MS,
                                 .append_bytes_max = 1 << 20,
                                 .inflight_bytes_max = 1 << 20,
                                 .cache_bytes_max = 1 << 20,
                                 .unapplied_bytes_max = 1 << 20};
    struct raft_boot boot = {.term = 4, .vote = 2};
    struct raft *raft = raft_new(&config, &boot, &silent);
    struct entry *first = entry_of(1, 4, 0);
    uint32_t chain = entry_chain(first);
    raft_recover_entry(raft, first);
    raft_recover_entry(raft, entry_of(2, 6, chain));
    raft_recover_commit(raft, 1);
    struct raft_effects nobody_looks = {0}, effects = {0};
    struct raft_event applied = {.type = RAFT_APPLIED, .index = 1};
    raft_step(raft, &applied, &nobody_looks);
    raft_effects_free(&nobody_looks);
    struct raft_event tick = {.type = RAFT_TICK};
    raft_step(raft, &tick, &effects);
    assert_true(effects.save.number != 0);
    assert_int_equal(effects.save.term, 6);
    assert_int_equal(effects.save.vote, 0);
    raft_effects_free(&effects);
    raft_free(raft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_term_that_only_the_log_knows_is_saved_after_recovery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
