/*
 * A model into the ecosystem's files: the weights of any source, the settings of its spec. What
 * belongs to its tokenizer is put beside them by whoever knows text.
 */
#pragma once

#include "runtime/base/cancel.h"
#include "runtime/base/team.h"
#include "runtime/file/folder.h"
#include "runtime/file/gguf_metadata.h"
#include "runtime/model/weights.h"

/* Where weights come from: files, or memory, of this process or of several. */
typedef struct ag_weight_source {
    void *arg;
    /** The type that the weight's rows come in; NULL: float32, all. */
    ag_dtype_t (*dtype)(void *arg, const ag_weight_t *weight);
    /**
     * Rows [begin, begin + n) of a weight, densely, as the architecture has them: those of a head
     * in halves, not in pairs. A vector is one row. Each weight is asked for once, its rows in
     * ascending order; weights in the order of the file that is written.
     */
    ag_status_t (*read)(void *arg, const ag_weight_t *weight, uint64_t begin, uint64_t n,
                        void *rows);
} ag_weight_source_t;

/** The model's own files. */
ag_weight_source_t ag_model_source(const ag_model_t *model);

typedef struct ag_export_opts {
    bool gguf;        /* else a Hugging Face folder */
    bool keeps_types; /* each weight in the source's type, where such files have it; else float32 */
    ag_dtype_t dtype; /* otherwise; GGUF files have vectors and routers in float32 all the same */
    bool are_gradients;        /* the source's: they do not change with what is added to a weight */
    uint64_t shard_bytes;      /* of a folder's files, but for a larger tensor; 0: 5 GB */
    ag_team_t *team;           /* packs rows; NULL: the caller alone. The bytes are the same */
    const ag_cancel_t *cancel; /* looked at between blocks of rows; may be NULL */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t all_bytes); /* or NULL */
    void *progress_arg;
} ag_export_opts_t;

/* What is to be written: every tensor by its name, type and shape, before a byte is read. */
typedef struct ag_export ag_export_t;

/**
 * @param model   borrowed: spec and family; its files are read only by ag_model_source().
 * @param source  borrowed.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_UNSUPPORTED: a weight that such files have no name for.
 */
ag_status_t ag_export_create(const ag_model_t *model, const ag_weight_source_t *source,
                             const ag_export_opts_t *opts, ag_export_t **export_p);
void ag_export_destroy(ag_export_t *export); /* NULL is allowed */

typedef struct ag_export_facts {
    uint64_t n_tensors, bytes;
    uint64_t n_fallen_back;  /* matrices whose rows the wanted type's blocks do not divide */
    ag_dtype_t fallen_to;    /* of the first of them */
    const char *fallen_name; /* the first of them; borrowed */
} ag_export_facts_t;

ag_export_facts_t ag_export_facts(const ag_export_t *export);

/** Memory that writing takes, with float32 from a source that takes as much as it gives. */
uint64_t ag_export_bytes(const ag_spec_t *spec);

/**
 * The model's config.json in the spelling of transformers 4 and 5, from its own config.json where
 * it has one, else from its spec. Token ids are not in the latter.
 * @param export  says the type.
 * @param json_p  out: to be destroyed.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_UNSUPPORTED: it has no words for what the spec says.
 */
ag_status_t ag_export_config(const ag_export_t *export, ag_json_t **json_p);

/** The same for GGUF: general.* and the architecture's keys. @param name  NULL: the source's. */
ag_status_t ag_export_metadata(const ag_export_t *export, const char *name,
                               ag_gguf_metadata_t *metadata);

/**
 * The weights as model.safetensors, or as several such with an index.
 * @return AG_OK; AG_ERR_IO; AG_ERR_FORMAT: a value that the type cannot hold; AG_ERR_INTERRUPTED;
 *         what the source returns.
 */
ag_status_t ag_export_to_folder(ag_export_t *export, ag_folder_t *folder);

/** The weights as one safetensors file, neither sealed nor completed. @return the same. */
ag_status_t ag_export_to_safetensors(ag_export_t *export, ag_aside_t *aside);

/** The weights behind the metadata; the file is neither sealed nor completed. @return the same. */
ag_status_t ag_export_to_gguf(ag_export_t *export, const ag_gguf_metadata_t *metadata,
                              ag_aside_t *aside);

/** Whether a file of a folder belongs to the model in it, for ag_folder_complete(). */
bool ag_export_is_old(const char *name);
