#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/task/trace.h"

static const char *const track_names[] = {"compute", "a \"track\"\\with\tall"};

Test(trace, holds_nothing_while_it_rests)
{
    const ag_trace_event_t event = {.name = "attn", .begin_ns = 5, .end_ns = 6};
    ag_trace_t *trace;

    cr_assert_eq(ag_trace_create(4, &trace), AG_OK);
    ag_trace_rest(NULL, true);
    ag_trace_rest(trace, true);
    ag_trace_add(trace, &event);
    cr_expect_eq(ag_trace_begin_ns(trace), UINT64_MAX);
    ag_trace_rest(trace, false);
    ag_trace_add(trace, &event);
    cr_expect_eq(ag_trace_begin_ns(trace), 5);
    ag_trace_destroy(trace);
}

static ag_trace_t *create(size_t capacity, uint64_t n_events)
{
    ag_trace_t *trace = NULL;

    cr_assert_eq(ag_trace_create(capacity, &trace), AG_OK, "%s", ag_error());
    for (uint64_t i = 0; i < n_events; i++) {
        ag_trace_add(trace, &(ag_trace_event_t){.name = i % 2 == 0 ? "attn" : "say \"\x01\\\"",
                                                .track = i % 2,
                                                .detail = (uint32_t)i,
                                                .begin_ns = 1000 * i + 7,
                                                .end_ns = 1000 * i + 1507});
    }
    return trace;
}

/* What ranks write, with the brackets that the caller puts round it, read back. */
static ag_json_t *written(const ag_trace_t *trace, uint32_t n_ranks)
{
    char *text = NULL;
    size_t n_bytes = 0;
    FILE *file = open_memstream(&text, &n_bytes);
    ag_json_t *json = NULL;

    cr_assert_not_null(file);
    fputs("[\n", file);
    for (uint32_t rank = 0; rank < n_ranks; rank++) {
        cr_assert_eq(ag_trace_write(trace, file, rank, 0, track_names, 2), AG_OK, "%s", ag_error());
    }
    fputs("{}]\n", file);
    fclose(file);
    cr_assert_eq(ag_json_parse(text, n_bytes, "trace", &json), AG_OK, "%s:\n%s", ag_error(), text);
    free(text);
    return json;
}

static const char *text_of(const ag_json_t *event, const char *key)
{
    size_t n_bytes;
    const char *text = ag_json_string(ag_json_path(event, key), &n_bytes);

    return text != NULL ? text : "";
}

Test(trace, is_json_that_names_ranks_and_streams_and_has_every_event)
{
    ag_trace_t *trace = create(8, 4);
    ag_json_t *json = written(trace, 2);

    cr_assert_eq(ag_json_size(json), 2 * (3 + 4) + 1);
    for (size_t rank = 0; rank < 2; rank++) {
        const ag_json_t *process = ag_json_at(json, 7 * rank);
        const ag_json_t *track = ag_json_at(json, 7 * rank + 2);
        const ag_json_t *event = ag_json_at(json, 7 * rank + 6);

        cr_expect_str_eq(text_of(process, "ph"), "M");
        cr_expect_str_eq(text_of(process, "name"), "process_name");
        cr_expect_str_eq(text_of(process, "args.name"), rank == 0 ? "rank 0" : "rank 1");
        cr_expect_str_eq(text_of(track, "name"), "thread_name");
        cr_expect_eq(ag_json_integer(ag_json_get(track, "tid"), -1), 1);
        cr_expect_str_eq(text_of(track, "args.name"), track_names[1]);
        cr_expect_str_eq(text_of(event, "ph"), "X");
        cr_expect_str_eq(text_of(event, "name"), "say \"\x01\\\"");
        cr_expect_eq(ag_json_integer(ag_json_get(event, "pid"), -1), (int64_t)rank);
        cr_expect_eq(ag_json_integer(ag_json_get(event, "tid"), -1), 1);
        cr_expect_eq(ag_json_integer(ag_json_path(event, "args.detail"), -1), 3);
        cr_expect_float_eq(ag_json_number(ag_json_get(event, "ts"), 0), 3.007, 1e-9);
        cr_expect_float_eq(ag_json_number(ag_json_get(event, "dur"), 0), 1.5, 1e-9);
    }
    ag_json_destroy(json);
    ag_trace_destroy(trace);
}

Test(trace, keeps_nanoseconds_on_a_machine_that_has_been_up_for_a_year)
{
    static const uint64_t year_ns = 365ull * 86400 * 1000000000;
    ag_trace_t *trace = create(1, 0);
    char *text = NULL;
    size_t n_bytes;
    FILE *file = open_memstream(&text, &n_bytes);

    cr_assert_not_null(file);
    ag_trace_add(trace, &(ag_trace_event_t){
                            .name = "norm", .begin_ns = year_ns + 1, .end_ns = year_ns + 1000});
    cr_expect_eq(ag_trace_write(trace, file, 0, 0, NULL, 0), AG_OK);
    fclose(file);
    cr_expect_not_null(strstr(text, "\"ts\":31536000000000.001,\"dur\":0.999,"), "%s", text);
    free(text);
    ag_trace_destroy(trace);
}

Test(trace, times_are_counted_from_the_origin_and_the_first_to_begin_need_not_be_first)
{
    ag_trace_t *trace = create(4, 0);
    char *text = NULL;
    size_t n_bytes;
    FILE *file = open_memstream(&text, &n_bytes);

    cr_assert_not_null(file);
    cr_expect_eq(ag_trace_begin_ns(trace), UINT64_MAX);
    ag_trace_add(trace, &(ag_trace_event_t){.name = "in", .begin_ns = 70000, .end_ns = 80000});
    ag_trace_add(trace, &(ag_trace_event_t){.name = "around", .begin_ns = 60000, .end_ns = 90000});
    cr_expect_eq(ag_trace_begin_ns(trace), 60000);
    cr_expect_eq(ag_trace_write(trace, file, 0, 55000, NULL, 0), AG_OK);
    fclose(file);
    cr_expect_not_null(strstr(text, "\"ts\":15.000,\"dur\":10.000,"), "%s", text);
    cr_expect_not_null(strstr(text, "\"ts\":5.000,\"dur\":30.000,"), "%s", text);
    free(text);
    ag_trace_destroy(trace);
}

Test(trace, drops_the_oldest_events_beyond_its_capacity)
{
    ag_trace_t *trace = create(4, 11);
    ag_json_t *json = written(trace, 1);

    cr_assert_eq(ag_json_size(json), 3 + 4 + 1);
    for (size_t i = 0; i < 4; i++) {
        cr_expect_eq(ag_json_integer(ag_json_path(ag_json_at(json, 3 + i), "args.detail"), -1),
                     (int64_t)(7 + i));
    }
    ag_json_destroy(json);
    ag_trace_destroy(trace);
}

Test(trace, without_a_trace_events_go_nowhere)
{
    ag_trace_add(NULL, &(ag_trace_event_t){.name = "norm"});
    ag_trace_destroy(NULL);
}

Test(trace, a_full_disk_is_an_error_even_where_the_text_fits_the_buffer)
{
    static const uint64_t n_events[] = {0, 1, 1000};

    for (size_t i = 0; i < 3; i++) {
        ag_trace_t *trace = create(1000, n_events[i]);
        FILE *file = fopen("/dev/full", "w");

        cr_assert_not_null(file);
        cr_expect_eq(ag_trace_write(trace, file, 3, 0, track_names, 2), AG_ERR_IO);
        cr_expect_str_eq(ag_error(), "writing the trace: No space left on device");
        fclose(file);
        ag_trace_destroy(trace);
    }
}
