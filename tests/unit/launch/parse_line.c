#include "parse_line.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { MAX_WORDS = 48 };

ag_status_t parse(const char *line, ag_options_t *options)
{
    static char words[1024];
    static char *argv[MAX_WORDS + 1];
    int argc = 0;

    snprintf(words, sizeof(words), "argosy %s", line);
    for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " ")) {
        cr_assert_lt(argc, MAX_WORDS);
        for (char *blank = strchr(word, '_'); blank != NULL; blank = strchr(blank, '_')) {
            *blank = ' ';
        }
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    return ag_options_parse(argc, argv, options);
}

void expect_error(const char *line, const char *part, const char *other_part)
{
    ag_options_t options;

    cr_expect_eq(parse(line, &options), AG_ERR_INVALID, "%s", line);
    cr_expect_not_null(strstr(ag_error(), part), "%s: \"%s\" is not in \"%s\"", line, part,
                       ag_error());
    cr_expect_not_null(strstr(ag_error(), other_part), "%s: \"%s\" is not in \"%s\"", line,
                       other_part, ag_error());
    cr_expect_null(strchr(ag_error(), '\n'), "%s", ag_error());
}

void expect_good(const char *line)
{
    ag_options_t options;

    cr_expect_eq(parse(line, &options), AG_OK, "%s: %s", line, ag_error());
}
