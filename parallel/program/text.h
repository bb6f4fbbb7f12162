/* A program as text, one operation a line. */
#pragma once

#include <stdio.h>

#include "parallel/program/program.h"

/** One line of a rank's program, without line feed, as errors quote it. @return line. */
const char *ag_op_text(const ag_program_t *program, uint32_t rank, uint32_t op, char *line,
                       size_t n_bytes);

/** A rank's whole program: a heading, then its operations. */
void ag_program_print(const ag_program_t *program, uint32_t rank, FILE *file);
