#pragma once

#include "parallel/plan/plan.h"

/* What is beyond these is a mistake, not a plan; options and JSON are held to the same. */
enum {
    AG_MAX_RANKS = 65536,
    AG_MAX_STAGE_RANKS = 254, /* of one replica: the head's parts are uses of one operation */
    AG_MAX_STAGES = 4096,
    AG_MAX_PLAN_LAYERS = 1 << 20,
    AG_MAX_SHARE = 1000000,
    AG_MAX_SEQUENCES = 65536,
    AG_MAX_TOKENS = 1 << 24,
    AG_MAX_EXPERTS = 4096,
    AG_MAX_MICRO_BATCHES = 4096, /* of all replicas */
    AG_MAX_REPLICAS = AG_MOST_REPLICAS,
};

/** An empty plan of n stages, each with one replica without ranks. */
ag_status_t ag_plan_create(uint32_t n_stages, ag_plan_t **plan_p);

/** A stage's layers, as chunk number `chunk` of n: of several in ascending order. */
ag_status_t ag_stage_set_layers(ag_stage_t *stage, uint32_t chunk, uint32_t n, ag_layers_t layers);

/** Storage for n replicas instead of those without ranks that a stage has. */
ag_status_t ag_stage_resize(ag_stage_t *stage, uint32_t n_replicas);

/* A list of lists of numbers: "5,4;1". */
typedef struct ag_number_lists {
    ag_array_t numbers; /* uint32_t */
    ag_array_t ends;    /* size_t: where each list ends in numbers */
} ag_number_lists_t;

/** A whole number, *at_p moves behind it. @param text  all of the option's, for errors. */
ag_status_t ag_plan_parse_number(const char *option, const char *text, const char **at_p,
                                 uint32_t *number_p);

/** @param separators  which of ',' and ';' have a meaning in this option. */
ag_status_t ag_plan_parse_lists(const char *option, const char *text, const char *separators,
                                ag_number_lists_t *lists);

/** The i-th list. @param n_p  out: its length. */
const uint32_t *ag_plan_list_at(const ag_number_lists_t *lists, size_t i, size_t *n_p);

/** Refuse control characters: options are quoted in errors, which are one line. */
ag_status_t ag_plan_check_printable(const char *option, const char *text);

/** A list of whole numbers, "5,3". @param n_p  out: how many; more than `most` are refused. */
ag_status_t ag_plan_parse_numbers(const char *option, const char *text, uint32_t most,
                                  uint32_t *numbers, uint32_t *n_p);

/** What training decides, and the micro-batches of the replicas, which are there. */
ag_status_t ag_plan_fill_train(const ag_plan_opts_t *opts, ag_plan_t *plan);

/** How many turns the replicas have, whose micro-batches and experts are there. @param what  says
 * where they come from. */
ag_status_t ag_plan_deal_turns(ag_plan_t *plan, const char *what);

/** The member "train". */
ag_json_t *ag_plan_train_json(const ag_plan_t *plan);
ag_status_t ag_plan_read_train(const ag_json_t *json, const char *what, ag_plan_t *plan);

/** A word of plain characters. */
ag_status_t ag_plan_read_text(const ag_json_t *json, const char *what, const char *path, char *text,
                              size_t n_bytes);

/** Storage for a replica's ranks and shares, zeroed. */
ag_status_t ag_replica_resize(ag_replica_t *replica, uint32_t n_ranks);

/** Storage for who holds n_experts, n_ranks in all. */
ag_status_t ag_holders_resize(ag_holders_t *holders, uint32_t n_experts, size_t n_ranks);
void ag_holders_fini(ag_holders_t *holders);

/** Experts one after the other: counts (n) of them for each of n ranks of the stage, and so on for
 * the next n until all its ranks, replica after replica, hold some; NULL: as evenly as can be. */
ag_status_t ag_holders_fill(ag_stage_t *stage, uint32_t n_experts, const uint32_t *counts,
                            uint32_t n);

/** A whole number from least to most; `what` is the file, `path` the member's place in it. */
ag_status_t ag_plan_read_number(const ag_json_t *json, const char *what, const char *path,
                                int64_t least, int64_t most, uint32_t *number_p);

/** No member of the object but those; keys end with NULL. */
ag_status_t ag_plan_check_keys(const ag_json_t *object, const char *what, const char *path,
                               const char *const *keys);

/** The member "experts": one a stage, or none where the model has no experts. */
ag_json_t *ag_plan_experts_json(const ag_plan_t *plan);
ag_status_t ag_plan_read_experts(const ag_json_t *json, const char *what, ag_plan_t *plan);
