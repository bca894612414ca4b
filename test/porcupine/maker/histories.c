/*
 * porcupine_histories - random histories and what the simulator's checker says of them, a line of JSON each, for another checker to
 * say the same (../main_test.go).
 *
 *     porcupine_histories COUNT FIRST_SEED
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../unit/sim/history_maker.h"
#include "sim/sim_history.h"

/* What kind of history a seed makes: of one key with unknown outcomes, or of several whose writes' order is known. */
static struct history_maker maker_of(uint64_t seed)
{
    bool known = seed % 3 == 0;
    return (struct history_maker){
        .keys = known ? 1 + (unsigned)(seed / 3 % 5) : 1,
        .clients = 2 + (unsigned)(seed / 2 % 6),
        .operations = 8 + (unsigned)(seed / 5 % 40),
        .unknown_per_mille = seed % 2 == 0 ? 60 : 0,
        .refused_per_mille = seed % 7 == 0 ? 100 : 0,
        .tells = seed % 5 < 2,
        .order_known = known,
        .mistake = seed % 4 != 0,
    };
}

static void print_operation(const struct sim_operation *operation)
{
    static const char *const kinds[] = {"put", "get", "delete"}, *const outcomes[] = {"unknown", "done", "nothing"};
    printf("{\"kind\":\"%s\",\"outcome\":\"%s\",\"key\":%" PRIu32 ",\"value\":%" PRIu64 ",\"existed\":%s,"
           "\"revision\":%" PRId64 ",\"mod\":%" PRId64 ",\"create\":%" PRId64 ",\"version\":%" PRId64
           ",\"sent\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"client\":%" PRIu32 "}",
           kinds[operation->kind], outcomes[operation->outcome], operation->key, operation->value,
           operation->existed ? "true" : "false", operation->revision, operation->mod_revision,
           operation->create_revision, operation->version, operation->sent, operation->answered, operation->client);
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fputs("usage: porcupine_histories COUNT FIRST_SEED\n", stderr);
        return 2;
    }
    uint64_t histories = strtoull(arguments[1], NULL, 10), first = strtoull(arguments[2], NULL, 10);
    for (uint64_t seed = first; seed < first + histories; seed++) {
        struct history_maker maker = maker_of(seed);
        struct random random;
        random_seed(&random, seed);
        struct sim_history history = {0};
        history_make(&maker, &random, &history);
        struct sim_verdict verdict;
        sim_history_check(&history, &verdict);
        printf("{\"seed\":%" PRIu64 ",\"mistake\":%s,\"right\":%s,\"undecided\":%" PRIu32 ",\"operations\":[", seed,
               maker.mistake ? "true" : "false", verdict.violated ? "false" : "true", verdict.keys_undecided);
        for (uint32_t i = 0; i < history.count; i++) {
            if (i > 0) putchar(',');
            print_operation(&history.operations[i]);
        }
        puts("]}");
        sim_history_free(&history);
    }
    return 0;
}
