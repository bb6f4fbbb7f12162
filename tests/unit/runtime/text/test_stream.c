/* Text as it is made. */
#include <criterion/criterion.h>
#include <string.h>

#include "runtime/text/stream.h"

/* Push the parts, each of which must add what stands beside it; then flush. */
typedef struct step {
    const char *bytes, *added;
} step_t;

static void expect_steps(const char *const *stops, uint32_t n_stops, const step_t *steps, size_t n,
                         const char *flushed, bool stopped)
{
    ag_text_stream_t stream;
    ag_array_t text = AG_ARRAY(char);

    ag_text_stream_init(&stream, stops, n_stops);
    for (size_t i = 0; i < n; i++) {
        text.n_items = 0;
        cr_assert_eq(ag_text_stream_push(&stream, steps[i].bytes, strlen(steps[i].bytes), &text),
                     AG_OK);
        cr_assert_eq(ag_array_append(&text, "", 1), AG_OK);
        cr_expect_str_eq(text.items, steps[i].added, "after \"%s\"", steps[i].bytes);
    }
    cr_expect_eq(stream.stopped, stopped);
    text.n_items = 0;
    cr_assert_eq(ag_text_stream_flush(&stream, &text), AG_OK);
    cr_assert_eq(ag_array_append(&text, "", 1), AG_OK);
    cr_expect_str_eq(text.items, flushed);
    ag_array_fini(&text);
    ag_text_stream_fini(&stream);
}

Test(stream, a_character_comes_when_it_is_whole)
{
    static const step_t steps[] = {{"a\xe2", "a"},
                                   {"\x82", ""},
                                   {"\xac"
                                    "b",
                                    "\xe2\x82\xac"
                                    "b"},
                                   {"\xf0\x9f", ""},
                                   {"\x99", ""},
                                   {"\x82", "\xf0\x9f\x99\x82"}};

    expect_steps(NULL, 0, steps, 6, "", false);
}

Test(stream, bytes_that_become_no_character_are_replaced)
{
    static const step_t steps[] = {
        {"\xff", "\xef\xbf\xbd"}, {"\xe2\x82", ""}, {"x", "\xef\xbf\xbdx"}, {"\xe2", ""}};

    expect_steps(NULL, 0, steps, 4, "\xef\xbf\xbd", false);
}

Test(stream, what_may_begin_a_stop_text_waits)
{
    static const char *const stops[] = {"<end>"};
    static const step_t steps[] = {{"a<", "a"}, {"en", ""}, {"x<e", "<enx"}};

    expect_steps(stops, 1, steps, 3, "<e", false);
}

Test(stream, nothing_comes_from_a_stop_text_on)
{
    static const char *const stops[] = {"<end>"};
    static const step_t steps[] = {{"a<e", "a"}, {"nd>b", ""}, {"c", ""}};

    expect_steps(stops, 1, steps, 3, "", true);
}

Test(stream, the_first_stop_text_to_be_complete_counts_and_of_several_the_longest)
{
    static const char *const stops[] = {"bcde", "c", "abc"};
    static const step_t steps[] = {{"xabcde", "x"}};

    expect_steps(stops, 3, steps, 1, "", true);
}

Test(stream, a_stop_text_may_overlap_its_own_beginning)
{
    static const char *const stops[] = {"aab"};
    static const step_t steps[] = {{"aa", ""}, {"a", "a"}, {"ab", "a"}};

    expect_steps(stops, 1, steps, 3, "", true);
}

Test(stream, a_stop_text_is_found_behind_a_broken_character)
{
    static const char *const stops[] = {"STOP"};
    static const step_t steps[] = {{"\xe2\x82"
                                    "S",
                                    ""},
                                   {"T", ""},
                                   {"OP", "\xef\xbf\xbd"}};

    expect_steps(stops, 1, steps, 3, "", true);
}

Test(stream, how_bytes_are_cut_into_tokens_makes_no_difference)
{
    static const char bytes[] = "h\xc3\xa9 \xff\xf0\x9f\x99\x82\xe2\x82 st sto\xf0\x9f\x99 stop!";
    static const char *const stops[] = {"stop", "op!!"};
    ag_array_t whole = AG_ARRAY(char);

    for (size_t part = sizeof(bytes) - 1; part > 0; part--) {
        ag_text_stream_t stream;
        ag_array_t text = AG_ARRAY(char);

        ag_text_stream_init(&stream, stops, 2);
        for (size_t at = 0; at < sizeof(bytes) - 1; at += part) {
            size_t left = sizeof(bytes) - 1 - at;

            cr_assert_eq(ag_text_stream_push(&stream, bytes + at, part < left ? part : left, &text),
                         AG_OK);
        }
        cr_assert(stream.stopped);
        if (part == sizeof(bytes) - 1) {
            cr_assert_eq(ag_array_append(&whole, text.items, text.n_items), AG_OK);
        }
        cr_assert_eq(text.n_items, whole.n_items);
        cr_expect_arr_eq(text.items, whole.items, whole.n_items, "in parts of %zu", part);
        ag_array_fini(&text);
        ag_text_stream_fini(&stream);
    }
    ag_array_fini(&whole);
}
