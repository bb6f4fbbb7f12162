#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_files.h"
#include "runtime/file/aside.h"
#include "runtime/file/extent_priv.h"
#include "runtime/file/input_priv.h"
#include "runtime/file/names_priv.h"
#include "runtime/file/pile_priv.h"

Test(input, bytes_come_in_order_whatever_the_sizes_asked_for)
{
    static const size_t sizes[] = {1,
                                   8,
                                   0,
                                   1000,
                                   AG_INPUT_WINDOW_BYTES,
                                   3,
                                   2 * AG_INPUT_WINDOW_BYTES + 1,
                                   AG_INPUT_WINDOW_BYTES - 1};
    enum { N_BYTES = 1 << 20 };
    ag_array_t bytes = AG_ARRAY(unsigned char);
    unsigned char *taken = malloc(N_BYTES);
    size_t n_taken = 0;
    memory_file_t file;
    ag_input_t input;

    put_zeros(&bytes, N_BYTES);
    for (size_t i = 0; i < N_BYTES; i++) {
        ((unsigned char *)bytes.items)[i] = (unsigned char)(i * 2654435761u >> 24);
    }
    memory_file_open(&file, &bytes);
    cr_assert_eq(ag_input_open(&input, file.path), AG_OK);
    for (size_t i = 0; n_taken < N_BYTES; i++) {
        size_t n = sizes[i % (sizeof(sizes) / sizeof(*sizes))];

        n = n < N_BYTES - n_taken ? n : N_BYTES - n_taken;
        cr_assert_eq(ag_input_take(&input, taken + n_taken, n), AG_OK);
        n_taken += n;
    }
    cr_expect_eq(memcmp(taken, bytes.items, N_BYTES), 0);
    cr_expect_eq(ag_input_left_bytes(&input), 0);
    ag_input_name_part(&input, "the end");
    cr_expect_eq(ag_input_take(&input, taken, 1), AG_ERR_FORMAT);
    cr_expect(error_says(file.path, "the end", "1 bytes", "1048576", NULL));
    ag_input_close(&input);
    memory_file_close(&file);
    free(taken);
    ag_array_fini(&bytes);
}

Test(names, a_name_is_found_and_no_other)
{
    enum { N_NAMES = 3000 };
    static char texts[N_NAMES][16];
    ag_names_t names = {0};

    cr_expect_eq(ag_names_find(&names, "n0"), AG_NAME_ABSENT);
    for (size_t i = 0; i < N_NAMES; i++) {
        snprintf(texts[i], sizeof(texts[i]), "n%zu", i);
        cr_assert_eq(ag_names_add(&names, texts[i], i), AG_OK);
    }
    for (size_t i = 0; i < N_NAMES; i++) {
        cr_assert_eq(ag_names_find(&names, texts[i]), i);
    }
    cr_expect_eq(ag_names_find(&names, "n3000"), AG_NAME_ABSENT);
    cr_expect_eq(ag_names_find(&names, ""), AG_NAME_ABSENT);
    ag_names_fini(&names);
}

Test(names, a_usable_name_is_one_line_of_text)
{
    char many[AG_NAME_MAX_BYTES + 1];

    memset(many, 'x', sizeof(many));
    cr_expect(ag_name_usable("blk.0.attn_q.weight", 19));
    cr_expect(ag_name_usable("h\xc3\xa9", 3));
    cr_expect(ag_name_usable(many, AG_NAME_MAX_BYTES));
    cr_expect_not(ag_name_usable(many, AG_NAME_MAX_BYTES + 1));
    cr_expect_not(ag_name_usable("", 0));
    cr_expect_not(ag_name_usable("a\0b", 3));
    cr_expect_not(ag_name_usable("a\x1b[2J", 5));
    cr_expect_not(ag_name_usable("a\x7f", 2));
    cr_expect_not(ag_name_usable("\xff", 1));
}

Test(pile, what_was_taken_stays_where_it_is)
{
    enum { N_ITEMS = 500 };
    static uint64_t *items[N_ITEMS];
    ag_pile_t pile = ag_pile_empty("a file", 64 << 20);
    const char *text = NULL;

    for (size_t i = 0; i < N_ITEMS; i++) {
        size_t n = 1 + i * i % 5000; /* some get a chunk of their own */

        cr_assert_eq(ag_pile_text(&pile, "odd", 1 + i % 3, &text), AG_OK);
        cr_assert_eq(strlen(text), 1 + i % 3);
        cr_assert_eq(ag_pile_take(&pile, n * sizeof(uint64_t), true, &items[i]), AG_OK);
        cr_assert_eq((uintptr_t)items[i] % sizeof(uint64_t), 0);
        items[i][0] = i;
        items[i][n - 1] = i;
    }
    for (size_t i = 0; i < N_ITEMS; i++) {
        cr_assert_eq(items[i][0], i);
        cr_assert_eq(items[i][i * i % 5000], i);
    }
    ag_pile_fini(&pile);
}

Test(pile, more_than_its_limit_is_refused_by_the_name_of_the_file)
{
    ag_pile_t pile = ag_pile_empty("a file", 100);
    void *bytes = NULL;

    cr_expect_eq(ag_pile_take(&pile, 60, false, &bytes), AG_OK);
    cr_expect_eq(ag_pile_take(&pile, 41, false, &bytes), AG_ERR_FORMAT);
    cr_expect(error_says("a file", NULL));
    cr_expect_eq(ag_pile_take(&pile, 40, false, &bytes), AG_OK);
    ag_pile_fini(&pile);
}

Test(extents, empty_tensors_share_no_bytes)
{
    ag_extent_t apart[] = {{"c", 16, 8}, {"a", 0, 8}, {"b", 8, 8}, {"e", 4, 0}};
    ag_extent_t shared[] = {{"a", 0, 8}, {"e", 4, 0}, {"b", 7, 8}};

    cr_expect_eq(ag_extents_check("a file", apart, 4), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_extents_check("a file", shared, 3), AG_ERR_FORMAT);
    cr_expect(error_says("a file", "'a'", "'b'", NULL));
    cr_expect_eq(ag_extents_check("a file", NULL, 0), AG_OK);
}

Test(aside, a_file_may_be_written_by_two_at_once)
{
    ag_aside_t *one, *other;
    scratch_t scratch;
    char text[8] = "";
    FILE *file;

    scratch_open(&scratch);
    cr_assert_eq(ag_aside_open(scratch_path(&scratch, "f"), &one), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_aside_open(scratch_path(&scratch, "f"), &other), AG_OK, "%s", ag_error());
    fputs("one", ag_aside_stream(one));
    fputs("other", ag_aside_stream(other));
    cr_expect_eq(ag_aside_complete(other), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_aside_complete(one), AG_OK, "%s", ag_error());
    cr_expect_eq(scratch_count(&scratch), 1);
    file = fopen(scratch_path(&scratch, "f"), "rb");
    cr_assert_not_null(file);
    cr_expect_eq(fread(text, 1, sizeof(text), file), 3);
    cr_expect_str_eq(text, "one");
    fclose(file);
    scratch_close(&scratch);
}
