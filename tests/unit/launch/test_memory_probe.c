#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "launch/memory_probe.h"

static ag_pass_rates_t rates;

static void add(size_t n_bytes, double seconds, bool alone)
{
    ag_pass_rates_add(&rates,
                      &(ag_probe_pass_t){.n_bytes = n_bytes, .seconds = seconds, .alone = alone});
}

Test(memory_probe, passes_that_others_disturbed_do_not_count)
{
    add(100, 1, true);
    add(1, 1, false);
    add(102, 1, true);
    add(1, 1, false);
    add(2, 1, false);
    cr_expect_eq(ag_pass_rates_median(&rates), 0, "two are too few");
    add(90, 1, true);
    cr_expect_eq(ag_pass_rates_median(&rates), 100);
    add(110, 1, true);
    cr_expect_eq(ag_pass_rates_median(&rates), 101);
    cr_expect_eq(rates.n_alone, 4);
    cr_expect_eq(rates.n_disturbed, 3);
}

Test(memory_probe, a_pass_over_nothing_is_none)
{
    add(0, 1, true);
    add(1, 0, true);
    cr_expect_eq(rates.n_alone + rates.n_disturbed, 0);
}

Test(memory_probe, of_many_passes_the_last_are_kept)
{
    for (int i = 0; i < 3 * AG_MAX_KEPT_PASSES; i++) {
        add(i < 2 * AG_MAX_KEPT_PASSES ? 1 : 7, 1, true);
    }
    cr_expect_eq(ag_pass_rates_median(&rates), 7);
}

Test(memory_probe, a_pass_tells_of_the_bytes_that_it_read)
{
    enum { PAGE = 4096, N_THREADS = 3 };
    unsigned char *bytes = aligned_alloc(PAGE, 64 * PAGE);
    ag_team_t *team;

    memset(bytes, 1, 64 * PAGE);
    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = N_THREADS}, &team), AG_OK);
    cr_expect_eq(ag_probe_read_pass(team, bytes, 64 * PAGE, 2).n_bytes, 63 * PAGE);
    cr_expect_eq(ag_probe_read_pass(team, bytes, 5 * PAGE, 1).n_bytes, 3 * PAGE);
    cr_expect_eq(ag_probe_read_pass(team, bytes, 2 * PAGE, 1).n_bytes, 0);
    ag_team_destroy(team);
    free(bytes);
}
