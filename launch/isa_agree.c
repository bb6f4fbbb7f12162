#include "launch/isa_agree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef char name_t[AG_ISA_NAME_BYTES];

/*
 * The first name that every rank can run.
 * @param bests  (ranks).
 * @param can    (ranks, ranks): rank r can run the best of rank c.
 */
static ag_isa_common_t choose(const name_t *bests, const bool *can, int n_ranks)
{
    ag_isa_common_t common = {.name = "base"};
    bool found = false;

    for (int c = 0; c < n_ranks; c++) {
        int lacking = 0;

        while (lacking < n_ranks && can[lacking * n_ranks + c]) {
            lacking++;
        }
        if (lacking < n_ranks && common.missed[0] == '\0') {
            memcpy(common.missed, bests[c], sizeof(name_t));
            common.lacking_rank = lacking;
        } else if (lacking == n_ranks && !found) {
            memcpy(common.name, bests[c], sizeof(name_t));
            found = true;
        }
    }
    return common;
}

ag_status_t ag_isa_agree(ag_net_t *net, const ag_idle_t *idle, const ag_isa_choice_t *choice,
                         ag_isa_common_t *common)
{
    size_t n_ranks = (size_t)net->n_ranks;
    name_t *bests = calloc(n_ranks, sizeof(*bests));
    bool *can = calloc(n_ranks * n_ranks, sizeof(*can));
    ag_status_t status = bests == NULL || can == NULL
                             ? ag_fail_nomem("choosing an instruction set", n_ranks * n_ranks)
                             : AG_OK;

    status = ag_agree(net, idle, status, NULL);
    if (status == AG_OK) {
        snprintf(bests[net->rank], AG_ISA_NAME_BYTES, "%s", choice->best);
        status = ag_agree_gather(net, idle, bests, sizeof(*bests));
    }
    for (size_t c = 0; c < n_ranks && status == AG_OK; c++) {
        can[(size_t)net->rank * n_ranks + c] = choice->can_run(choice->arg, bests[c]);
    }
    if (status == AG_OK) {
        status = ag_agree_gather(net, idle, can, n_ranks * sizeof(*can));
    }
    if (status == AG_OK) {
        *common = choose((const name_t *)bests, can, net->n_ranks);
    }
    free(bests);
    free(can);
    return status;
}
