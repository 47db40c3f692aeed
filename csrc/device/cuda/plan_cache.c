/* Plans on disk, so that cuDNN compiles each only once for a user. One small file a plan in the user's cache folder:
 *
 *     wanoffload cudnn plan 1
 *     key       library's version, card, problem
 *     choice    engine and knobs
 *     workspace bytes checksum
 *     <bytes of cuDNN's own text>
 *
 * The text holds machine code, so a file is believed only if it is the user's own and whole. It is written beside its place and moved there.
 */
#include "device/cuda/vendor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PATH = 1024, MAX_BYTES = 64 << 20 };

static const char magic[] = "wanoffload cudnn plan 1";

/* FNV-1a. */
static uint64_t hash(const char *data, size_t bytes) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ (unsigned char)data[i]) * 1099511628211u;
    return h;
}

void wo_plan_cache_folder(char *path, size_t bytes) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (cache != NULL && cache[0] == '/')
        n = snprintf(path, bytes, "%s/wanoffload/cudnn", cache);
    else if (home != NULL && home[0] == '/')
        n = snprintf(path, bytes, "%s/.cache/wanoffload/cudnn", home);
    if (n < 0 || (size_t)n >= bytes)
        path[0] = '\0';
}

static bool path_of(const char *key, char *path, size_t bytes) {
    char folder[MAX_PATH];
    wo_plan_cache_folder(folder, sizeof folder);
    int n = snprintf(path, bytes, "%s/%016" PRIx64 ".plan", folder, hash(key, strlen(key)));
    return folder[0] != '\0' && n > 0 && (size_t)n < bytes;
}

/* A line without its end into text; false when there is none or it does not fit. */
static bool read_line(FILE *f, char *text, size_t bytes) {
    if (fgets(text, (int)bytes, f) == NULL)
        return false;
    size_t length = strlen(text);
    if (length == 0 || text[length - 1] != '\n')
        return false;
    text[length - 1] = '\0';
    return true;
}

static bool read_record(FILE *f, const char *key, wo_plan_record *out) {
    char line[sizeof out->key + 1];
    uint64_t checksum, bytes;
    if (!read_line(f, line, sizeof line) || strcmp(line, magic) != 0 || !read_line(f, line, sizeof line) || strcmp(line, key) != 0)
        return false;
    snprintf(out->key, sizeof out->key, "%s", key);
    if (!read_line(f, out->choice, sizeof out->choice) || !read_line(f, line, sizeof line))
        return false;
    if (sscanf(line, "%" SCNd64 " %" SCNu64 " %" SCNx64, &out->workspace, &bytes, &checksum) != 3 || bytes == 0 || bytes > MAX_BYTES)
        return false;
    out->bytes = (size_t)bytes;
    out->text = malloc(out->bytes + 1);
    if (out->text == NULL)
        return false;
    out->text[out->bytes] = '\0';
    return fread(out->text, 1, out->bytes, f) == out->bytes && fgetc(f) == EOF && hash(out->text, out->bytes) == checksum;
}

static bool own_file(FILE *f) {
    struct stat s;
    return fstat(fileno(f), &s) == 0 && S_ISREG(s.st_mode) && s.st_uid == geteuid() && (s.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

bool wo_plan_cache_load(const char *key, wo_plan_record *out) {
    char path[MAX_PATH];
    *out = (wo_plan_record){0};
    FILE *f = path_of(key, path, sizeof path) ? fopen(path, "rb") : NULL;
    if (f == NULL)
        return false;
    bool whole = own_file(f) && read_record(f, key, out);
    fclose(f);
    if (!whole) {
        free(out->text);
        *out = (wo_plan_record){0};
    }
    return whole;
}

/* The folders that lead to path, those that are missing for the user alone. */
static bool make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        bool there = mkdir(path, 0700) == 0 || errno == EEXIST;
        *slash = '/';
        if (!there)
            return false;
    }
    return true;
}

static bool write_record(FILE *f, const wo_plan_record *r) {
    char head[sizeof magic + sizeof r->key + sizeof r->choice + 64];
    int n = snprintf(head, sizeof head, "%s\n%s\n%s\n%" PRId64 " %zu %" PRIx64 "\n", magic, r->key, r->choice, r->workspace, r->bytes,
                     hash(r->text, r->bytes));
    return n > 0 && fwrite(head, 1, (size_t)n, f) == (size_t)n && fwrite(r->text, 1, r->bytes, f) == r->bytes;
}

void wo_plan_cache_store(const wo_plan_record *record) {
    char path[MAX_PATH], partial[MAX_PATH + 16];
    if (!path_of(record->key, path, sizeof path) || !make_folders(path))
        return;
    snprintf(partial, sizeof partial, "%s.XXXXXX", path);
    int file = mkstemp(partial);
    if (file < 0)
        return;
    FILE *f = fdopen(file, "wb");
    bool written = f != NULL && write_record(f, record);
    if (f != NULL)
        written = fclose(f) == 0 && written;
    else
        close(file);
    if (!written || rename(partial, path) != 0)
        unlink(partial);
}
