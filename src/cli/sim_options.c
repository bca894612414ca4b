#include "cli/sim_options.h"

#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/cli.h"

#define SEEDS_DEFAULT 100
#define SECONDS_DEFAULT 60
#define TWICE_EVERY_DEFAULT 10
#define TRACE_LIMIT_DEFAULT (64u * 1024 * 1024)
#define SEED_TIMEOUT_DEFAULT_S 900
#define JOBS_MAX 256u

static const char description[] =
    "Runs whole clusters in this process, on simulated disks, networks and clocks, with the code that serves; injects\n"
    "faults, and checks what clients and nodes see. A seed fixes all that happens: cluster, load, faults and their\n"
    "moments. The same seed of the same build gives the same run, so a failure is a seed.\n\n"
    "Exit codes: 0 clean; 1 a mark was not reached (--require-marks), or interrupted; 2 the arguments are wrong;\n"
    "3 a check was violated; 4 a healed cluster was stuck; 5 the program crashed.\n";

static const char examples[] =
    "  coracle sim                                      100 seeds on all cores\n"
    "  coracle sim --seed=17 --trace | less             all that happens in one\n"
    "  coracle sim --seeds=1000 --faults=crashes,disk   only these kinds; -NAME leaves one out\n"
    "  coracle sim --nodes=3 --load=0 --faults=none --defaults --seconds=3600\n"
    "                                                   an idle cluster, for speed\n"
    "  coracle sim --mutant=list                        the bugs that can be put in on purpose\n";

static void append_names(struct buffer *out)
{
    buffer_append_string(out, "\nFaults, by group:\n");
    for (unsigned group = 0; group < SIM_FAULT_GROUP_COUNT; group++) {
        buffer_append_format(out, "  %s:", sim_fault_group_name((enum sim_fault_group)group));
        for (unsigned fault = 0; fault < SIM_FAULT_COUNT; fault++) {
            if (sim_fault_group((enum sim_fault)fault) != (enum sim_fault_group)group) continue;
            buffer_append_format(out, " %s", sim_fault_name((enum sim_fault)fault));
        }
        buffer_append_byte(out, '\n');
    }
    if (!mutant_is_built()) {
        buffer_append_string(out, "\nThis binary has neither marks nor mutants: ./dev sim builds one that has.\n");
    }
}

/* "drawn", or a number within the limits. */
static bool read_drawn(const char *name, const char *text, uint64_t low, uint64_t high, bool *drawn, uint64_t *out,
                       struct buffer *problems)
{
    char *end = NULL;
    *drawn = strcmp(text, "drawn") == 0;
    if (*drawn) return true;
    if (text[0] >= '0' && text[0] <= '9' && strlen(text) < 10) *out = strtoull(text, &end, 10);
    if (end != NULL && *end == '\0' && *out >= low && *out <= high) return true;
    buffer_append_format(problems, "--%s: is neither a number from %llu to %llu nor \"drawn\" (\"%s\")\n", name,
                         (unsigned long long)low, (unsigned long long)high, text);
    return false;
}

static void read_mutant(const char *name, struct sim_options *out, struct buffer *problems)
{
    if (!mutant_is_built()) {
        buffer_append_string(problems, "--mutant: this binary has none; ./dev sim builds one that has\n");
    } else if (strcmp(name, "list") == 0) {
        out->list_mutants = true;
    } else {
        out->mutant = mutant_find(name);
        if (out->mutant != MUTANT_NONE) return;
        buffer_append_format(problems, "--mutant: there is none of that name (\"%s\"); --mutant=list lists them\n",
                             name);
    }
}

static uint64_t read_seed(const char *text, struct buffer *problems)
{
    char *end = NULL;
    uint64_t seed = 0;
    if (text[0] >= '0' && text[0] <= '9' && strlen(text) < 20) seed = strtoull(text, &end, 10);
    if (end == NULL || *end != '\0') buffer_append_format(problems, "--seed: is not a whole number (\"%s\")\n", text);
    return seed;
}

static uint64_t fresh_seed(void)
{
    uint32_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint32_t)getpid();
    /* Few enough digits to be typed; far from those that everybody begins with. */
    return 1000000 + seed;
}

enum options_outcome sim_options_read(int argument_count, char **arguments, struct sim_options *out,
                                      struct buffer *problems, struct buffer *help)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t seconds = SECONDS_DEFAULT, seconds_mean = 0, number = 0;
    const char *seed = NULL, *nodes = "drawn", *load = "drawn", *mutant = NULL;
    bool once = false, twice = false, fresh = false, drawn;
    *out = (struct sim_options){
        .first = 1,
        .seeds = SEEDS_DEFAULT,
        .jobs = cores > 0 && cores < (long)JOBS_MAX ? (uint64_t)cores : 1,
        .twice_every = TWICE_EVERY_DEFAULT,
        .trace_limit_bytes = TRACE_LIMIT_DEFAULT,
        .seed_timeout_s = SEED_TIMEOUT_DEFAULT_S,
        .faults_text = "all",
    };
    const struct option_row rows[] = {
        {"seed", OPTION_TEXT, &seed, "N", "Run this one.", 0, 0},
        {"seeds", OPTION_NUMBER, &out->seeds, "N", "Run so many, one after the other.", 1, 100000000},
        {"first", OPTION_NUMBER, &out->first, "N", "The first of them.", 0, UINT64_MAX / 2},
        {"fresh", OPTION_SWITCH, &fresh, NULL, "Begin at a seed drawn at random; the report names it.", 0, 0},
        {"seed-file", OPTION_TEXT, &out->seed_file, "FILE", "Run the seeds listed there, each with its own settings.",
         0, 0},
        {"seconds", OPTION_NUMBER, &seconds, "N", "Simulated seconds with load and faults, at most.", 0, 100000000},
        {"seconds-mean", OPTION_NUMBER, &seconds_mean, "N", "Draw them from the seed, with this mean.", 1, 10000000},
        {"nodes", OPTION_TEXT, &nodes, "N", "Members of the cluster, 1 to 7; drawn: 1, 3 or 5.", 0, 0},
        {"load", OPTION_TEXT, &load, "N", "Client operations a simulated second; drawn: 0 to 200.", 0, 0},
        {"writes", OPTION_NUMBER, &out->run.writes_max, "N",
         "End load and faults after so many acknowledged writes; 0: no limit.", 0, 0},
        {"faults", OPTION_TEXT, &out->faults_text, "MIX",
         "Kinds of faults that may come: all, none, or names and groups from below.", 0, 0},
        {"defaults", OPTION_SWITCH, &out->run.defaults, NULL,
         "Timeouts and limits of nodes as the program comes, and not drawn.", 0, 0},
        {"jobs", OPTION_NUMBER, &out->jobs, "N", "Processes.", 1, JOBS_MAX},
        {"twice", OPTION_SWITCH, &twice, NULL, "Run each seed twice, and compare the hashes of all that happened.", 0,
         0},
        {"once", OPTION_SWITCH, &once, NULL, "Run none twice; without either, it is every tenth.", 0, 0},
        {"keep-going", OPTION_SWITCH, &out->keep_going, NULL, "Don't stop at the first seed that fails.", 0, 0},
        {"mutant", OPTION_TEXT, &mutant, "NAME", "Put in a bug, to see which check finds it; list: what there is.", 0,
         0},
        {"marks", OPTION_SWITCH, &out->marks, NULL, "List the marks in the code, and how often each was reached.", 0,
         0},
        {"require-marks", OPTION_SWITCH, &out->require_marks, NULL, "Fail when a mark was reached in no seed.", 0, 0},
        {"trace", OPTION_SWITCH, &out->trace, NULL, "Print all that happens, a line each; for one seed.", 0, 0},
        {"trace-limit", OPTION_SIZE, &out->trace_limit_bytes, "BYTES", "How long a printed trace may be.", 1, 0},
        {"state", OPTION_TEXT, &out->state_file, "FILE", "Keep there what is done, and go on from there.", 0, 0},
        {"seed-timeout", OPTION_NUMBER, &out->seed_timeout_s, "SECONDS", "Real time after which a seed is stuck.", 1,
         1000000},
        {"json", OPTION_SWITCH, &out->json, NULL, "The report as JSON.", 0, 0},
        {"quiet", OPTION_SWITCH, &out->quiet, NULL, "No progress; a report only of failures.", 0, 0},
    };
    const struct option_table table = {
        .usage = "coracle sim [flags]",
        .description = description,
        .examples = examples,
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
    };
    size_t positional_count, problems_before = problems->size;
    uint64_t seeds_default = out->seeds, first_default = out->first;
    enum options_outcome outcome =
        options_read(&table, argument_count, arguments, NULL, &positional_count, problems, help);
    if (outcome == OPTIONS_HELP) append_names(help);
    if (outcome == OPTIONS_HELP) return outcome;

    out->one_seed = seed != NULL;
    bool many = out->seeds != seeds_default || out->first != first_default || fresh;
    if (out->one_seed && (many || out->seed_file != NULL)) {
        buffer_append_string(problems,
                             "--seed: is one, and goes with none of --seeds, --first, --fresh, --seed-file\n");
    }
    if (out->seed_file != NULL && many) {
        buffer_append_string(problems,
                             "--seed-file: says which seeds, and goes with none of --seeds, --first, --fresh\n");
    }
    if (fresh) out->first = fresh_seed();
    if (out->one_seed) {
        out->first = read_seed(seed, problems);
        out->seeds = 1;
    }
    if (out->trace && (out->seeds != 1 || out->seed_file != NULL)) {
        buffer_append_string(problems, "--trace: goes with one seed; give --seed\n");
    }
    if (out->trace && out->json) buffer_append_string(problems, "--trace: doesn't go with --json\n");
    if (once && twice) buffer_append_string(problems, "--once: doesn't go with --twice\n");
    if (out->state_file != NULL && (out->seed_file != NULL || out->keep_going || fresh)) {
        buffer_append_string(problems, "--state: goes with none of --seed-file, --keep-going, --fresh\n");
    }
    if (once || out->trace) out->twice_every = 0;
    if (twice) out->twice_every = 1;
    if (read_drawn("nodes", nodes, 1, MEMBERS_MAX, &drawn, &number, problems)) {
        out->run.node_count = drawn ? 0 : (unsigned)number;
    }
    if (read_drawn("load", load, 0, 1000000, &drawn, &number, problems)) {
        out->run.load = drawn ? SIM_LOAD_DRAWN : (uint32_t)number;
    }
    char unknown[64];
    if (!sim_faults_parse(out->faults_text, &out->run.faults, unknown, sizeof unknown)) {
        buffer_append_format(problems, "--faults: \"%s\" is no fault and no group of them; --help lists them\n",
                             unknown);
    }
    if (mutant != NULL) read_mutant(mutant, out, problems);
    if ((out->marks || out->require_marks) && !mark_is_built()) {
        buffer_append_format(problems, "--%s: this binary has no marks; ./dev sim builds one that has\n",
                             out->marks ? "marks" : "require-marks");
    }
    out->run.duration = (time_ns)seconds * TIME_NS_PER_S;
    if (seconds_mean != 0) {
        out->run.duration = (time_ns)seconds_mean * TIME_NS_PER_S;
        out->run.duration_is_mean = true;
    }
    return problems->size == problems_before ? OPTIONS_OK : OPTIONS_BAD;
}

/* The fewest words that give the set: groups, and kinds of groups that aren't whole. */
static void append_faults(sim_fault_set set, struct buffer *out)
{
    if (set == SIM_FAULTS_ALL) return;
    buffer_append_string(out, " --faults=");
    if (set == 0) buffer_append_string(out, "none");
    const char *comma = "";
    for (unsigned group = 0; group < SIM_FAULT_GROUP_COUNT; group++) {
        sim_fault_set whole = sim_fault_group_set((enum sim_fault_group)group);
        bool all = (set & whole) == whole && whole != 0;
        if (all) {
            buffer_append_format(out, "%s%s", comma, sim_fault_group_name((enum sim_fault_group)group));
            comma = ",";
        }
        for (unsigned fault = 0; fault < SIM_FAULT_COUNT && !all; fault++) {
            if (!((set & whole) >> fault & 1)) continue;
            buffer_append_format(out, "%s%s", comma, sim_fault_name((enum sim_fault)fault));
            comma = ",";
        }
    }
}

void sim_options_replay(const struct sim_run_options *run, enum mutant mutant, struct buffer *out)
{
    buffer_append_format(out, "--seed=%llu", (unsigned long long)run->seed);
    unsigned long long seconds = (unsigned long long)(run->duration / TIME_NS_PER_S);
    if (run->duration_is_mean) {
        buffer_append_format(out, " --seconds-mean=%llu", seconds);
    } else if (seconds != SECONDS_DEFAULT) {
        buffer_append_format(out, " --seconds=%llu", seconds);
    }
    if (run->node_count != 0) buffer_append_format(out, " --nodes=%u", run->node_count);
    if (run->load != SIM_LOAD_DRAWN) buffer_append_format(out, " --load=%u", run->load);
    if (run->writes_max != 0) buffer_append_format(out, " --writes=%llu", (unsigned long long)run->writes_max);
    append_faults(run->faults, out);
    if (run->defaults) buffer_append_string(out, " --defaults");
    if (mutant != MUTANT_NONE) buffer_append_format(out, " --mutant=%s", mutant_name(mutant));
}
