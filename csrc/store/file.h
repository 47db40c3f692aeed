/* One regular file, opened once and read with pread. Private to store. */
#ifndef WO_STORE_FILE_H
#define WO_STORE_FILE_H

#include "base/status.h"

#include <stddef.h>
#include <time.h>

typedef struct wo_file {
    char *path; /* owned */
    int fd;
    uint64_t size;         /* at open */
    struct timespec mtime; /* at open */
} wo_file;

/* WO_EOS when the file cannot be opened; WO_ECHECKPOINT when it is no regular file (a pipe is never waited for). */
wo_status wo_file_open(const char *path, wo_file *out, wo_error *err);
void wo_file_close(wo_file *file);
/* Exactly `bytes` at `offset`, through EINTR and short reads; an earlier end of the file is WO_ECHECKPOINT. Any thread. */
wo_status wo_file_read(const wo_file *file, uint64_t offset, size_t bytes, void *dst, wo_error *err);
/* WO_ECHECKPOINT when size or mtime of the open file are no longer those at open. */
wo_status wo_file_check_unchanged(const wo_file *file, wo_error *err);

/* The end of a path, at most 240 bytes from a folder on: what messages show of it. wo_error.path has more. */
const char *wo_path_tail(const char *path);

/* Leaves the function with WO_ECHECKPOINT about this file. */
#define WO_BAD_FILE(err, path, ...) return wo_error_set_os((err), WO_ECHECKPOINT, 0, (path), __VA_ARGS__)

/* Makes room for one more item in a growing array that wo_memory_release frees. */
wo_status wo_grow(void **items, size_t count, size_t *capacity, size_t item_bytes, const char *what, wo_error *err);

#endif
