#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/probe.h"

Test(probe, more_threads_than_memory_holds_are_refused_and_what_would_do_does)
{
    uint64_t available_bytes = (uint64_t)1 << 30;
    const char *remedy;

    cr_expect_eq(ag_probe_check(16, available_bytes), AG_OK);
    cr_assert_eq(ag_probe_check(4096, available_bytes), AG_ERR_BUDGET);
    cr_expect_not_null(strstr(ag_error(), "--threads 4096 takes"), "%s", ag_error());
    remedy = strstr(ag_error(), "give --threads ");
    cr_assert_not_null(remedy, "%s", ag_error());
    cr_expect_eq(
        ag_probe_check((uint32_t)atoi(remedy + strlen("give --threads ")), available_bytes), AG_OK);
}
