#include "runtime/base/json.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ag_json_t *parse(const char *text)
{
    ag_json_t *json = NULL;

    cr_assert_eq(ag_json_parse(text, strlen(text), "text", &json), AG_OK, "%s", ag_error());
    return json;
}

static void expect_text(const ag_json_t *json, ag_json_style_t style, const char *expected)
{
    char *text = NULL;

    cr_assert_eq(ag_json_text(json, style, &text), AG_OK);
    cr_expect_str_eq(text, expected);
    free(text);
}

Test(json, numbers_of_any_size_may_become_reals)
{
    static const char text[] = "{\"a\":99999999999999999999,\"b\":3}";
    ag_json_t *json;

    cr_expect_eq(ag_json_parse(text, strlen(text), "test", &json), AG_ERR_FORMAT);
    cr_assert_eq(ag_json_parse_reals(text, strlen(text), "test", &json), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_json_number(ag_json_get(json, "a"), 0), 1e20);
    cr_expect_eq(ag_json_integer(ag_json_get(json, "b"), 0), 3);
    ag_json_destroy(json);
}

Test(json, values_are_read_by_key_path_and_index)
{
    ag_json_t *json = parse("{\"a\": {\"b\": [1, 2.5, \"x\", true, null]}, \"c\": {}}");
    ag_json_t *list = ag_json_path(json, "a.b");

    cr_expect_eq(ag_json_size(json), 2);
    cr_expect_eq(ag_json_size(list), 5);
    cr_expect_eq(ag_json_integer(ag_json_at(list, 0), -1), 1);
    cr_expect_eq(ag_json_number(ag_json_at(list, 0), -1), 1.0);
    cr_expect_eq(ag_json_number(ag_json_at(list, 1), -1), 2.5);
    cr_expect_str_eq(ag_json_string(ag_json_at(list, 2), NULL), "x");
    cr_expect(ag_json_bool(ag_json_at(list, 3), false));
    cr_expect_eq(ag_json_kind(ag_json_at(list, 4)), AG_JSON_NULL);
    cr_expect_null(ag_json_at(list, 5));
    cr_expect_null(ag_json_path(json, "a.x.y"));
    cr_expect_eq(ag_json_path(json, "c"), ag_json_get(json, "c"));
    ag_json_destroy(json);
}

Test(json, what_is_absent_or_of_another_kind_gives_the_default)
{
    ag_json_t *json = parse("{\"s\": \"7\", \"n\": 7, \"b\": false}");
    size_t n_bytes = 9;

    cr_expect_eq(ag_json_kind(NULL), AG_JSON_NONE);
    cr_expect_eq(ag_json_size(NULL), 0);
    cr_expect_null(ag_json_get(NULL, "x"));
    cr_expect_null(ag_json_at(NULL, 0));
    cr_expect_null(ag_json_string(NULL, &n_bytes));
    cr_expect_eq(n_bytes, 0);
    cr_expect_eq(ag_json_integer(NULL, 5), 5);
    cr_expect_eq(ag_json_integer(ag_json_get(json, "s"), 5), 5);
    cr_expect_eq(ag_json_number(ag_json_get(json, "s"), 1.5), 1.5);
    cr_expect(ag_json_bool(ag_json_get(json, "n"), true));
    cr_expect_not(ag_json_bool(ag_json_get(json, "b"), true));
    cr_expect_null(ag_json_string(ag_json_get(json, "n"), NULL));
    cr_expect_eq(ag_json_size(ag_json_get(json, "s")), 0);
    ag_json_destroy(json);
    ag_json_destroy(NULL);
}

Test(json, a_whole_real_is_an_integer_and_a_broken_one_is_not)
{
    ag_json_t *json = parse("[1e6, 10000.0, 0.5, 1e300, -3.0, 9223372036854775807]");

    cr_expect_eq(ag_json_integer(ag_json_at(json, 0), -1), 1000000);
    cr_expect_eq(ag_json_integer(ag_json_at(json, 1), -1), 10000);
    cr_expect_eq(ag_json_integer(ag_json_at(json, 2), -1), -1);
    cr_expect_eq(ag_json_integer(ag_json_at(json, 3), -1), -1);
    cr_expect_eq(ag_json_integer(ag_json_at(json, 4), -1), -3);
    cr_expect_eq(ag_json_integer(ag_json_at(json, 5), -1), INT64_MAX);
    ag_json_destroy(json);
}

Test(json, any_kind_of_value_may_stand_alone)
{
    static const struct {
        const char *text;
        ag_json_kind_t kind;
    } cases[] = {{"null", AG_JSON_NULL}, {"true", AG_JSON_BOOL},    {" 3 ", AG_JSON_INTEGER},
                 {"3.0", AG_JSON_REAL},  {"\"x\"", AG_JSON_STRING}, {"[]", AG_JSON_ARRAY},
                 {"{}", AG_JSON_OBJECT}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_json_t *json = parse(cases[i].text);

        cr_expect_eq(ag_json_kind(json), cases[i].kind, "%s", cases[i].text);
        ag_json_destroy(json);
    }
}

Test(json, strings_may_hold_nul)
{
    ag_json_t *json = parse("\"a\\u0000b\"");
    size_t n_bytes;
    const char *text = ag_json_string(json, &n_bytes);

    cr_assert_eq(n_bytes, 3);
    cr_expect_arr_eq(text, "a\0b", 3);
    expect_text(json, AG_JSON_LINE, "\"a\\u0000b\"");
    ag_json_destroy(json);
}

Test(json, damage_is_an_error_that_says_where)
{
    static const char *const damaged[] = {"",
                                          "{",
                                          "[1,]",
                                          "{\"a\": 1, \"a\": 2}",
                                          "[1] 2",
                                          "\"\xFF\"",
                                          "{\"a\\u0000\": 1}",
                                          "\"\\ud800\"",
                                          "1e999",
                                          "99999999999999999999",
                                          "nan",
                                          "{a: 1}"};
    ag_json_t *json = NULL;

    for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
        cr_expect_eq(ag_json_parse(damaged[i], strlen(damaged[i]), "x.json", &json), AG_ERR_FORMAT,
                     "%s", damaged[i]);
        cr_expect_eq(strncmp(ag_error(), "x.json: column ", 15), 0, "%s", ag_error());
        cr_expect_null(strchr(ag_error(), '\n'));
        cr_expect_null(json);
    }
    cr_assert_eq(ag_json_parse("{\n  \"a\": ?}", 11, "x.json", &json), AG_ERR_FORMAT);
    cr_expect_eq(strncmp(ag_error(), "x.json: line 2, column 8", 24), 0, "%s", ag_error());
}

Test(json, a_byte_order_mark_is_passed_over)
{
    char path[] = "/tmp/argosy-test-XXXXXX";
    int fd = mkstemp(path);
    ag_json_t *json = parse("\xEF\xBB\xBF{\"a\": 1}");

    cr_expect_eq(ag_json_size(json), 1);
    ag_json_destroy(json);
    cr_expect_eq(ag_json_parse("\xEF\xBB\xBF\xEF\xBB\xBF"
                               "1",
                               7, "x", &json),
                 AG_ERR_FORMAT);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, "\xEF\xBB\xBF[7]", 6), 6);
    close(fd);
    cr_assert_eq(ag_json_read(path, &json), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_json_integer(ag_json_at(json, 0), 0), 7);
    ag_json_destroy(json);
    cr_assert_eq(truncate(path, 3), 0);
    cr_expect_eq(ag_json_read(path, &json), AG_ERR_FORMAT);
    unlink(path);
}

Test(json, half_a_surrogate_pair_becomes_a_replacement_character)
{
    static const struct {
        const char *text, *mended; /* NULL: it stays */
        size_t n;                  /* 0: one, where it does not stay */
    } rows[] = {
        {"\"\\ud83c\"", "\"\\uFFFD\"", 0},
        {"\"\\uDF55x\"", "\"\\uFFFDx\"", 0},
        {"\"\\ud83c\\udf55\"", NULL, 0},
        {"\"\\ud83c\\uD83C\\udf55\"", "\"\\uFFFD\\uD83C\\udf55\"", 0},
        {"\"\\udf55\\ud83c\"", "\"\\uFFFD\\uFFFD\"", 2},
        {"\"\\ud83cudf55\"", "\"\\uFFFDudf55\"", 0},
        {"\"\\\\ud83c\"", NULL, 0}, /* a backslash, then letters */
        {"\"\\\\\\ud83c\"", "\"\\\\\\uFFFD\"", 0},
        {"\"\\ud7ff\\ue000\"", NULL, 0},
        {"\"\\ud8\"", NULL, 0},
        {"\"\\u+800\"", NULL, 0},
        {"\\", NULL, 0},
        {"", NULL, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[64];

        snprintf(text, sizeof(text), "%s", rows[i].text);
        cr_expect_eq(ag_json_mend_escapes(text, strlen(text)),
                     rows[i].n > 0 ? rows[i].n : rows[i].mended != NULL, "%s", rows[i].text);
        cr_expect_str_eq(text, rows[i].mended != NULL ? rows[i].mended : rows[i].text);
    }
}

Test(json, where_in_a_text_of_one_line_is_said_by_the_column_alone)
{
    ag_json_t *json = NULL;

    cr_expect_eq(ag_json_parse("[1, ?]", 6, "F, line 2", &json), AG_ERR_FORMAT);
    cr_expect_eq(strncmp(ag_error(), "F, line 2: column ", 18), 0, "%s", ag_error());
}

Test(json, what_an_error_quotes_stays_on_its_line)
{
    ag_json_t *json = NULL;

    cr_expect_eq(ag_json_parse("[1\x01\x1f\n]", 6, "text", &json), AG_ERR_FORMAT);
    for (const char *at = ag_error(); *at != '\0'; at++) {
        cr_expect_geq((unsigned char)*at, ' ', "%s", ag_error());
    }
}

Test(json, deep_nesting_is_an_error_and_no_crash)
{
    size_t n_bytes = 1 << 20;
    char *text = malloc(n_bytes);
    ag_json_t *json = NULL;

    cr_assert_not_null(text);
    memset(text, '[', n_bytes);
    cr_expect_eq(ag_json_parse(text, n_bytes, "x", &json), AG_ERR_FORMAT);
    free(text);
}

static ag_status_t collect(void *arg, const char *key, size_t key_bytes, const ag_json_t *value)
{
    char *keys = arg;

    cr_expect_eq(key_bytes, strlen(key));
    strcat(keys, key);
    return ag_json_integer(value, 0) == 3 ? AG_ERR_INVALID : AG_OK;
}

Test(json, members_come_in_the_order_of_the_file_until_one_fails)
{
    ag_json_t *json = parse("{\"z\": 1, \"b\": 2, \"a\": 2, \"m\": 3, \"c\": 4}");
    char keys[16] = "";

    cr_expect_eq(ag_json_each(json, collect, keys), AG_ERR_INVALID);
    cr_expect_str_eq(keys, "zbam");
    cr_expect_eq(ag_json_each(NULL, collect, keys), AG_OK);
    ag_json_destroy(json);
}

Test(json, what_was_made_is_written_in_three_styles)
{
    ag_json_t *json = ag_json_new_object(), *list = ag_json_new_array();

    ag_json_append(list, ag_json_new_integer(-1));
    ag_json_append(list, ag_json_new_real(0.5));
    ag_json_append(list, ag_json_new_bool(true));
    ag_json_append(list, ag_json_new_real(NAN));
    ag_json_append(list, NULL);
    ag_json_set(json, "z", list);
    ag_json_set(json, "a", ag_json_new_string("\"\n", 2));
    ag_json_set(json, "none", NULL);
    expect_text(json, AG_JSON_LINE, "{\"z\": [-1, 0.5, true, null], \"a\": \"\\\"\\n\"}");
    expect_text(json, AG_JSON_CANONICAL, "{\"a\":\"\\\"\\n\",\"z\":[-1,0.5,true,null]}");
    expect_text(
        json, AG_JSON_INDENTED,
        "{\n  \"z\": [\n    -1,\n    0.5,\n    true,\n    null\n  ],\n  \"a\": \"\\\"\\n\"\n}");
    ag_json_destroy(json);
}

Test(json, a_real_that_is_written_reads_back_as_itself)
{
    static const double values[] = {0.1, 1.0 / 3.0, 1e-300, 123456789.123456789, -0.0};

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        ag_json_t *made = ag_json_new_real(values[i]), *read;
        char *text = NULL;

        cr_assert_eq(ag_json_text(made, AG_JSON_LINE, &text), AG_OK);
        read = parse(text);
        cr_expect_eq(ag_json_number(read, 7), values[i], "%s", text);
        free(text);
        ag_json_destroy(read);
        ag_json_destroy(made);
    }
}

Test(json, invalid_utf8_becomes_a_replacement_character)
{
    ag_json_t *json = ag_json_new_string("a\xFF\0b", 4);
    size_t n_bytes;
    const char *text = ag_json_string(json, &n_bytes);

    cr_assert_eq(n_bytes, 6);
    cr_expect_arr_eq(text, "a\xEF\xBF\xBD\0b", 6);
    ag_json_destroy(json);
    json = ag_json_new_string(NULL, 0);
    cr_expect_str_eq(ag_json_string(json, NULL), "");
    ag_json_destroy(json);
}

Test(json, a_file_is_read_and_errors_name_it)
{
    char path[] = "/tmp/argosy-test-XXXXXX";
    int fd = mkstemp(path);
    ag_json_t *json = NULL;

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, "{\"a\": 1}\n", 9), 9);
    cr_assert_eq(ag_json_read(path, &json), AG_OK);
    cr_expect_eq(ag_json_integer(ag_json_get(json, "a"), 0), 1);
    ag_json_destroy(json);
    json = NULL;
    cr_assert_eq(write(fd, "}", 1), 1);
    close(fd);
    cr_expect_eq(ag_json_read(path, &json), AG_ERR_FORMAT);
    cr_expect_not_null(strstr(ag_error(), path));
    cr_expect_not_null(strstr(ag_error(), "line 2, column "), "%s", ag_error());
    cr_expect_not_null(strstr(ag_error(), "get the file again"), "%s", ag_error());
    unlink(path);
    cr_expect_eq(ag_json_read(path, &json), AG_ERR_IO);
    cr_expect_not_null(strstr(ag_error(), path));
    cr_expect_not_null(strstr(ag_error(), "check the path"), "%s", ag_error());
    cr_expect_eq(ag_json_read("/tmp", &json), AG_ERR_IO);
    cr_expect_not_null(strstr(ag_error(), "/tmp"));
    cr_expect_null(json);
}
