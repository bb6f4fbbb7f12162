/* Programs to and from whole texts. */
#pragma once

#include "parallel/program/text.h"

/** The program's text; free() it. */
char *program_text(const ag_program_t *program);

/** The first program of a text. @return as ag_program_parse(). */
ag_status_t program_from_text(const char *text, ag_program_t **program_p);
