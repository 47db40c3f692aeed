/* Whatever fails, at whichever place: a clean error, and nothing stays behind, neither memory nor an open file. */
#include "base/memory.h"
#include "store/reader.h"
#include "tests/store_files.h"

#include <dirent.h>
#include <errno.h>
#include <sys/resource.h>

static wo_error err;

static int open_files(void) {
    DIR *d = opendir("/proc/self/fd");
    CHECK(d != NULL);
    int count = 0;
    while (readdir(d) != NULL)
        count++;
    closedir(d);
    return count;
}

/* Three shards with many tensors, so that every growing list grows more than once. */
static void put_checkpoint(void) {
    char *index = malloc(1 << 20), *header = malloc(1 << 20);
    CHECK(index != NULL && header != NULL);
    char *i = index + sprintf(index, "{\"weight_map\":{");
    for (int shard = 0; shard < 3; shard++) {
        char *h = header + sprintf(header, "{");
        char name[32];
        snprintf(name, sizeof name, "shard%d.safetensors", shard);
        for (int t = 0; t < 70; t++) {
            h += sprintf(h, "%s\"t%d.%d\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}", t > 0 ? "," : "", shard, t, 4 * t, 4 * t + 4);
            i += sprintf(i, "%s\"t%d.%d\":\"%s\"", shard + t > 0 ? "," : "", shard, t, name);
        }
        strcpy(h, "}");
        put_safetensors(name, header, 280);
    }
    strcpy(i, "}}");
    put_text("model.safetensors.index.json", index);
    free(index);
    free(header);
}

static void every_failed_allocation_of_an_open_leaves_nothing(void) {
    int before = open_files();
    wo_status status = WO_ENOMEMORY;
    int64_t n = 1;
    for (; status != WO_OK; n++) {
        wo_store *store;
        wo_memory_fail_at(n);
        status = wo_store_open(folder, &store, &err);
        wo_memory_fail_at(0);
        CHECK(n < 100 && (status == WO_OK || status == WO_ENOMEMORY));
        CHECK(status == WO_OK ? wo_store_count(store) == 210 : store == NULL && strstr(err.message, "cannot allocate") != NULL);
        wo_store_release(store);
        CHECK(wo_memory_current() == 0 && open_files() == before);
    }
    CHECK(n > 12);
}

static void a_failed_open_closes_the_shards_before_it(void) {
    int before = open_files();
    struct rlimit limit, low;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (rlim_t files = 3; files < 12; files++) {
        wo_store *store;
        low = (struct rlimit){files, limit.rlim_max};
        CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
        wo_status status = wo_store_open(folder, &store, &err);
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        CHECK(status == WO_OK || (status == WO_EOS && err.os_errno == EMFILE && store == NULL));
        wo_store_release(store);
        CHECK(wo_memory_current() == 0 && open_files() == before);
    }
    put_text("shard2.safetensors", "broken");
    wo_store *store;
    CHECK_STATUS(wo_store_open(folder, &store, &err), WO_ECHECKPOINT);
    CHECK(wo_memory_current() == 0 && open_files() == before);
    put_checkpoint();
}

static void the_nth_read_fails_and_only_that_one(void) {
    wo_store *store;
    CHECK_OK(wo_store_open(folder, &store, &err), &err);
    const wo_entry *e = wo_store_at(store, 3);
    for (int64_t n = 1; n <= 3; n++) {
        wo_store_fail_at(n);
        for (int64_t i = 1; i <= 5; i++) {
            unsigned char data[4] = {99, 99, 99, 99};
            wo_status status = wo_store_read(store, e->file, e->offset, 4, data, &err);
            CHECK(status == (i == n ? WO_EOS : WO_OK));
            CHECK(i != n || (err.os_errno == EIO && strcmp(err.path, wo_store_file_path(store, e->file)) == 0));
            CHECK(i == n || data[0] != 99);
        }
    }
    wo_store_fail_at(1);
    wo_store_fail_at(0);
    unsigned char data[4];
    CHECK_OK(wo_store_read(store, e->file, e->offset, 4, data, &err), &err);
    CHECK_STATUS(wo_store_read(store, 99, 0, 4, data, &err), WO_EINTERNAL);
    CHECK_STATUS(wo_store_read(store, -1, 0, 4, data, &err), WO_EINTERNAL);
    CHECK_STATUS(wo_store_read(store, 0, UINT64_MAX - 1, 4, data, &err), WO_EINTERNAL);
    CHECK_STATUS(wo_store_read(store, 0, INT64_C(1) << 40, 4, data, &err), WO_ECHECKPOINT);
    CHECK_OK(wo_store_read(store, 0, 0, 0, NULL, &err), &err);
    wo_store_release(store);
}

static void every_failed_allocation_of_the_readers_leaves_nothing(void) {
    wo_status status = WO_ENOMEMORY;
    for (int64_t n = 1; status != WO_OK; n++) {
        wo_reader *reader;
        wo_memory_fail_at(n);
        status = wo_reader_create(3, 8, &reader, &err);
        wo_memory_fail_at(0);
        CHECK(n <= 4 && (status == WO_OK || (status == WO_ENOMEMORY && reader == NULL)));
        wo_reader_destroy(reader);
        CHECK(wo_memory_current() == 0);
    }
    wo_reader *reader;
    CHECK_STATUS(wo_reader_create(0, 8, &reader, &err), WO_EVALUE);
    CHECK_STATUS(wo_reader_create(1, 0, &reader, &err), WO_EVALUE);
    CHECK_STATUS(wo_reader_create(1, SIZE_MAX / 2, &reader, &err), WO_ENOMEMORY);
    CHECK(reader == NULL && wo_memory_current() == 0);
}

int main(void) {
    begin_folder();
    put_checkpoint();
    every_failed_allocation_of_an_open_leaves_nothing();
    a_failed_open_closes_the_shards_before_it();
    the_nth_read_fails_and_only_that_one();
    every_failed_allocation_of_the_readers_leaves_nothing();
    end_folder();
    return 0;
}
