/* Lists of numbers in options: "5,4;1". */
#include <ctype.h>
#include <string.h>

#include "parallel/plan/plan_priv.h"

/* Options are quoted in errors, which are one line. */
ag_status_t ag_plan_check_printable(const char *option, const char *text)
{
    for (; *text != '\0'; text++) {
        if (iscntrl((unsigned char)*text)) {
            return ag_fail(AG_ERR_INVALID, "%s has a control character in it", option);
        }
    }
    return AG_OK;
}

ag_status_t ag_plan_parse_number(const char *option, const char *text, const char **at_p,
                                 uint32_t *number_p)
{
    const char *at = *at_p;
    uint32_t number = 0;

    if (!isdigit((unsigned char)*at)) {
        return *at == '\0'
                   ? ag_fail(AG_ERR_INVALID, "%s \"%s\" ends where a whole number should stand",
                             option, text)
                   : ag_fail(AG_ERR_INVALID, "%s \"%s\": \"%s\" should begin with a whole number",
                             option, text, at);
    }
    for (; isdigit((unsigned char)*at); at++) {
        number = number * 10 + (uint32_t)(*at - '0');
        if (number > AG_MAX_SHARE) {
            return ag_fail(AG_ERR_INVALID, "%s \"%s\": a number is too large: give at most %d",
                           option, text, AG_MAX_SHARE);
        }
    }
    *at_p = at;
    *number_p = number;
    return AG_OK;
}

/* @param separators  which of ',' and ';' have a meaning in this option. */
ag_status_t ag_plan_parse_lists(const char *option, const char *text, const char *separators,
                                ag_number_lists_t *lists)
{
    const char *at = text;
    ag_status_t status;

    if (text == NULL) {
        return AG_OK;
    }
    *lists = (ag_number_lists_t){.numbers = AG_ARRAY(uint32_t), .ends = AG_ARRAY(size_t)};
    status = ag_plan_check_printable(option, text);
    while (status == AG_OK) {
        uint32_t number;

        status = ag_plan_parse_number(option, text, &at, &number);
        if (status == AG_OK) {
            status = ag_array_append(&lists->numbers, &number, 1);
        }
        if (status == AG_OK && *at != '\0' && strchr(separators, *at) == NULL) {
            status = ag_fail(AG_ERR_INVALID, "%s \"%s\": \"%s\" is not understood%s", option, text,
                             at, *at == ';' ? ": separate by ','" : "");
        }
        if (status == AG_OK && *at != ',') {
            status = ag_array_append(&lists->ends, &lists->numbers.n_items, 1);
        }
        if (*at == '\0') {
            break;
        }
        at++;
    }
    return status;
}

ag_status_t ag_plan_parse_numbers(const char *option, const char *text, uint32_t most,
                                  uint32_t *numbers, uint32_t *n_p)
{
    ag_number_lists_t lists = {.numbers = AG_ARRAY(uint32_t), .ends = AG_ARRAY(size_t)};
    ag_status_t status = ag_plan_parse_lists(option, text, ",", &lists);
    size_t n = lists.numbers.n_items;

    if (status == AG_OK && n > most) {
        status = ag_fail(AG_ERR_INVALID, "%s \"%s\" has more than %u number%s", option, text, most,
                         most == 1 ? "" : "s");
    }
    if (status == AG_OK) {
        memcpy(numbers, lists.numbers.items, n * sizeof(*numbers));
        *n_p = (uint32_t)n;
    }
    ag_array_fini(&lists.numbers);
    ag_array_fini(&lists.ends);
    return status;
}

const uint32_t *ag_plan_list_at(const ag_number_lists_t *lists, size_t i, size_t *n_p)
{
    size_t begin = i > 0 ? AG_ITEMS(&lists->ends, size_t)[i - 1] : 0;

    *n_p = AG_ITEMS(&lists->ends, size_t)[i] - begin;
    return AG_ITEMS(&lists->numbers, uint32_t) + begin;
}
