/*
 * one_seed - one seed of the simulator, and nothing else: the least program that has it, without a real port in it.
 *
 * For a debugger, and for test/layers/test_link_maps.py, which compares what it links with what the server does.
 * For anything else there is `coracle sim`. Exit codes: 0 clean, 2 usage, 3 a check was violated, 4 stuck.
 */
#include <stdio.h>
#include <stdlib.h>

#include "sim/sim_run.h"

int main(int count, char **arguments)
{
    static struct sim_run_report report;
    struct sim_trace trace = {.out = stdout, .limit_bytes = UINT64_MAX};
    if (count < 2 || count > 3 || arguments[1][0] < '0' || arguments[1][0] > '9') {
        fputs("usage: one_seed SEED [SECONDS], with a trace on stdout\n", stderr);
        return 2;
    }
    struct sim_run_options options = {
        .seed = strtoull(arguments[1], NULL, 10),
        .duration = (count > 2 ? strtoll(arguments[2], NULL, 10) : 60) * TIME_NS_PER_S,
        .load = SIM_LOAD_DRAWN,
        .faults = SIM_FAULTS_ALL,
        .trace = &trace,
    };
    sim_run(&options, NULL, &report);
    printf("%s\n", report.outcome == SIM_RUN_CLEAN ? "clean" : report.text);
    return report.outcome == SIM_RUN_CLEAN ? 0 : report.outcome == SIM_RUN_WRONG ? 3 : 4;
}
