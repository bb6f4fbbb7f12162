/* Templates in Jinja, brought to one form in which they can be compared. */
#pragma once

#include "runtime/base/array.h"

/* In forms to compare with. */
#define AG_FORM_TEXT "\x01" /* any text within a literal */
#define AG_FORM_DEAD                                                                               \
    "\x02" /* tags that close what they open, up to the else or end around them                    \
            */

/**
 * The template's tags, one after the other: no space but between two words, x['name'] as x.name,
 * literals in single quotes with \n, \\ and \' escaped, 'a' + 'b' joined, adjacent outputs joined
 * by +.
 * @param form  char: NUL-terminated; empty where the template has text beside its tags that
 *              transformers' settings (trim_blocks, lstrip_blocks) do not drop, or what is not
 *              understood.
 */
ag_status_t ag_template_form(const char *template, ag_array_t *form);

/**
 * Is the text of this form?
 * @param found_p  out: what AG_FORM_TEXT stands for, escaped as in the form; NULL: it is not in the
 *                 form.
 */
bool ag_template_matches(const char *text, const char *form, const char **found_p,
                         size_t *n_found_p);

/** Append such a text, its escapes resolved. */
ag_status_t ag_template_unescape(const char *text, size_t n_bytes, ag_array_t *plain);
