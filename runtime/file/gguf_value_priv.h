/* The values of a GGUF file's metadata: reading one from the file. */
#pragma once

#include "runtime/file/gguf.h"
#include "runtime/file/input_priv.h"
#include "runtime/file/pile_priv.h"

/**
 * Read a length and that many bytes: a key or the name of a tensor.
 * @param name_p  out: NUL-terminated, in the pile.
 * @return AG_OK, AG_ERR_FORMAT, AG_ERR_IO, AG_ERR_NOMEM.
 */
ag_status_t ag_gguf_read_name(ag_pile_t *pile, ag_input_t *input, const char **name_p);

/**
 * Read a kind and a value of that kind; strings and arrays are put into the pile.
 * @return AG_OK, AG_ERR_FORMAT, AG_ERR_UNSUPPORTED (an array of arrays), AG_ERR_IO, AG_ERR_NOMEM.
 */
ag_status_t ag_gguf_read_value(ag_pile_t *pile, ag_input_t *input, ag_gguf_value_t *value);

/** A value of a fixed size as the file has it. @param bytes  out: 8 at most. @return how many. */
size_t ag_gguf_encode(const ag_gguf_value_t *value, unsigned char *bytes);
