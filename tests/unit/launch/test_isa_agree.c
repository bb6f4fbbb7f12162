#include <criterion/criterion.h>
#include <string.h>

#include "launch/isa_agree.h"
#include "turns.h"

enum { MOST_RANKS = 4 };

/* What each rank's machine has, best first. */
typedef struct machines {
    const char *names[MOST_RANKS][4];
    ag_isa_common_t common[MOST_RANKS];
} machines_t;

static bool can_run(void *arg, const char *name)
{
    const char **names = arg;

    for (int i = 0; i < 4 && names[i] != NULL; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static ag_status_t agree(ag_turn_t *turn)
{
    machines_t *machines = turn->arg;
    const char **names = machines->names[turn->net->rank];

    return ag_isa_agree(
        turn->net, &turn->idle,
        &(ag_isa_choice_t){.best = names[0], .can_run = can_run, .arg = (void *)names},
        &machines->common[turn->net->rank]);
}

static void expect_choice(machines_t machines, uint32_t n_ranks, const char *name,
                          const char *missed, int lacking_rank)
{
    ag_status_t statuses[MOST_RANKS];

    ag_turns_run(n_ranks, 1, agree, &machines, statuses);
    for (uint32_t r = 0; r < n_ranks; r++) {
        cr_expect_eq(statuses[r], AG_OK);
        cr_expect_str_eq(machines.common[r].name, name, "rank %u", r);
        cr_expect_str_eq(machines.common[r].missed, missed, "rank %u", r);
        cr_expect(missed[0] == '\0' || machines.common[r].lacking_rank == lacking_rank);
    }
}

#define AVX512                                                                                     \
    {                                                                                              \
        "avx512", "avx2", "base"                                                                   \
    }
#define AVX2                                                                                       \
    {                                                                                              \
        "avx2", "base"                                                                             \
    }
#define NEON                                                                                       \
    {                                                                                              \
        "neon", "base"                                                                             \
    }

Test(isa_agree, all_ranks_compute_with_the_best_that_all_have)
{
    expect_choice((machines_t){.names = {AVX512}}, 1, "avx512", "", 0);
    expect_choice((machines_t){.names = {AVX512, AVX512, AVX512}}, 3, "avx512", "", 0);
    expect_choice((machines_t){.names = {AVX512, AVX2, AVX512}}, 3, "avx2", "avx512", 1);
    expect_choice((machines_t){.names = {AVX2, AVX512}}, 2, "avx2", "avx512", 0);
    expect_choice((machines_t){.names = {AVX512, AVX2, AVX512, {"base"}}}, 4, "base", "avx512", 1);
    expect_choice((machines_t){.names = {AVX512, NEON}}, 2, "base", "avx512", 1);
}
