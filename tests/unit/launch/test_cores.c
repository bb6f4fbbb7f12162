#include "launch/cores.h"

#include <criterion/criterion.h>

Test(cores, ranks_of_one_machine_stand_on_cores_of_their_own)
{
    static const int own[] = {0, 2, 4, 8, 9, 10, 11};
    static const uint32_t n_threads[] = {3, 1, 3};
    int n_on[12] = {0};
    uint32_t before = 0;

    for (int rank = 0; rank < 3; rank++) {
        int cores[3];

        ag_cores_pick(own, 7, before, n_threads[rank], cores);
        for (uint32_t i = 0; i < n_threads[rank]; i++) {
            n_on[cores[i]]++;
        }
        before += n_threads[rank];
    }
    for (int i = 0; i < 7; i++) {
        cr_expect_eq(n_on[own[i]], 1, "core %d", own[i]);
    }
}

Test(cores, more_threads_than_cores_go_around)
{
    static const int own[] = {5, 7};
    int cores[5];

    ag_cores_pick(own, 2, 3, 5, cores);
    cr_expect_eq(cores[0], 7);
    cr_expect_eq(cores[1], 5);
    cr_expect_eq(cores[4], 7);
}
