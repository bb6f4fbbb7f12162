#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "offload/disk.h"

Test(disk, writes_and_reads_back_or_says_why_it_cannot)
{
    ag_clock_t clock = ag_clock_monotonic();
    ag_disk_rates_t rates = {0};
    ag_status_t status = ag_disk_measure(".", 3 << 20, &clock, NULL, &rates);

    if (status == AG_OK) {
        cr_expect_gt(rates.read_bytes_per_s, 0);
        cr_expect_gt(rates.write_bytes_per_s, 0);
    } else { /* a file system without O_DIRECT or O_TMPFILE, a kernel without io_uring */
        cr_expect_eq(status, AG_ERR_UNSUPPORTED, "%s", ag_error());
    }
}

Test(disk, a_folder_that_is_not_there_is_named)
{
    ag_clock_t clock = ag_clock_monotonic();
    ag_disk_rates_t rates;

    cr_assert_eq(ag_disk_measure("/nonexistent", 1 << 20, &clock, NULL, &rates), AG_ERR_IO);
    cr_expect_not_null(strstr(ag_error(), "/nonexistent"), "%s", ag_error());
}

Test(disk, a_disk_without_room_is_not_filled)
{
    ag_clock_t clock = ag_clock_monotonic();
    ag_disk_rates_t rates;
    ag_status_t status = ag_disk_measure(".", (uint64_t)1 << 60, &clock, NULL, &rates);

    cr_assert(status == AG_ERR_IO || status == AG_ERR_UNSUPPORTED);
    cr_expect(status == AG_ERR_UNSUPPORTED || strstr(ag_error(), "room") != NULL, "%s", ag_error());
}

static volatile sig_atomic_t n_signals;

static void count_signal(int number)
{
    (void)number;
    n_signals++;
}

Test(disk, a_signal_is_no_completion)
{
    struct sigaction action = {.sa_handler = count_signal}; /* which ends every wait */
    struct itimerval often = {{.tv_usec = 200}, {.tv_usec = 200}}, never = {0};
    ag_clock_t clock = ag_clock_monotonic();
    ag_disk_rates_t rates;
    ag_status_t status;

    cr_assert_eq(sigaction(SIGALRM, &action, NULL), 0);
    cr_assert_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
    status = ag_disk_measure(".", 48 << 20, &clock, NULL, &rates);
    cr_assert_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
    cr_expect(status == AG_OK || status == AG_ERR_UNSUPPORTED, "%s", ag_error());
}

/* At the third look. */
static bool is_asked(void *arg)
{
    return ++*(int *)arg >= 3;
}

Test(disk, who_is_asked_to_stop_does)
{
    ag_clock_t clock = ag_clock_monotonic();
    int n_looks = 0;
    ag_cancel_t cancel = {.is_asked = is_asked, .arg = &n_looks};
    ag_disk_rates_t rates;
    ag_status_t status = ag_disk_measure(".", 64 << 20, &clock, &cancel, &rates);

    cr_expect(status == AG_ERR_INTERRUPTED || status == AG_ERR_UNSUPPORTED, "%s", ag_error());
    cr_expect(status == AG_ERR_UNSUPPORTED || n_looks == 3);
    cr_expect_neq(ag_disk_check("/nonexistent", 1 << 20), AG_OK);
}
