/*
 * SentencePiece's precompiled map of characters (its normalizer.cc, builder.cc): the size of a
 * double-array trie (darts-clone's units of 32 bits, little endian), the trie, whose values say
 * where in what follows the replacement stands, and the replacements, each ended by a NUL.
 */
#pragma once

#include "runtime/base/array.h"

/** @return AG_OK, AG_ERR_FORMAT: no map has such sizes. What the trie says is checked in use. */
ag_status_t ag_charsmap_check(const char *map, size_t n_map);

/**
 * Append a text, of which what the map has is replaced: at each place the longest, as SentencePiece
 * does.
 * @param most_bytes  it stops where `mapped` has more: the trie may name any text anywhere.
 */
ag_status_t ag_charsmap_apply(const char *map, size_t n_map, const char *text, size_t n_bytes,
                              size_t most_bytes, ag_array_t *mapped);

/**
 * The same as Hugging Face's Precompiled has it: a grapheme of fewer than 6 bytes is replaced by
 * what the map has for the shortest of its beginnings, else each of its characters by itself.
 */
ag_status_t ag_charsmap_apply_by_char(const char *map, size_t n_map, const char *text,
                                      size_t n_bytes, size_t most_bytes, ag_array_t *mapped);
