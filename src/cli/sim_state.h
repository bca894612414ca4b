/*
 * sim_state.h - what a long simulation has done so far, in a file, so that it goes on where it was interrupted.
 *
 *     coracle-sim-state 1
 *     options --first=1 --seeds=100000 …
 *     commit 0123abcd
 *     finished 5000
 *     events 123…
 *
 * All seeds before `finished` (counted from the first) were clean; the figures are theirs. The file is replaced as a whole.
 */
#ifndef CORACLE_CLI_SIM_STATE_H
#define CORACLE_CLI_SIM_STATE_H

#include "cli/sim_report.h"

#define SIM_STATE_VERSION 1

/*
 * Reads the file, if there is one, into *finished and *totals. False, with a line in `problems`: it can't be read, is of another
 * version, or of a simulation with other options.
 */
bool sim_state_read(const char *file, const char *options, uint64_t *finished, struct sim_totals *totals,
                    struct buffer *problems);
/* False: errno says why. */
bool sim_state_write(const char *file, const char *options, uint64_t finished, const struct sim_totals *totals);

#endif
