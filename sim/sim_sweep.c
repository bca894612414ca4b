#include "sim/sim_sweep.h"

#define SETTLE_WITHIN (60 * TIME_NS_PER_S)

const struct sim_sweep *const sim_sweeps[] = {
    &sim_sweep_torn_one,
    &sim_sweep_torn_all,
    &sim_sweep_torn_sectors,
    &sim_sweep_torn_segment,
    &sim_sweep_flip_log,
    &sim_sweep_flip_log_metadata,
    &sim_sweep_flip_state,
    &sim_sweep_flip_snapshot,
    &sim_sweep_flip_snapshot_metadata,
    &sim_sweep_flip_both,
    &sim_sweep_flip_leader_dies,
    &sim_sweep_flip_everywhere,
    &sim_sweep_flip_large,
    &sim_sweep_error_change,
    &sim_sweep_error_look,
    &sim_sweep_crash_one,
    &sim_sweep_crash_all,
    &sim_sweep_kill,
    NULL, // the end
};

void sim_sweep_recovers(struct sim_script *script, struct sim_sweep_case *one)
{
    (void)one;
    sim_script_start_all(script);
    if (!sim_script_settle(script, true, SETTLE_WITHIN)) {
        if (script->cluster.checker.violated) {
            sim_script_wrong(script, "%s", script->cluster.checker.text);
        } else {
            sim_script_wrong(script, "the nodes didn't come to agree");
        }
        return;
    }
    unsigned ask = (unsigned)(one->number % script->cluster.node_count);
    sim_script_ask(script, ask, false);
    if (!sim_script_put(script, script->key_count, 20))
        sim_script_wrong(script, "the cluster that recovered takes no write");
    if (!sim_script_settle(script, true, SETTLE_WITHIN))
        sim_script_wrong(script, "the nodes didn't come to agree again");
    sim_script_check(script);
}

void sim_sweep_done(struct sim_script *script, struct sim_sweep_case *one)
{
    for (unsigned i = 0; i < script->cluster.node_count; i++) {
        one->noticed |= script->said[i].size > 0 || script->ended[i] > 0;
    }
    size_t at = (size_t)snprintf(one->text, sizeof one->text, "%s", script->text);
    for (unsigned i = 0; at > 0 && i < script->cluster.node_count && at < sizeof one->text; i++) {
        at += (size_t)snprintf(one->text + at, sizeof one->text - at, "\n  node-%u said: %.*s%s", i + 1,
                               (int)(script->said[i].size < 300 ? script->said[i].size : 300),
                               script->said[i].size == 0 ? "" : (const char *)script->said[i].data,
                               script->ended[i] > 0 ? script->end_text[i] : "");
    }
    sim_script_end(script);
}
