/* The first ranks of a net work among themselves, and then all of them together. */
#include <criterion/criterion.h>

#include "comm/net_first.h"
#include "turns.h"

enum { N_RANKS = 5 };

static ag_status_t work(ag_turn_t *turn)
{
    uint32_t n_first = *(const uint32_t *)turn->arg;
    uint32_t rank = (uint32_t)turn->net->rank, items[N_RANKS];
    ag_status_t status = AG_OK;
    ag_net_t *first;

    for (int round = 0; round < 3 && status == AG_OK; round++) {
        if (rank < n_first) {
            cr_assert_eq(ag_net_first_create(turn->net, n_first, &first), AG_OK);
            cr_assert(first->rank == turn->net->rank && first->n_ranks == (int)n_first);
            items[rank] = rank + 10;
            status = ag_agree_gather(first, &turn->idle, items, sizeof(*items));
            for (uint32_t r = 0; r < n_first && status == AG_OK; r++) {
                cr_expect_eq(items[r], r + 10);
            }
            ag_net_close(first);
        } else {
            cr_expect_eq(ag_net_first_create(turn->net, n_first, &first), AG_ERR_INVALID);
        }
        items[rank] = rank;
        if (status == AG_OK) {
            status = ag_agree_gather(turn->net, &turn->idle, items, sizeof(*items));
        }
        for (uint32_t r = 0; r < N_RANKS && status == AG_OK; r++) {
            cr_expect_eq(items[r], r);
        }
    }
    return status;
}

Test(net_first, ranks_outside_of_it_are_not_needed_and_not_disturbed)
{
    for (uint32_t n_first = 1; n_first <= N_RANKS; n_first++) {
        for (uint64_t seed = 0; seed < 20; seed++) {
            ag_status_t statuses[N_RANKS];

            ag_turns_run(N_RANKS, seed, work, &n_first, statuses);
            for (int r = 0; r < N_RANKS; r++) {
                cr_expect_eq(statuses[r], AG_OK, "%u of %d, rank %d", n_first, N_RANKS, r);
            }
        }
    }
}

static ag_status_t ask_for_more(ag_turn_t *turn)
{
    ag_net_t *first;

    return ag_net_first_create(turn->net, N_RANKS, &first);
}

Test(net_first, a_net_has_no_more_ranks_than_it_has)
{
    ag_status_t statuses[2];

    ag_turns_run(2, 1, ask_for_more, NULL, statuses);
    cr_expect(statuses[0] == AG_ERR_INVALID && statuses[1] == AG_ERR_INVALID);
}
