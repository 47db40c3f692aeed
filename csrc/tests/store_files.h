/* Small checkpoints in a temporary folder, for the tests of store. */
#ifndef WO_TESTS_STORE_FILES_H
#define WO_TESTS_STORE_FILES_H

#include "tests/check.h"

#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

/* Path of a file in the folder; good until the eighth call after this one. */
static inline const char *in_folder(const char *name) {
    static char paths[8][512];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", folder, name);
    return paths[turn];
}

static inline void begin_folder(void) {
    strcpy(folder, "/tmp/wo-test-store-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
}

static inline void end_folder(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    CHECK(system(command) == 0);
}

static inline void put_bytes(const char *name, const void *bytes, size_t count) {
    FILE *f = fopen(in_folder(name), "wb");
    CHECK(f != NULL && fwrite(bytes, 1, count, f) == count && fclose(f) == 0);
}

static inline void put_text(const char *name, const char *text) {
    put_bytes(name, text, strlen(text));
}

/* A safetensors file with this header (header_bytes of it) and `data` bytes 0, 1, 2 ... behind. */
static inline void put_safetensors_bytes(const char *name, const char *header, size_t header_bytes, size_t data) {
    unsigned char *file = malloc(8 + header_bytes + data);
    CHECK(file != NULL);
    for (size_t i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)header_bytes >> (8 * i));
    memcpy(file + 8, header, header_bytes);
    for (size_t i = 0; i < data; i++)
        file[8 + header_bytes + i] = (unsigned char)i;
    put_bytes(name, file, 8 + header_bytes + data);
    free(file);
}

static inline void put_safetensors(const char *name, const char *header, size_t data) {
    put_safetensors_bytes(name, header, strlen(header), data);
}

#endif
