/* What the parts of `argosy train` share. */
#pragma once

#include "launch/command.h"
#include "parallel/program/timing.h"
#include "parallel/run/catalog.h"
#include "parallel/run/train.h"

/* The files of a run that grow: rank 0's. */
typedef struct ag_train_output {
    const char *dir;
    char checkpoints[4200]; /* the folder */
    bool made;              /* dir was not there before */
    FILE *metrics;          /* metrics.jsonl; NULL: not begun */
    FILE *evals;            /* eval.jsonl; NULL: there is nothing to evaluate */
} ag_train_output_t;

typedef struct ag_training {
    ag_session_t *session;
    ag_dataset_t *data, *eval_data; /* rank 0's */
    uint32_t seq_length;
    ag_train_opts_t opts;
    ag_train_end_t end;
    ag_catalog_t *catalog;
    ag_saver_t *saver;
    ag_train_output_t output;
    double peak_flops_per_s; /* of products, of all ranks; as measured in this run */
    uint64_t begin_ns, shown_ns;
    uint64_t told_step; /* 1 + that of the checkpoint that the last words name; 0: none yet */
    uint64_t n_learned, train_ns; /* tokens with a target, and the time that their steps took */
    double flops;                 /* of the model, in these */
    uint64_t n_tokens, n_micro_batches; /* of these steps, and pairs that attention met */
    ag_attended_t attended;
    double last_loss;
    ag_profile_t profile;         /* rank 0's, of the whole run */
    uint64_t peak_bytes, step_ns; /* of the last step */
} ag_training_t;

/**
 * Rank 0: open the files to train on and to evaluate with; what of them is lost or left out is
 * told. What they take is added to the session's input.
 */
ag_status_t ag_training_open_data(ag_training_t *training);

/** Rank 0: a row of the data as text, on standard output. */
ag_status_t ag_training_show_sample(const ag_training_t *training);

/**
 * Rank 0: the folder can be written to, and has no other run in it. Nothing is changed yet but that
 * it is made.
 */
ag_status_t ag_train_output_check(const ag_options_t *options, ag_train_output_t *output);

/** Rank 0: begin the files; what is there of steps behind this one is cut off. */
ag_status_t ag_train_output_begin(ag_train_output_t *output, uint64_t done_steps, bool evaluates);

ag_status_t ag_train_output_step(ag_train_output_t *output, const ag_train_step_t *step, double mfu,
                                 bool on_stdout);
ag_status_t ag_train_output_eval(ag_train_output_t *output, uint64_t step, double loss,
                                 uint64_t n_targets);
ag_status_t ag_train_output_close(ag_train_output_t *output);

/** After a failure: a folder that was made for it and that is still empty goes. */
void ag_train_output_forget(const ag_train_output_t *output);

/** All ranks, after the run: OUT/report.html. @return AG_OK, AG_ERR_IO, AG_ERR_NOMEM, AG_ERR_PEER.
 */
ag_status_t ag_train_report(ag_training_t *training);

/** How long a rank computed within the last so many microseconds of a trace. @param trace  an array
 * of events. */
double ag_train_busy_us(const ag_json_t *trace, uint32_t rank, double span_us);

/** Memory that rank 0 takes for the comparison. */
uint64_t ag_train_verify_bytes(const ag_spec_t *spec);

/** Compare a step by the plan with one by one rank. @return AG_OK; AG_ERR_FORMAT: they differ by
 * more than rounding; as a run. */
ag_status_t ag_train_verify(ag_training_t *training);

/**
 * Operations that a model's mathematics takes to train on so much: 6 for each element of a matrix
 * and token that meets it (the head's with targets alone, an expert's share), of attention what is
 * seen.
 */
double ag_train_flops(const ag_spec_t *spec, uint64_t n_tokens, uint64_t n_targets,
                      const ag_attended_t *attended);

/** Operations of a rank's program in a step, in the mean of the run; 0: there was none. */
double ag_train_program_flops(const ag_training_t *training, uint32_t rank);

/**
 * How long each rank works and waits in a step of this plan, were its arithmetic at the peak and
 * all else at the bandwidth of memory, and messages free.
 * @param times  out: (ranks of the plan)
 */
ag_status_t ag_train_time(const ag_training_t *training, ag_rank_time_t *times);

/** A run of one step whose rows are full, each a document, all of it learned: what a plan tells of
 * steps is of this one, before a run and in its report. */
ag_training_t ag_train_full_step(ag_session_t *session);

/**
 * Rank 0, of a plan that trains: operations, the schedule's bubble and bytes on links of a step
 * whose rows are full; as a table on standard error, and as "step" of what is predicted.
 * @return AG_OK, AG_ERR_NOMEM.
 */
ag_status_t ag_train_foretell(ag_session_t *session, ag_json_t *predicted);

/** The peak of products of all ranks together, in the type computed in. */
double ag_train_peak(const ag_session_t *session);

/** What the steps' time went to most, seen from rank 0: as inference's figures name it. */
const char *ag_train_held_back_by(const ag_training_t *training);
