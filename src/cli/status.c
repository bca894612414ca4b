/*
 * status.c - `coracle status`: the cluster as one of its nodes sees it.
 */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/node_view.h"

static int wider(int width, const char *text)
{
    int size = (int)strlen(text);
    return size > width ? size : width;
}

static void print_members(const struct node_view *view)
{
    int node = (int)strlen("NODE");
    int api = (int)strlen("API");
    for (uint32_t i = 0; i < view->member_count; i++) {
        node = wider(node, view->members[i].node_id);
        api = wider(api, view->members[i].api_address);
    }
    printf("\n%-*s  %-*s  %-8s  %-9s  %s\n", node, "NODE", api, "API", "ROLE", "REACHABLE", "BEHIND");
    for (uint32_t i = 0; i < view->member_count; i++) {
        const struct member_view *member = &view->members[i];
        char behind[32] = "-";
        if (member->match_known) {
            uint64_t entries = view->commit_index > member->match_index ? view->commit_index - member->match_index : 0;
            snprintf(behind, sizeof behind, "%" PRIu64, entries);
        }
        printf("%-*s  %-*s  %-8s  %-9s  %s\n", node, member->node_id, api, member->api_address,
               member->leads ? "leader" : "follower", member->reachable ? "yes" : "no", behind);
    }
}

static int print_status(const struct remote_options *options, const struct remote_answer *answer)
{
    struct node_view view;
    if (!node_view_read(buffer_bytes(&answer->body), &view)) {
        return cli_fail(CLI_FAILED, "the answer of %s can't be read", answer->endpoint);
    }
    if (options->json) {
        json_t *root = node_view_json(buffer_bytes(&answer->body), answer->endpoint);
        char *text = json_dumps(root, 0);
        puts(text);
        free(text);
        json_decref(root);
        return CLI_OK;
    }
    printf("%s (%s): %s\n", view.node_id, answer->endpoint, node_view_health(&view));
    printf("leader    %s\n", view.leader[0] != '\0' ? view.leader : "none known");
    printf("term      %" PRIu64 "\n", view.term);
    printf("committed %" PRIu64 "\n", view.commit_index);
    printf("applied   %" PRIu64 "\n", view.applied_index);
    printf("revision  %" PRIu64 "\n", view.revision);
    print_members(&view);
    return CLI_OK;
}

int status_command(int argument_count, char **arguments)
{
    struct remote_options options = remote_options_default();
    const struct option_row rows[] = {
        REMOTE_ENDPOINTS_ROW(&options),
        REMOTE_TIMEOUT_ROW(&options),
        REMOTE_JSON_ROW(&options),
    };
    const struct option_table table = {
        .usage = "coracle status [flags]",
        .description =
            "Prints the cluster as the first node that answers sees it: who is in it, who leads, who can be\n"
            "reached, and (if that node leads) how many entries the others are behind.\n",
        .examples = "  coracle status\n"
                    "  coracle status --endpoints=10.0.0.1:7777,10.0.0.2:7777 --json\n",
        .environment = REMOTE_ENVIRONMENT_TEXT,
        .rows = rows,
        .row_count = ARRAY_COUNT(rows),
    };
    size_t count;
    enum options_outcome outcome = options_parse(&table, argument_count, arguments, NULL, &count);
    if (outcome != OPTIONS_OK) return options_exit_code(outcome);
    struct remote *remote = remote_new(&options, false);
    if (remote == NULL) return CLI_USAGE;
    struct client_request request = node_view_request(options.timeout_ms);
    struct remote_answer answer = {0};
    remote_call(remote, &request, &answer);
    remote_free(remote);
    bool good = answer.error == ERR_OK && answer.status == 200;
    int exit_code = good ? print_status(&options, &answer) : remote_fail(&options, &answer);
    remote_answer_free(&answer);
    return exit_code;
}
