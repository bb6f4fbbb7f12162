#include <criterion/criterion.h>
#include <string.h>

#include "launch/report.h"

Test(report, the_line_has_each_figure_its_limit_and_their_ratio)
{
    ag_report_t report = {.prefill_tokens_per_s = 210,
                          .prefill_limit = 4200,
                          .decode_tokens_per_s = 18.25,
                          .decode_limit = 890,
                          .held_back_by = "memory bandwidth"};
    char line[512];

    ag_report_line(&report, line, sizeof(line));
    cr_expect_not_null(strstr(line, "prefill 210.0 tokens/s of 4200"), "%s", line);
    cr_expect_not_null(strstr(line, "5.0%"), "%s", line);
    cr_expect_not_null(strstr(line, "decode 18.2 tokens/s of 890"), "%s", line);
    cr_expect_not_null(strstr(line, "2.1%"), "%s", line);
    cr_expect_not_null(strstr(line, "held back by memory bandwidth"), "%s", line);
    cr_expect_null(strchr(line, '\n'));
}

Test(report, a_phase_that_was_not_is_not_in_the_line)
{
    ag_report_t report = {
        .prefill_tokens_per_s = 210, .prefill_limit = 4200, .held_back_by = "arithmetic"};
    char line[512];

    ag_report_line(&report, line, sizeof(line));
    cr_expect_not_null(strstr(line, "prefill"), "%s", line);
    cr_expect_null(strstr(line, "decode"), "%s", line);
    report =
        (ag_report_t){.decode_tokens_per_s = 18, .decode_limit = 890, .held_back_by = "arithmetic"};
    ag_report_line(&report, line, sizeof(line));
    cr_expect_null(strstr(line, "prefill"), "%s", line);
    cr_expect_not_null(strstr(line, "decode"), "%s", line);
}

Test(report, a_run_that_computed_nothing_says_so)
{
    char line[512];

    ag_report_line(&(ag_report_t){.held_back_by = "overhead"}, line, sizeof(line));
    cr_expect_not_null(strstr(line, "nothing was computed"), "%s", line);
}
