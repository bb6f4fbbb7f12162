#include "runtime/mem/ledger.h"
#include "runtime/mem/region.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const uint64_t MIB = 1 << 20;

static ag_ledger_t *create(uint64_t budget_bytes)
{
    ag_ledger_t *ledger = NULL;

    cr_assert_eq(ag_ledger_create(budget_bytes, &ledger), AG_OK);
    return ledger;
}

static void expect_entry(const ag_ledger_t *ledger, size_t i, const char *part, uint64_t bytes)
{
    size_t n_entries;
    const ag_ledger_entry_t *entries = ag_ledger_entries(ledger, &n_entries);

    cr_assert_lt(i, n_entries);
    cr_expect_str_eq(entries[i].part, part);
    cr_expect_eq(entries[i].bytes, bytes);
}

Test(ledger, entries_of_one_name_are_summed_and_the_largest_comes_first)
{
    ag_ledger_t *ledger = create(0);
    size_t n_entries;

    cr_assert_eq(ag_ledger_take(ledger, "kv cache", 30), AG_OK);
    cr_assert_eq(ag_ledger_take(ledger, "weights", 20), AG_OK);
    cr_assert_eq(ag_ledger_take(ledger, "activations", 10), AG_OK);
    expect_entry(ledger, 0, "kv cache", 30);
    cr_assert_eq(ag_ledger_take(ledger, "weights", 15), AG_OK);
    ag_ledger_entries(ledger, &n_entries);
    cr_expect_eq(n_entries, 3);
    expect_entry(ledger, 0, "weights", 35);
    expect_entry(ledger, 1, "kv cache", 30);
    expect_entry(ledger, 2, "activations", 10);
    cr_expect_eq(ag_ledger_total(ledger), 75);
    ag_ledger_destroy(ledger);
}

Test(ledger, what_is_given_back_can_be_taken_again)
{
    ag_ledger_t *ledger = create(100);

    cr_assert_eq(ag_ledger_take(ledger, "a", 100), AG_OK);
    cr_expect_eq(ag_ledger_take(ledger, "b", 1), AG_ERR_BUDGET);
    ag_ledger_give(ledger, "a", 60);
    cr_expect_eq(ag_ledger_total(ledger), 40);
    cr_expect_eq(ag_ledger_take(ledger, "b", 60), AG_OK);
    expect_entry(ledger, 0, "b", 60);
    expect_entry(ledger, 1, "a", 40);
    ag_ledger_give(ledger, "never taken", 5);
    cr_expect_eq(ag_ledger_total(ledger), 100);
    ag_ledger_destroy(ledger);
}

Test(ledger, the_budget_is_a_bound_that_may_be_met)
{
    ag_ledger_t *ledger = create(100);

    cr_expect_eq(ag_ledger_budget(ledger), 100);
    cr_expect_eq(ag_ledger_take(ledger, "a", 99), AG_OK);
    cr_expect_eq(ag_ledger_take(ledger, "a", 1), AG_OK);
    cr_expect_eq(ag_ledger_take(ledger, "a", 0), AG_OK);
    cr_expect_eq(ag_ledger_take(ledger, "a", 1), AG_ERR_BUDGET);
    ag_ledger_destroy(ledger);
}

Test(ledger, beyond_the_budget_the_error_names_the_largest_parts_and_nothing_changes)
{
    ag_ledger_t *ledger = create(100 * MIB);
    size_t n_entries;

    cr_assert_eq(ag_ledger_take(ledger, "smallest", 1 * MIB), AG_OK);
    cr_assert_eq(ag_ledger_take(ledger, "weights", 50 * MIB), AG_OK);
    cr_assert_eq(ag_ledger_take(ledger, "kv cache", 30 * MIB), AG_OK);
    cr_assert_eq(ag_ledger_take(ledger, "activations", 9 * MIB), AG_OK);
    cr_assert_eq(ag_ledger_take(ledger, "messages", 20 * MIB), AG_ERR_BUDGET);
    cr_expect_str_eq(ag_error(),
                     "20.0 MiB for messages go beyond the budget of 100.0 MiB, of which are taken: "
                     "weights 50.0 MiB, kv cache 30.0 MiB, activations 9.0 MiB");
    cr_expect_eq(ag_ledger_total(ledger), 90 * MIB);
    ag_ledger_entries(ledger, &n_entries);
    cr_expect_eq(n_entries, 4);
    cr_expect_eq(ag_ledger_take(ledger, "weights", 20 * MIB), AG_ERR_BUDGET);
    expect_entry(ledger, 0, "weights", 50 * MIB);
    ag_ledger_destroy(ledger);
}

Test(ledger, sums_do_not_overflow)
{
    ag_ledger_t *ledger = create(0);
    ag_ledger_t *bound = create(100);

    cr_assert_eq(ag_ledger_take(ledger, "a", UINT64_MAX), AG_OK);
    cr_expect_eq(ag_ledger_take(ledger, "b", 1), AG_ERR_BUDGET);
    cr_assert_eq(ag_ledger_take(bound, "a", 50), AG_OK);
    cr_expect_eq(ag_ledger_take(bound, "a", UINT64_MAX), AG_ERR_BUDGET);
    cr_expect_eq(ag_ledger_total(bound), 50);
    ag_ledger_destroy(ledger);
    ag_ledger_destroy(bound);
    ag_ledger_destroy(NULL);
}

Test(ledger, a_name_that_is_cut_is_still_found)
{
    static const char name[] = "a part whose name is longer than the entry has room for";
    ag_ledger_t *ledger = create(0);
    size_t n_entries;

    cr_assert_eq(ag_ledger_take(ledger, name, 3), AG_OK);
    cr_assert_eq(ag_ledger_take(ledger, name, 4), AG_OK);
    ag_ledger_entries(ledger, &n_entries);
    cr_expect_eq(n_entries, 1);
    ag_ledger_give(ledger, name, 7);
    cr_expect_eq(ag_ledger_total(ledger), 0);
    ag_ledger_destroy(ledger);
}

static void expect_page_aligned_zeros(const ag_region_t *region, size_t bytes)
{
    const unsigned char *byte = region->base;

    cr_expect_eq(region->bytes, bytes);
    cr_expect_eq((uintptr_t)region->base % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    for (size_t i = 0; i < bytes; i++) {
        cr_assert_eq(byte[i], 0);
    }
}

Test(region, is_zeroed_page_aligned_and_in_the_ledger_as_long_as_it_is_mapped)
{
    static const ag_region_opts_t interleaved = {.interleave = true};
    const ag_region_opts_t *opts[] = {NULL, &interleaved};
    ag_ledger_t *ledger = create(0);

    for (size_t i = 0; i < 2; i++) {
        ag_region_t region;
        unsigned char resident[64];
        void *base;

        cr_assert_eq(ag_region_map(ledger, "weights", 100001, opts[i], &region), AG_OK);
        expect_page_aligned_zeros(&region, 100001);
        memset(region.base, 7, region.bytes);
        expect_entry(ledger, 0, "weights", 100001);
        base = region.base;
        cr_expect_eq(mincore(base, region.bytes, resident), 0);
        ag_region_unmap(&region);
        cr_expect(mincore(base, 1, resident) != 0 && errno == ENOMEM, "still mapped");
        cr_expect_eq(ag_ledger_total(ledger), 0);
        cr_expect_null(region.base);
    }
    ag_ledger_destroy(ledger);
}

Test(region, of_no_bytes_has_no_base)
{
    ag_ledger_t *ledger = create(1);
    ag_region_t region, never_mapped = {0};

    cr_assert_eq(ag_region_map(ledger, "none", 0, NULL, &region), AG_OK);
    cr_expect_null(region.base);
    ag_region_unmap(&region);
    ag_region_unmap(&region);
    ag_region_unmap(&never_mapped);
    ag_ledger_destroy(ledger);
}

Test(region, beyond_the_budget_nothing_is_mapped)
{
    ag_ledger_t *ledger = create(MIB);
    ag_region_t region = {.part = "as it was"};

    cr_expect_eq(ag_region_map(ledger, "weights", MIB + 1, NULL, &region), AG_ERR_BUDGET);
    cr_expect_str_eq(region.part, "as it was");
    cr_expect_eq(ag_ledger_total(ledger), 0);
    ag_ledger_destroy(ledger);
}

Test(region, what_the_system_refuses_leaves_the_ledger)
{
    ag_ledger_t *ledger = create(0);
    ag_region_t region;

    cr_expect_eq(ag_region_map(ledger, "the whole address space, which nobody has been given",
                               SIZE_MAX / 2, NULL, &region),
                 AG_ERR_NOMEM);
    cr_expect_not_null(strstr(ag_error(), "the whole address space"));
    cr_expect_eq(ag_ledger_total(ledger), 0);
    ag_ledger_destroy(ledger);
}
