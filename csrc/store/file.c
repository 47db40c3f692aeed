/* The descriptor is what is trusted, not the name: everything is asked of it after the open, and a file that is replaced by
 * rename goes on being the old one here. */
#include "store/file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Linux moves at most 0x7ffff000 bytes in one call; a round number below that keeps offsets aligned as they were. */
static const size_t LARGEST_READ = (size_t)1 << 30;
enum { LONGEST_SHOWN = 240 };

const char *wo_path_tail(const char *path) {
    size_t length = strlen(path);
    if (length <= LONGEST_SHOWN)
        return path;
    const char *tail = path + length - LONGEST_SHOWN, *slash = strchr(tail, '/');
    while (slash == NULL && ((unsigned char)*tail & 0xC0) == 0x80)
        tail++;
    return slash != NULL ? slash + 1 : tail;
}

/* O_NONBLOCK matters for the open alone: without it a pipe would be waited for, and on a regular file it has no effect. */
wo_status wo_file_open(const char *path, wo_file *out, wo_error *err) {
    *out = (wo_file){.fd = -1};
    void *name;
    WO_TRY(wo_memory_acquire(strlen(path) + 1, "the name of a checkpoint file", &name, err));
    strcpy(name, path);
    out->path = name;
    do {
        out->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (out->fd < 0 && errno == EINTR);
    struct stat info;
    wo_status status = WO_OK;
    if (out->fd < 0 || fstat(out->fd, &info) != 0)
        status = wo_error_set_os(err, WO_EOS, errno, path, "cannot open %s: %s", wo_path_tail(path), strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = wo_error_set_os(err, WO_ECHECKPOINT, 0, path, "%s is not a regular file, so it cannot be a checkpoint",
                                 wo_path_tail(path));
    if (status != WO_OK) {
        wo_file_close(out);
        return status;
    }
    out->size = (uint64_t)info.st_size;
    out->mtime = info.st_mtim;
    return WO_OK;
}

void wo_file_close(wo_file *file) {
    if (file->fd >= 0)
        close(file->fd);
    wo_memory_release(file->path);
    *file = (wo_file){.fd = -1};
}

static wo_status cut_short(const wo_file *file, uint64_t offset, size_t bytes, wo_error *err) {
    struct stat now = {.st_size = 0};
    fstat(file->fd, &now);
    WO_BAD_FILE(err, file->path, "%s has only %" PRIu64 " bytes, but %zu at offset %" PRIu64 " are needed; it had %" PRIu64
                " when it was opened. Restore it and load it again.", wo_path_tail(file->path), (uint64_t)now.st_size, bytes,
                offset, file->size);
}

wo_status wo_file_read(const wo_file *file, uint64_t offset, size_t bytes, void *dst, wo_error *err) {
    if (bytes > INT64_MAX || offset > INT64_MAX - bytes)
        WO_FAIL(err, WO_EINTERNAL, "a read of %zu bytes at offset %" PRIu64 " of %s is out of range", bytes, offset,
                wo_path_tail(file->path));
    for (size_t done = 0; done < bytes;) {
        size_t wanted = bytes - done < LARGEST_READ ? bytes - done : LARGEST_READ;
        ssize_t got = pread(file->fd, (char *)dst + done, wanted, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return wo_error_set_os(err, WO_EOS, errno, file->path, "cannot read %zu bytes at offset %" PRIu64 " of %s: %s",
                                   bytes, offset, wo_path_tail(file->path), strerror(errno));
        if (got == 0)
            return cut_short(file, offset, bytes, err);
        done += (size_t)got;
    }
    return WO_OK;
}

wo_status wo_file_check_unchanged(const wo_file *file, wo_error *err) {
    struct stat now;
    if (fstat(file->fd, &now) != 0)
        return wo_error_set_os(err, WO_EOS, errno, file->path, "cannot examine %s: %s", wo_path_tail(file->path),
                               strerror(errno));
    if ((uint64_t)now.st_size != file->size)
        WO_BAD_FILE(err, file->path, "%s changed while open: it had %" PRIu64 " bytes and has %" PRIu64 " now. Load it again.",
                    wo_path_tail(file->path), file->size, (uint64_t)now.st_size);
    if (now.st_mtim.tv_sec != file->mtime.tv_sec || now.st_mtim.tv_nsec != file->mtime.tv_nsec)
        WO_BAD_FILE(err, file->path, "%s changed while open: it was written to after it was opened. Load it again.",
                    wo_path_tail(file->path));
    return WO_OK;
}

wo_status wo_grow(void **items, size_t count, size_t *capacity, size_t item_bytes, const char *what, wo_error *err) {
    if (count < *capacity)
        return WO_OK;
    size_t wanted = *capacity == 0 ? 64 : *capacity * 2, bytes;
    void *grown;
    if (__builtin_mul_overflow(wanted, item_bytes, &bytes))
        WO_FAIL(err, WO_ENOMEMORY, "%zu items are too many for %s", wanted, what);
    WO_TRY(wo_memory_acquire(bytes, what, &grown, err));
    if (count > 0)
        memcpy(grown, *items, count * item_bytes);
    wo_memory_release(*items);
    *items = grown;
    *capacity = wanted;
    return WO_OK;
}
