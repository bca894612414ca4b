/*
 * judge.c - what clients of real nodes saw, judged by the simulator's checker (sim/sim_history.h).
 *
 *   chaos_judge < HISTORY
 *
 * HISTORY is one JSON object: {"operations": [{"kind": "put"|"get"|"delete", "outcome": "unknown"|"done"|"nothing",
 * "client": 1, "key": 1, "value": 1, "existed": true, "revision": 1, "sent": 1, "answered": 2, "at": 0.5, "until": 0.7}, …]}
 * as in test/porcupine, with keys and values as numbers, and moments as places in the order of all of them, no two the same; `at` and
 * `until` are seconds, for people. What an answer didn't tell is left out, or 0. Prints the checker's words.
 *
 * Exit code: 0 right, 1 undecided for some key, 2 not a history, 3 violated.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/types.h"
#include "sim/sim_history.h"

enum { RIGHT = 0, UNDECIDED = 1, NO_HISTORY = 2, VIOLATED = 3 };

/* The place of the text in the list, or -1. */
static int place_of(const char *text, const char *const *texts, int count)
{
    for (int i = 0; text != NULL && i < count; i++) {
        if (strcmp(text, texts[i]) == 0) return i;
    }
    return -1;
}

static int64_t integer(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static time_ns seconds(const json_t *object, const char *name)
{
    double value = json_number_value(json_object_get(object, name));
    return value > 0 ? (time_ns)(value * 1e9) : 0;
}

/* In the order of sending. False when the object is no operation. */
static bool add_operation(struct sim_history *history, const json_t *object)
{
    static const char *const kinds[] = {"put", "get", "delete"};
    static const char *const outcomes[] = {"unknown", "done", "nothing"};
    int kind = place_of(json_string_value(json_object_get(object, "kind")), kinds, 3);
    int outcome = place_of(json_string_value(json_object_get(object, "outcome")), outcomes, 3);
    int64_t sent = integer(object, "sent"), answered = integer(object, "answered");
    if (kind < 0 || outcome < 0 || sent <= 0 || (answered <= sent && outcome != SIM_UNKNOWN)) return false;
    uint32_t number =
        sim_history_send(history, (enum sim_operation_kind)kind, (uint32_t)integer(object, "client"),
                         (uint32_t)integer(object, "key"), (uint64_t)integer(object, "value"), seconds(object, "at"));
    struct sim_operation *operation = &history->operations[number];
    operation->sent = (uint64_t)sent;
    operation->outcome = (enum sim_operation_outcome)outcome;
    operation->answered = outcome == SIM_UNKNOWN ? 0 : (uint64_t)answered;
    operation->answered_time = seconds(object, "until");
    operation->revision = integer(object, "revision");
    operation->existed = json_is_true(json_object_get(object, "existed"));
    return true;
}

int main(void)
{
    json_error_t error;
    json_t *root = json_loadf(stdin, 0, &error);
    const json_t *operations = json_object_get(root, "operations");
    if (!json_is_array(operations)) {
        fprintf(stderr, "chaos_judge: %s\n", root == NULL ? error.text : "there are no operations");
        return NO_HISTORY;
    }
    struct sim_history history = {0};
    for (size_t i = 0; i < json_array_size(operations); i++) {
        if (add_operation(&history, json_array_get(operations, i))) continue;
        fprintf(stderr, "chaos_judge: element %zu is no operation\n", i);
        return NO_HISTORY;
    }
    json_decref(root);

    struct sim_verdict verdict;
    sim_history_check(&history, &verdict);
    uint32_t count = history.count;
    sim_history_free(&history);
    if (verdict.violated) {
        printf("%s\n", verdict.text);
        return VIOLATED;
    }
    printf("%" PRIu32 " operations, %" PRIu32 " keys undecided\n", count, verdict.keys_undecided);
    return verdict.keys_undecided == 0 ? RIGHT : UNDECIDED;
}
