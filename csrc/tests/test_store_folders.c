/* Which files a path means, what an index may say, and that nothing outside its folder is ever opened. */
#include "base/memory.h"
#include "store/store.h"
#include "tests/store_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <utime.h>

static wo_error err;

/* A file with one float32 tensor of that name. */
static void put_tensor(const char *file, const char *tensor) {
    char header[300];
    snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", tensor);
    put_safetensors(file, header, 4);
}

static void opens_as(const char *path, const char *tensor) {
    wo_store *store;
    CHECK_OK(wo_store_open(path, &store, &err), &err);
    CHECK(wo_store_find(store, tensor) != NULL);
    wo_store_release(store);
    CHECK(wo_memory_current() == 0);
}

static void fails_with(const char *path, wo_status wanted, const char *message) {
    wo_store *store = (wo_store *)&err;
    CHECK_STATUS(wo_store_open(path, &store, &err), wanted);
    CHECK(store == NULL && wo_memory_current() == 0);
    CHECK_CONTAINS(err.message, message);
}

static void a_folder_means_the_file_that_its_library_would_load(void) {
    begin_folder();
    fails_with(folder, WO_ECHECKPOINT, "holds neither diffusion_pytorch_model nor model");
    put_tensor("weights.safetensors", "other");
    put_tensor("model-00001-of-00002.safetensors", "shard");
    put_tensor("model.fp16-00001-of-00002.safetensors", "shard");
    put_text("model.safetensors.txt", "x");
    put_text("models.safetensors", "x");
    fails_with(folder, WO_ECHECKPOINT, "for instance model-00001-of-00002.safetensors");
    put_tensor("model.fp16.safetensors", "variant");
    opens_as(folder, "variant");
    put_tensor("diffusion_pytorch_model.non_ema.safetensors", "variant 2");
    fails_with(folder, WO_ECHECKPOINT, "holds 2 variants of the weights and no plain one");
    put_text("model.safetensors.index.json", "{\"weight_map\":{\"shard\":\"model-00001-of-00002.safetensors\"}}");
    opens_as(folder, "shard");
    put_tensor("model.safetensors", "plain");
    opens_as(folder, "plain");
    put_tensor("diffusion_pytorch_model.safetensors", "diffusers");
    opens_as(folder, "diffusers");
    put_text("diffusion_pytorch_model.safetensors.index.json", "{\"weight_map\":{\"other\":\"weights.safetensors\"}}");
    opens_as(folder, "other");
    char with_slash[80];
    snprintf(with_slash, sizeof with_slash, "%s/", folder);
    opens_as(with_slash, "other");
    end_folder();
}

static void variants_of_an_index_are_found_in_both_spellings(void) {
    static const char *const names[] = {"model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json",
                                        "diffusion_pytorch_model.safetensors.index.bf16.json"};
    for (size_t i = 0; i < 3; i++) {
        begin_folder();
        put_tensor("shard.safetensors", "t");
        put_text(names[i], "{\"weight_map\":{\"t\":\"shard.safetensors\"}}");
        opens_as(folder, "t");
        end_folder();
    }
}

static void a_named_file_is_taken_whatever_its_name(void) {
    begin_folder();
    put_tensor("anything.bin", "t");
    opens_as(in_folder("anything.bin"), "t");
    CHECK(symlink("anything.bin", in_folder("link.safetensors")) == 0);
    opens_as(in_folder("link.safetensors"), "t");
    char before[512];
    CHECK(getcwd(before, sizeof before) != NULL && chdir(folder) == 0);
    opens_as("anything.bin", "t");
    put_text("i.json", "{\"weight_map\":{\"t\":\"anything.bin\"}}");
    opens_as("i.json", "t");
    CHECK(chdir(before) == 0);
    end_folder();
}

static void what_is_missing_or_no_file_is_said_with_its_path(void) {
    begin_folder();
    fails_with(in_folder("nowhere"), WO_EOS, "No such file");
    CHECK(err.os_errno == ENOENT && strcmp(err.path, in_folder("nowhere")) == 0);
    fails_with("", WO_EOS, "No such file");
    CHECK(mkfifo(in_folder("pipe.safetensors"), 0600) == 0);
    fails_with(in_folder("pipe.safetensors"), WO_ECHECKPOINT, "not a regular file");
    fails_with("/dev/zero", WO_ECHECKPOINT, "not a regular file");
    CHECK(mkdir(in_folder("model.safetensors"), 0700) == 0);
    fails_with(folder, WO_ECHECKPOINT, "not a regular file");
    CHECK(symlink("loop", in_folder("loop")) == 0);
    fails_with(in_folder("loop"), WO_EOS, "symbolic links");
    char endless[5000];
    memset(endless, 'a', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    fails_with(endless, WO_EOS, "File name too long");
    if (geteuid() != 0) {
        put_tensor("secret.safetensors", "t");
        CHECK(chmod(in_folder("secret.safetensors"), 0) == 0);
        fails_with(in_folder("secret.safetensors"), WO_EOS, "Permission denied");
    }
    end_folder();
}

static void put_three_shards(void) {
    put_tensor("one.safetensors", "a");
    put_safetensors("two.safetensors", "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                                       "\"extra\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8);
    put_tensor("three.safetensors", "c");
}

static void shards_become_one_list_of_tensors(void) {
    begin_folder();
    put_three_shards();
    put_text("x.json", "{\"metadata\":{\"total_size\":12.5e3},\"weight_map\":{\"c\":\"three.safetensors\",\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}");
    wo_store *store;
    CHECK_OK(wo_store_open(in_folder("x.json"), &store, &err), &err);
    CHECK(wo_store_count(store) == 4 && wo_store_files(store) == 3);
    static const char *const names[] = {"a", "b", "c", "extra"}, *const files[] = {"one", "two", "three", "two"};
    uint64_t bytes = 0;
    for (size_t i = 0; i < 3; i++) {
        struct stat info;
        CHECK(stat(wo_store_file_path(store, (int32_t)i), &info) == 0);
        bytes += (uint64_t)info.st_size;
    }
    CHECK(wo_store_bytes(store) == bytes);
    for (size_t i = 0; i < 4; i++) {
        const wo_entry *e = wo_store_at(store, i);
        CHECK(strcmp(e->name, names[i]) == 0);
        CHECK_CONTAINS(wo_store_file_path(store, e->file), files[i]);
        unsigned char data[4];
        CHECK_OK(wo_store_read(store, e->file, e->offset, 4, data, &err), &err);
        CHECK(data[0] == (strcmp(names[i], "extra") == 0 ? 4 : 0));
    }
    wo_store *same = wo_store_retain(store);
    wo_store_release(store);
    CHECK(same == store && wo_store_find(same, "a") != NULL);
    wo_store_release(same);
    wo_store_release(NULL);
    end_folder();
}

static void every_lie_of_an_index_is_refused(void) {
    static const struct {
        const char *index, *message;
    } rows[] = {
        {"{\"weight_map\":{\"a\":\"../one.safetensors\"}}", "plain file name beside the index, without a folder: ../one.safetensors"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "without a folder: /etc/passwd"},
        {"{\"weight_map\":{\"a\":\"\\u002fetc\\/passwd\"}}", "without a folder: /etc/passwd"},
        {"{\"weight_map\":{\"a\":\"inner/one.safetensors\"}}", "without a folder: inner/"},
        {"{\"weight_map\":{\"a\":\"outside/one.safetensors\"}}", "without a folder: outside/"},
        {"{\"weight_map\":{\"a\":\"..\\\\one.safetensors\"}}", "without a folder: ..\\"},
        {"{\"weight_map\":{\"a\":\"..\"}}", "without a folder: .."},
        {"{\"weight_map\":{\"a\":\".\"}}", "without a folder: ."},
        {"{\"weight_map\":{\"a\":\"\"}}", "without a folder: "},
        {"{\"weight_map\":{\"a\":\"one.safetensors\\u0000/../x\"}}", "NUL"},
        {"{\"weight_map\":{\"a\":1}}", "string was expected"},
        {"{\"weight_map\":[]}", "object was expected"},
        {"{\"weight_map\":{}}", "lists no tensor"},
        {"{\"metadata\":{}}", "no weight_map"},
        {"[]", "the index is not valid JSON at byte 0: an object was expected"},
        {"", "not valid JSON"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\"}", "not valid JSON"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\"},\"weight_map\":{}}", "weight_map twice"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"two.safetensors\"}}", "has a tensor twice: a"},
        {"{\"weight_map\":{\"a\":\"two.safetensors\"}}", "tensor \"a\" is in the shard two.safetensors, but it is in none of them"},
        {"{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}", "but it is in /tmp/"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"z\":\"two.safetensors\"}}", "tensor \"z\" is in the shard two.safetensors, but it is in none"},
        {"{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"again.safetensors\"}}", "\"a\" is in two shards"},
        {"{\"weight_map\":{\"a\":\"broken.safetensors\"}}", "broken.safetensors has 1 bytes"},
    };
    begin_folder();
    CHECK(mkdir(in_folder("inner"), 0700) == 0 && symlink("/tmp", in_folder("outside")) == 0);
    put_three_shards();
    put_tensor("inner/one.safetensors", "a");
    put_tensor("again.safetensors", "a");
    put_text("broken.safetensors", "x");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_text("x.json", rows[i].index);
        fails_with(in_folder("x.json"), WO_ECHECKPOINT, rows[i].message);
    }
    put_text("x.json", "{\"weight_map\":{\"a\":\"one.safetensors\",\"m\":\"gone.safetensors\"}}");
    fails_with(in_folder("x.json"), WO_EOS, "x.json lists the shard gone.safetensors, which is not in its folder");
    CHECK(err.os_errno == ENOENT && strcmp(err.path, in_folder("gone.safetensors")) == 0);
    CHECK(truncate(in_folder("x.json"), 100000001) == 0);
    fails_with(in_folder("x.json"), WO_ECHECKPOINT, "refused above");
    end_folder();
}

/* The hub's cache is a folder of links to files elsewhere, and must work. */
static void a_shard_may_itself_be_a_link(void) {
    begin_folder();
    CHECK(mkdir(in_folder("blobs"), 0700) == 0 && mkdir(in_folder("snapshot"), 0700) == 0);
    put_tensor("blobs/0123", "t");
    CHECK(symlink("../blobs/0123", in_folder("snapshot/model-1.safetensors")) == 0);
    put_text("snapshot/model.safetensors.index.json", "{\"weight_map\":{\"t\":\"model-1.safetensors\"}}");
    opens_as(in_folder("snapshot"), "t");
    end_folder();
}

static void a_file_that_changes_while_open_is_noticed(void) {
    begin_folder();
    put_tensor("m.safetensors", "t");
    wo_store *store;
    unsigned char data[16];
    CHECK_OK(wo_store_open(in_folder("m.safetensors"), &store, &err), &err);
    CHECK_OK(wo_store_check_unchanged(store, &err), &err);
    CHECK_OK(wo_store_read(store, 0, wo_store_at(store, 0)->offset, 4, data, &err), &err);
    CHECK_OK(wo_store_check_unchanged(store, &err), &err);
    struct stat info;
    CHECK(stat(in_folder("m.safetensors"), &info) == 0);
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = info.st_mtim.tv_sec, .tv_nsec = (info.st_mtim.tv_nsec + 1000) % 1000000000}};
    CHECK(utimensat(AT_FDCWD, in_folder("m.safetensors"), times, 0) == 0);
    CHECK_STATUS(wo_store_check_unchanged(store, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "changed while open");
    CHECK(truncate(in_folder("m.safetensors"), info.st_size + 5) == 0);
    CHECK_STATUS(wo_store_check_unchanged(store, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "changed while open: it had");
    CHECK(truncate(in_folder("m.safetensors"), info.st_size - 2) == 0);
    CHECK_STATUS(wo_store_read(store, 0, wo_store_at(store, 0)->offset, 4, data, &err), WO_ECHECKPOINT);
    CHECK_CONTAINS(err.message, "but 4 at offset");
    CHECK_CONTAINS(err.message, in_folder("m.safetensors"));
    wo_store_release(store);
    end_folder();
}

static void a_file_replaced_by_rename_goes_on_being_the_old_one(void) {
    begin_folder();
    put_tensor("m.safetensors", "t");
    wo_store *store;
    unsigned char data[4];
    CHECK_OK(wo_store_open(in_folder("m.safetensors"), &store, &err), &err);
    put_text("new", "something quite different");
    CHECK(rename(in_folder("new"), in_folder("m.safetensors")) == 0);
    CHECK_OK(wo_store_check_unchanged(store, &err), &err);
    CHECK_OK(wo_store_read(store, 0, wo_store_at(store, 0)->offset, 4, data, &err), &err);
    CHECK(memcmp(data, "\0\1\2\3", 4) == 0);
    wo_store_release(store);
    end_folder();
}

int main(void) {
    a_folder_means_the_file_that_its_library_would_load();
    variants_of_an_index_are_found_in_both_spellings();
    a_named_file_is_taken_whatever_its_name();
    what_is_missing_or_no_file_is_said_with_its_path();
    shards_become_one_list_of_tensors();
    every_lie_of_an_index_is_refused();
    a_shard_may_itself_be_a_link();
    a_file_that_changes_while_open_is_noticed();
    a_file_replaced_by_rename_goes_on_being_the_old_one();
    CHECK(wo_memory_current() == 0);
    return 0;
}
