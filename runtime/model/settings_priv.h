/* Settings between files and the spec. */
#pragma once

#include "runtime/model/family_priv.h"

/* What every family's rope may say, wherever its config puts it; ended as a family's keys are. */
extern const ag_key_row_t ag_rope_keys[];

/* The kinds of rope scaling by the names that files give them, the first of a kind is what config
 * files are written with; ended by NULL. */
typedef struct ag_rope_name {
    const char *name;
    ag_rope_kind_t kind;
} ag_rope_name_t;

extern const ag_rope_name_t ag_rope_names[];

/** Read the settings of some keys. @return AG_OK, AG_ERR_FORMAT: missing or senseless, by key. */
ag_status_t ag_settings_read(const ag_model_files_t *files, const ag_family_t *family,
                             const ag_key_row_t *keys, ag_settings_t *settings);

/** A number of config.json, or true and false. @param value_p  in, out: stays where it is absent or
 * null. @return AG_OK, AG_ERR_FORMAT: of another kind. */
ag_status_t ag_setting_number(const ag_model_files_t *files, const char *path,
                              ag_setting_kind_t kind, double *value_p);

/** Keys that change arithmetic and of which one value is known. @return AG_OK, AG_ERR_FORMAT,
 * AG_ERR_UNSUPPORTED: another value. */
ag_status_t ag_settings_check_known(const ag_model_files_t *files, const ag_family_t *family);

/** What is so where files do not say; NULL: nothing, 0. */
const ag_default_t *ag_settings_default(const ag_family_t *family, size_t offset);

/** The kind of the rope; what its numbers leave out, and whether they make sense. */
ag_status_t ag_settings_read_rope(const ag_model_files_t *files, const ag_family_t *family,
                                  ag_settings_t *settings);

enum { AG_PATH_BYTES = 96 };

/**
 * Where a setting stands in config.json.
 * @param path         of n_chars; of a rope as it is where there is but one:
 * "rope_parameters.factor"
 * @param has_several  layers of different types have ropes of their own: the main one's is meant.
 */
void ag_rope_path(const char *path, size_t n_chars, bool has_several, char at[AG_PATH_BYTES]);

/** The same of a config.json that is read, whichever of its groups counts. */
void ag_rope_setting_path(const ag_json_t *config, const char *path, size_t n_chars,
                          char at[AG_PATH_BYTES]);

/** Are config.json's groups of ropes groups? Asked first. @return AG_OK, AG_ERR_FORMAT. */
ag_status_t ag_rope_check_groups(const ag_model_files_t *files);

/* config.json's lists of a longrope: of short contexts, and of long ones. */
extern const char *const ag_long_factors[2];

/** A string setting of the main rope's scaling. @return AG_OK, AG_ERR_FORMAT: no string. */
ag_status_t ag_rope_text(const ag_model_files_t *files, const char *name, ag_setting_text_t *text);

/** The same of a GGUF file. @param key  after the architecture's name. */
ag_status_t ag_gguf_number(const ag_model_files_t *files, const char *arch, const char *key,
                           ag_setting_kind_t kind, double *value_p);

/** What all families have alike goes to the spec, and comes back from it. */
void ag_settings_to_spec(const ag_settings_t *settings, ag_spec_t *spec);
void ag_settings_of_spec(const ag_spec_t *spec, ag_settings_t *settings);

/* config.json's names of layers without a window, and with one. */
extern const char *const ag_layer_type_names[2];

/* A GGUF file's list of the same, after the architecture's name. */
extern const char ag_gguf_pattern_key[];

/** Have some layers a window, and others none? */
bool ag_spec_windows_differ(const ag_spec_t *spec);

/** As config.json spells it. */
const char *ag_activation_name(ag_act_t act);
