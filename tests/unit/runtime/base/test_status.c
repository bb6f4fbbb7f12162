#include "runtime/base/status.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/log.h"

Test(status, a_failure_is_returned_and_recorded)
{
    cr_expect_str_eq(ag_error(), "");
    cr_expect_eq(ag_fail(AG_ERR_IO, "reading %s at byte %d", "a.gguf", 7), AG_ERR_IO);
    cr_expect_str_eq(ag_error(), "reading a.gguf at byte 7");
    ag_fail(AG_ERR_INVALID, "another");
    cr_expect_str_eq(ag_error(), "another");
}

Test(status, context_goes_before_the_record)
{
    ag_fail(AG_ERR_FORMAT, "no end of header");
    cr_expect_eq(ag_fail_context(AG_ERR_FORMAT, "opening %s", "x"), AG_ERR_FORMAT);
    cr_expect_str_eq(ag_error(), "opening x: no end of header");
}

Test(status, the_record_may_be_an_argument_of_the_next_failure)
{
    ag_fail(AG_ERR_IO, "disk");
    ag_fail(AG_ERR_PEER, "rank 1: %s", ag_error());
    cr_expect_str_eq(ag_error(), "rank 1: disk");
    ag_fail_context(AG_ERR_PEER, "after %s", ag_error());
    cr_expect_str_eq(ag_error(), "after rank 1: disk: rank 1: disk");
}

Test(status, a_long_text_is_cut)
{
    char text[5000];
    size_t n_chars;

    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    ag_fail(AG_ERR_IO, "begin %s", text);
    n_chars = strlen(ag_error());
    cr_expect(n_chars > 1000 && n_chars < 4999);
    cr_expect_eq(strncmp(ag_error(), "begin x", 7), 0);
    for (int i = 0; i < 3; i++) {
        ag_fail_context(AG_ERR_IO, "%s", text);
        cr_expect_eq(strlen(ag_error()), n_chars);
    }
}

static void *fail_elsewhere(void *arg)
{
    snprintf(arg, 16, "%s", ag_error());
    ag_fail(AG_ERR_IO, "there");
    return NULL;
}

Test(status, the_record_belongs_to_its_thread)
{
    pthread_t thread;
    char seen_there[16] = "nothing";

    ag_fail(AG_ERR_IO, "here");
    cr_assert_eq(pthread_create(&thread, NULL, fail_elsewhere, seen_there), 0);
    pthread_join(thread, NULL);
    cr_expect_str_eq(seen_there, "");
    cr_expect_str_eq(ag_error(), "here");
}

Test(status, a_refused_allocation_says_for_what_and_how_much)
{
    cr_expect_eq(ag_fail_nomem("loading weights", 12345), AG_ERR_NOMEM);
    cr_expect_not_null(strstr(ag_error(), "loading weights"));
    cr_expect_not_null(strstr(ag_error(), "12345 bytes"));
}

Test(status, names_are_those_of_the_constants)
{
    cr_expect_str_eq(ag_status_name(AG_OK), "OK");
    cr_expect_str_eq(ag_status_name(AG_ERR_INTERRUPTED), "ERR_INTERRUPTED");
    cr_expect_str_eq(ag_status_name((ag_status_t)77), "unknown status");
}

typedef struct seen {
    int n_lines;
    ag_log_level_t level;
    char line[128];
} seen_t;

static void see(void *arg, ag_log_level_t level, const char *line)
{
    seen_t *seen = arg;

    seen->n_lines++;
    seen->level = level;
    snprintf(seen->line, sizeof(seen->line), "%s", line);
}

Test(log, lines_reach_the_sink_and_are_dropped_without_one)
{
    seen_t seen = {0};

    ag_log(AG_LOG_WARNING, "nobody hears %d", 1);
    ag_log_set_sink(see, &seen);
    ag_log(AG_LOG_DEBUG, "layer %d of %d", 3, 30);
    cr_expect_eq(seen.n_lines, 1);
    cr_expect_eq(seen.level, AG_LOG_DEBUG);
    cr_expect_str_eq(seen.line, "layer 3 of 30");
    ag_log_set_sink(NULL, NULL);
    ag_log(AG_LOG_WARNING, "nobody again");
    cr_expect_eq(seen.n_lines, 1);
}
