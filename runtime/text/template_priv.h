/* Templates in Jinja, brought to one form in which they can be compared. */
#pragma once

#include "runtime/base/array.h"

/* In forms to compare with. */
#define AG_FORM_TEXT "\x01" /* any text within a literal; it is told */
#define AG_FORM_ANY "\x02"  /* the same, but nobody asks what it is */
#define AG_FORM_DEAD                                                                               \
    "\x03" /* tags that close what they open, up to the else or end around them                    \
            */

enum { AG_FORM_MOST_TEXTS = 2 }; /* of AG_FORM_TEXT in a form */

/**
 * The template's tags, one after the other: no space but between two words, x['name'] as x.name,
 * literals in single quotes with \n, \\ and \' escaped, 'a' + 'b' joined, text beside the tags (as
 * far as transformers' settings, trim_blocks and lstrip_blocks, leave it) as a literal that is
 * written, adjacent outputs joined by + unless there is a choice in them, no comments.
 * @param form  char: NUL-terminated; empty where the template is not understood.
 */
ag_status_t ag_template_form(const char *template, ag_array_t *form);

/* Text within a literal, escaped as in the form. */
typedef struct ag_template_text {
    const char *bytes;
    size_t n_bytes;
} ag_template_text_t;

/**
 * Is the text of this form?
 * @param found  out: (AG_FORM_MOST_TEXTS) what AG_FORM_TEXT stands for, in order; borrowed from
 * text.
 */
bool ag_template_matches(const char *text, const char *form, ag_template_text_t found[],
                         size_t *n_found_p);

/** Append such a text, its escapes resolved. */
ag_status_t ag_template_unescape(const char *text, size_t n_bytes, ag_array_t *plain);
