/* What is read besides the model. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "launch/input.h"
#include "make_files.h"
#include "runtime/base/log.h"

static void keep_line(void *arg, ag_log_level_t level, const char *line)
{
    (void)level;
    snprintf(arg, 256, "%s", line);
}

/* The next line is this string, and a warning holds these words; "": there is none. */
static void expect_line(ag_lines_t *lines, const char *text, const char *warning)
{
    ag_json_t *json;
    char said[256] = "";

    ag_log_set_sink(keep_line, said);
    cr_assert_eq(ag_lines_next(lines, &json), AG_OK, "%s", ag_error());
    cr_expect_str_eq(ag_json_string(json, NULL), text);
    cr_expect_not_null(strstr(said, warning), "\"%s\" does not say \"%s\"", said, warning);
    cr_expect(*warning != '\0' || *said == '\0', "%s", said);
    ag_json_destroy(json);
}

Test(input, what_is_no_text_in_a_line_is_replaced_and_said)
{
    ag_lines_t lines;
    ag_json_t *json;
    const char *path = make_file(make_folder(), "lines",
                                 "\xEF\xBB\xBF\"a\"\n\"b\xFF\"\n\"\\ud83c\\ud83c\\udf55\"\n\"c\"");

    cr_assert_eq(ag_lines_open(path, &lines), AG_OK);
    expect_line(&lines, "a", "");
    expect_line(&lines, "b\xEF\xBF\xBD", "lines, line 2 is not valid UTF-8");
    expect_line(&lines, "\xEF\xBF\xBD\xF0\x9F\x8D\x95", "lines, line 3 has half a surrogate pair");
    expect_line(&lines, "c", "");
    cr_assert_eq(ag_lines_next(&lines, &json), AG_OK);
    cr_expect_null(json);
    ag_lines_close(&lines);
}

Test(input, what_a_line_takes_is_told_with_the_longest_before_it)
{
    ag_lines_t lines;
    ag_json_t *json;
    const char *path = make_file(make_folder(), "lines", "\"abcdefgh\"\n\"a\"\n");

    cr_assert_eq(ag_lines_open(path, &lines), AG_OK);
    cr_assert_eq(ag_lines_next(&lines, &json), AG_OK);
    cr_expect_eq(ag_lines_bytes(&lines, 8), 30);
    ag_json_destroy(json);
    cr_assert_eq(ag_lines_next(&lines, &json), AG_OK);
    cr_expect_eq(ag_lines_bytes(&lines, 1), 16);
    cr_expect_eq(ag_lines_bytes(&lines, 100), 113);
    ag_json_destroy(json);
    ag_lines_close(&lines);
}

Test(input, the_most_is_kept_and_what_is_held_is_the_last)
{
    ag_input_bytes_t input = {0};

    ag_input_count(&input, 10, 100);
    ag_input_count(&input, 20, 50);
    cr_expect_eq(input.held_bytes, 20);
    cr_expect_eq(input.most_bytes, 110);
}
