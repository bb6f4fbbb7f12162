/* Agreement over MPI, before and after the steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/agree.h"
#include "ranks.h"

static void agree(ag_net_t *net, ag_status_t mine, ag_status_t wanted, int wanted_rank,
                  const char *wanted_error)
{
    int failed_rank = -7;
    ag_status_t status = ag_agree(net, NULL, mine, &failed_rank);

    AG_CHECK(net, status == wanted, "agreed on %s", ag_status_name(status));
    AG_CHECK(net, failed_rank == wanted_rank, "rank %d is said to have failed", failed_rank);
    AG_CHECK(net, wanted == AG_OK || strcmp(ag_error(), wanted_error) == 0, "expected \"%s\"",
             wanted_error);
}

static void the_lowest_failing_rank_is_named(ag_net_t *net)
{
    int last = net->n_ranks - 1;
    char wanted[200];

    agree(net, AG_OK, AG_OK, -1, "");
    snprintf(wanted, sizeof(wanted), "rank %d: the disk of rank %d is full", last, last);
    agree(net, net->rank == last ? ag_fail(AG_ERR_IO, "the disk of rank %d is full", last) : AG_OK,
          AG_ERR_IO, last, wanted);
    agree(net,
          net->rank > 0
              ? ag_fail(net->rank == 1 ? AG_ERR_FORMAT : AG_ERR_IO, "file %d is odd", net->rank)
              : AG_OK,
          AG_ERR_FORMAT, 1, "rank 1: file 1 is odd");
    agree(net, AG_OK, AG_OK, -1, "");
}

/* Alike: nobody is named. In other words, or with another status: the first is. */
static void all_failing_alike_name_nobody(ag_net_t *net)
{
    agree(net, ag_fail(AG_ERR_INVALID, "--tp 9 is too much"), AG_ERR_INVALID, 0,
          "--tp 9 is too much");
    agree(net, ag_fail(AG_ERR_INVALID, "value %d", net->rank), AG_ERR_INVALID, 0,
          "rank 0: value 0");
    agree(net, ag_fail(net->rank == 0 ? AG_ERR_IO : AG_ERR_FORMAT, "no luck"), AG_ERR_IO, 0,
          "rank 0: no luck");
}

static void everybody_has_everybodys_items(ag_net_t *net)
{
    static const size_t item_sizes[] = {1, 8, 3000, 200000};

    for (size_t i = 0; i < sizeof(item_sizes) / sizeof(item_sizes[0]); i++) {
        size_t n_bytes = item_sizes[i];
        unsigned char *items = calloc((size_t)net->n_ranks, n_bytes), *wanted = malloc(n_bytes);

        AG_CHECK(net, items != NULL && wanted != NULL, "no memory");
        ag_ranks_fill(items + (size_t)net->rank * n_bytes, n_bytes, net->rank, (uint32_t)i);
        AG_CHECK(net, ag_agree_gather(net, NULL, items, n_bytes) == AG_OK, "gathering");
        for (int r = 0; r < net->n_ranks; r++) {
            ag_ranks_fill(wanted, n_bytes, r, (uint32_t)i);
            AG_CHECK(net, memcmp(items + (size_t)r * n_bytes, wanted, n_bytes) == 0,
                     "the item of rank %d, %zu bytes", r, n_bytes);
        }
        for (int root = 0; root < net->n_ranks; root++) {
            ag_ranks_fill(wanted, n_bytes, root, 99);
            if (net->rank == root) {
                memcpy(items, wanted, n_bytes);
            }
            AG_CHECK(net, ag_agree_broadcast(net, NULL, root, items, n_bytes) == AG_OK, "telling");
            AG_CHECK(net, memcmp(items, wanted, n_bytes) == 0, "what rank %d told, %zu bytes", root,
                     n_bytes);
        }
        free(items);
        free(wanted);
    }
}

static const ag_rank_case_t cases[] = {
    {"the_lowest_failing_rank_is_named", the_lowest_failing_rank_is_named},
    {"all_failing_alike_name_nobody", all_failing_alike_name_nobody},
    {"everybody_has_everybodys_items", everybody_has_everybodys_items},
};

int main(int argc, char **argv)
{
    return ag_ranks_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
