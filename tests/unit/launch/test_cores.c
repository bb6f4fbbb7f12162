#define _GNU_SOURCE
#include "launch/cores.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <string.h>

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

static cpu_set_t cores_now(void)
{
    cpu_set_t cores;

    cr_assert_eq(sched_getaffinity(0, sizeof(cores), &cores), 0);
    return cores;
}

static void expect_cores(const cpu_set_t *cores)
{
    cpu_set_t now = cores_now();

    cr_expect(CPU_EQUAL(cores, &now));
}

Test(cores, ranks_whose_messages_are_timed_are_each_on_a_core_alone)
{
    const cpu_set_t all = cores_now();
    ag_host_t host = {.n_local = 2};
    cpu_set_t first, second;
    ag_cores_t before;

    memcpy(&host.cores, &all, sizeof(all));
    for (host.local_rank = 0; host.local_rank < 2; host.local_rank++) {
        ag_cores_stand_apart(&host, &before);
        *(host.local_rank == 0 ? &first : &second) = cores_now();
        ag_cores_go_back(&before);
        expect_cores(&all);
    }
    if (CPU_COUNT(&all) > 1) {
        CPU_AND(&first, &first, &second);
        cr_expect_eq(CPU_COUNT(&second), 1);
        cr_expect_eq(CPU_COUNT(&first), 0);
    } else {
        cr_expect(CPU_EQUAL(&first, &all), "ranks that outnumber cores go where there is room");
    }
    host.local_rank = 0;
    if (CPU_COUNT(&all) > 1) { /* bound to one of two: it may not leave it */
        sched_setaffinity(0, sizeof(second), &second);
        ag_cores_stand_apart(&host, &before);
        expect_cores(&second);
        ag_cores_go_back(&before);
        sched_setaffinity(0, sizeof(all), &all);
    }
    host.n_local = 1;
    ag_cores_stand_apart(&host, &before);
    expect_cores(&all); /* a rank alone needs none of its own */
    ag_cores_go_back(&before);
}
