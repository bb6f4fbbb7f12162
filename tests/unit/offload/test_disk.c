#include <criterion/criterion.h>
#include <string.h>

#include "offload/disk.h"

Test(disk, writes_and_reads_back_or_says_why_it_cannot)
{
    ag_clock_t clock = ag_clock_monotonic();
    ag_disk_rates_t rates = {0};
    ag_status_t status = ag_disk_measure(".", 3 << 20, &clock, &rates);

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

    cr_assert_eq(ag_disk_measure("/nonexistent", 1 << 20, &clock, &rates), AG_ERR_IO);
    cr_expect_not_null(strstr(ag_error(), "/nonexistent"), "%s", ag_error());
}

Test(disk, a_disk_without_room_is_not_filled)
{
    ag_clock_t clock = ag_clock_monotonic();
    ag_disk_rates_t rates;
    ag_status_t status = ag_disk_measure(".", (uint64_t)1 << 60, &clock, &rates);

    cr_assert(status == AG_ERR_IO || status == AG_ERR_UNSUPPORTED);
    cr_expect(status == AG_ERR_UNSUPPORTED || strstr(ag_error(), "room") != NULL, "%s", ag_error());
}
