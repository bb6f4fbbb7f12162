#include <criterion/criterion.h>
#include <string.h>

#include "launch/train.h"

Test(train_busy, counts_what_lies_within_another_once_and_what_lies_before_not_at_all)
{
    static const char text[] =
        "[{\"pid\":0,\"tid\":0,\"ts\":0,\"dur\":30}," /* reaches into the last 100 */
        "{\"pid\":0,\"tid\":0,\"ts\":50,\"dur\":20}," /* an operation, */
        "{\"pid\":0,\"tid\":0,\"ts\":55,\"dur\":5},"  /* and what it is made of */
        "{\"pid\":0,\"tid\":1,\"ts\":75,\"dur\":20}," /* another stream */
        "{\"pid\":1,\"tid\":0,\"ts\":115,\"dur\":5}," /* another rank */
        "{\"pid\":0,\"tid\":0,\"ts\":110,\"dur\":1.5},"
        "{\"name\":\"thread_name\",\"pid\":0,\"tid\":0}]"; /* no time */
    ag_json_t *trace;

    cr_assert_eq(ag_json_parse(text, strlen(text), "events", &trace), AG_OK, "%s", ag_error());
    cr_expect_float_eq(ag_train_busy_us(trace, 0, 100), 10 + 20 + 1.5, 1e-9);
    cr_expect_float_eq(ag_train_busy_us(trace, 1, 100), 5, 1e-9);
    cr_expect_float_eq(ag_train_busy_us(trace, 2, 100), 0, 1e-9);
    ag_json_destroy(trace);
}
