#include "runtime/base/array.h"
#include "runtime/base/ring.h"

#include <criterion/criterion.h>
#include <stdint.h>

Test(array, items_stay_in_order_as_it_grows)
{
    ag_array_t array = AG_ARRAY(uint32_t);

    for (uint32_t i = 0; i < 1000; i++) {
        cr_assert_eq(ag_array_append(&array, &i, 1), AG_OK);
    }
    cr_expect_eq(array.n_items, 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        cr_assert_eq(AG_ITEMS(&array, uint32_t)[i], i);
    }
    ag_array_fini(&array);
}

Test(array, several_items_come_at_once_and_none_is_allowed)
{
    ag_array_t array = AG_ARRAY(char);

    cr_assert_eq(ag_array_append(&array, NULL, 0), AG_OK);
    cr_expect_null(array.items);
    cr_assert_eq(ag_array_append(&array, "a long enough text", 18), AG_OK);
    cr_assert_eq(ag_array_append(&array, NULL, 3), AG_OK);
    cr_expect_eq(array.n_items, 21);
    cr_expect_arr_eq(array.items, "a long enough text\0\0\0", 21);
    ag_array_fini(&array);
}

Test(array, it_is_usable_again_after_fini)
{
    ag_array_t array = AG_ARRAY(uint64_t);
    uint64_t item = 5;

    cr_assert_eq(ag_array_append(&array, &item, 1), AG_OK);
    ag_array_fini(&array);
    cr_expect_eq(array.n_items, 0);
    cr_assert_eq(ag_array_append(&array, &item, 1), AG_OK);
    cr_expect_eq(AG_ITEMS(&array, uint64_t)[0], 5);
    ag_array_fini(&array);
}

Test(array, a_size_that_overflows_is_refused_and_changes_nothing)
{
    ag_array_t array = AG_ARRAY(uint64_t);
    uint64_t item = 5;

    cr_assert_eq(ag_array_append(&array, &item, 1), AG_OK);
    cr_expect_eq(ag_array_append(&array, NULL, SIZE_MAX), AG_ERR_NOMEM);
    cr_expect_eq(ag_array_append(&array, NULL, SIZE_MAX - 1), AG_ERR_NOMEM);
    cr_expect_eq(ag_array_append(&array, NULL, SIZE_MAX / 8), AG_ERR_NOMEM);
    cr_expect_eq(array.n_items, 1);
    cr_expect_eq(AG_ITEMS(&array, uint64_t)[0], 5);
    ag_array_fini(&array);
}

static void push(ag_ring_t *ring, uint32_t value)
{
    *(uint32_t *)ag_ring_push(ring) = value;
}

static uint32_t at(const ag_ring_t *ring, size_t i)
{
    return *(const uint32_t *)ag_ring_at(ring, i);
}

Test(ring, holds_what_was_pushed_until_it_is_full)
{
    ag_ring_t ring;

    cr_assert_eq(ag_ring_init(&ring, sizeof(uint32_t), 4), AG_OK);
    cr_expect_eq(ag_ring_size(&ring), 0);
    for (uint32_t i = 0; i < 4; i++) {
        push(&ring, 10 + i);
        cr_expect_eq(ag_ring_size(&ring), i + 1);
        cr_expect_eq(at(&ring, 0), 10);
        cr_expect_eq(at(&ring, i), 10 + i);
    }
    ag_ring_fini(&ring);
}

Test(ring, overwrites_the_oldest)
{
    ag_ring_t ring;

    cr_assert_eq(ag_ring_init(&ring, sizeof(uint32_t), 4), AG_OK);
    for (uint32_t i = 0; i < 11; i++) {
        push(&ring, i);
    }
    cr_expect_eq(ring.n_pushed, 11);
    cr_expect_eq(ag_ring_size(&ring), 4);
    for (uint32_t i = 0; i < 4; i++) {
        cr_expect_eq(at(&ring, i), 7 + i);
    }
    ag_ring_fini(&ring);
}

Test(ring, capacity_is_rounded_up_to_a_power_of_two)
{
    ag_ring_t ring;

    cr_assert_eq(ag_ring_init(&ring, 1, 5), AG_OK);
    cr_expect_eq(ring.capacity, 8);
    ag_ring_fini(&ring);
    cr_assert_eq(ag_ring_init(&ring, 1, 0), AG_OK);
    cr_expect_eq(ring.capacity, 1);
    ag_ring_fini(&ring);
}

Test(ring, a_size_that_overflows_is_refused)
{
    ag_ring_t ring;

    cr_expect_eq(ag_ring_init(&ring, 64, SIZE_MAX / 2), AG_ERR_NOMEM);
}
