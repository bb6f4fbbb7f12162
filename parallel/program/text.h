/*
 * A program as text, one operation a line; what is printed is read back as the same program.
 *
 *     argosy_program 1: 2 ranks, at most 128 tokens, 1 outputs, 1 sequences
 *     group {0,1} channel 1
 *
 *     rank 0: 110592 bytes
 *     buffer p         288 x tokens     36864 bytes at 73728
 *     output p
 *     #    stream   op                             extent           after             uses
 *     17   compute  SEGMENT attn L3 mb0            -                tensor.16         r:x w+:p
 *     18   tensor   ALL_REDUCE {0,1} mb0           288 x tokens     compute.17        rw:p
 *
 * Each rank has its buffers (what a unit takes, what units are counted in, the bound, its place),
 * then its operations in program order: number, stream, kind and what it is about (parts of the
 * model: "embed attn+ffn L0..29 head"; a peer: "to rank 1"; a group), micro-batch, with ".a" or
 * ".b" where it is the first or the second half of a step's rows, ".s" the rank's share, "c1" for a
 * chunk other than 0, "channel 5" for one that is not the usual; what it moves; whom it waits for;
 * the buffers it reads (r), writes (w), leaves as a part of a sum (w+), or its rows of it (w/),
 * adds to (rw&). "-" is none. Lines that begin with # and empty ones say nothing. Left out: a
 * buffer's bound is what its units may take and its place 0, the rank's bytes are 0, the output is
 * rank 0's first buffer.
 */
#pragma once

#include <stdio.h>

#include "parallel/program/program.h"

/** One line of a rank's program, an operation's or a buffer's, without line feed, as errors quote
 * it; cut to n_bytes.
 * @return line. */
const char *ag_op_text(const ag_program_t *program, uint32_t rank, uint32_t op, char *line,
                       size_t n_bytes);
const char *ag_buffer_text(const ag_buffer_t *buffer, char *line, size_t n_bytes);

/** The heading of a program and its groups. */
void ag_program_print_heading(const ag_program_t *program, FILE *file);

/** A rank's part of it. All of them after the heading are the program. */
void ag_program_print_rank(const ag_program_t *program, uint32_t rank, FILE *file);

/** What stands in its place where that is left out: the rest still reads as a program. */
void ag_program_print_no_rank(uint32_t rank, FILE *file);

/* Text with any number of programs. */
typedef struct ag_program_text {
    const char *name; /* of it, in errors: borrowed, as the text */
    const char *at;   /* where reading stands; the text needs no NUL */
    const char *end;  /* when at is here, there is no further program */
    uint32_t line;    /* that `at` stands in; begin with 1 */
} ag_program_text_t;

/**
 * Read the next program. It has all that the text says, and nothing checked beyond what the text
 * form needs: ag_program_check() does. Segments have their parts and no inside: such a program can
 * be printed, linked, placed, changed and checked, but not run until passes have built it again
 * from a model.
 * @return AG_OK; AG_ERR_INVALID: one line with the name, the text's line, what was expected and
 *         what stands there; AG_ERR_NOMEM.
 */
ag_status_t ag_program_parse(ag_program_text_t *text, ag_program_t **program_p);
