/*
 * Tensors into a file: all are declared first, then their bytes come, one tensor after the other in
 * the order of declaration, in pieces of any size. Nothing of them is held.
 */
#pragma once

#include "runtime/file/aside.h"
#include "runtime/file/gguf_metadata.h"

typedef struct ag_tensor_writer ag_tensor_writer_t;

/**
 * Begin a safetensors file (without metadata) or a GGUF file of version 3.
 * @param aside  borrowed: the file; it is neither sealed nor completed here.
 * @param metadata  borrowed until the first byte is written; NULL: a safetensors file.
 */
ag_status_t ag_tensor_writer_create(ag_aside_t *aside, const ag_gguf_metadata_t *metadata,
                                    ag_tensor_writer_t **writer_p);
void ag_tensor_writer_destroy(ag_tensor_writer_t *writer); /* NULL is allowed */

/**
 * Declare a tensor.
 * @param name  copied; no other has it.
 * @param dims  outermost first; the last is a multiple of the type's block.
 * @return AG_OK, AG_ERR_NOMEM; AG_ERR_UNSUPPORTED: the format has no such type.
 */
ag_status_t ag_tensor_writer_add(ag_tensor_writer_t *writer, const char *name, ag_dtype_t dtype,
                                 uint32_t n_dims, const uint64_t *dims);

/** Bytes of the tensors declared so far. */
uint64_t ag_tensor_writer_bytes(const ag_tensor_writer_t *writer);

/** The next bytes; the first call writes the header, and takes the room for all. */
ag_status_t ag_tensor_writer_write(ag_tensor_writer_t *writer, const void *bytes, size_t n);

/** The end: every byte that was declared is there. @return AG_OK, AG_ERR_IO. */
ag_status_t ag_tensor_writer_end(ag_tensor_writer_t *writer);
