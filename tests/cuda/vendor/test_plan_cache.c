/* Plans on disk: whole ones are found again, and everything else counts as absent and is written over. */
#include "device/cuda/vendor.h"
#include "tests/check.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/wanoffload-plans-XXXXXX";
static char folder[512];

static const char key[] = "cudnn 92801 nvrtc 1305 sm_89 x 128, a card, attention bf16 queries 1 keys 2 heads 3 head_dim 64";

static wo_plan_record record(const char *at, char *text, size_t bytes) {
    wo_plan_record r = {.choice = "engine 8, knobs 40=2 41=1", .workspace = 256, .text = text, .bytes = bytes};
    snprintf(r.key, sizeof r.key, "%s", at);
    return r;
}

static bool present(const char *at) {
    wo_plan_record r;
    bool found = wo_plan_cache_load(at, &r);
    CHECK(found == (r.text != NULL));
    free(r.text);
    return found;
}

/* The one file of the folder. */
static void find_file(char *path, size_t bytes) {
    DIR *d = opendir(folder);
    int files = 0;
    CHECK(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            snprintf(path, bytes, "%s/%.200s", folder, e->d_name);
            files++;
        }
    closedir(d);
    CHECK(files == 1); /* nothing is left beside it */
}

static void a_plan_comes_back_as_it_was(void) {
    char text[] = "{\"kernel\":\"\n\0\xff\"}";
    wo_plan_record r = record(key, text, sizeof text), found;
    CHECK(!present(key));
    wo_plan_cache_store(&r);
    CHECK(wo_plan_cache_load(key, &found));
    CHECK(strcmp(found.key, key) == 0 && strcmp(found.choice, r.choice) == 0 && found.workspace == 256);
    CHECK(found.bytes == sizeof text && memcmp(found.text, text, sizeof text) == 0 && found.text[found.bytes] == '\0');
    free(found.text);
    CHECK(!present("cudnn 91900 of another version"));
}

static size_t read_file(const char *path, char *data, size_t bytes) {
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    size_t n = fread(data, 1, bytes, f);
    fclose(f);
    return n;
}

static void write_file(const char *path, const char *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL && fwrite(data, 1, bytes, f) == bytes && fclose(f) == 0);
}

static void every_byte_counts(void) {
    char path[1024], good[1024], bad[1024];
    find_file(path, sizeof path);
    size_t n = read_file(path, good, sizeof good);
    CHECK(n > 100 && n < sizeof good);
    /* What was chosen and the workspace are for reports; the text, which is run, and what it is for are what must be right. */
    const char *choice = strchr(strchr(good, '\n') + 1, '\n') + 1, *numbers = strchr(choice, '\n') + 1;
    for (size_t i = 0; i < n; i++) {
        memcpy(bad, good, n);
        bad[i] ^= 1;
        write_file(path, bad, n);
        if (good + i < choice || good + i > strchr(numbers, ' '))
            CHECK(!present(key));
    }
    for (size_t length = 0; length < n; length++) {
        write_file(path, good, length);
        CHECK(!present(key));
    }
    memcpy(bad, good, n);
    bad[n] = 'x';
    write_file(path, bad, n + 1);
    CHECK(!present(key));
    write_file(path, good, n);
    CHECK(present(key));
}

static void a_file_that_others_may_write_is_not_believed(void) {
    char path[1024];
    find_file(path, sizeof path);
    CHECK(chmod(path, 0666) == 0);
    CHECK(!present(key));
    CHECK(chmod(path, 0600) == 0);
    CHECK(present(key));
}

static void a_new_plan_replaces_a_broken_one(void) {
    char path[1024], text[] = "anew";
    wo_plan_record r = record(key, text, 4);
    find_file(path, sizeof path);
    write_file(path, "rubbish", 7);
    CHECK(!present(key));
    wo_plan_cache_store(&r);
    CHECK(present(key));
    find_file(path, sizeof path);
}

static void without_a_place_nothing_is_kept(void) {
    char text[] = "text", place[64] = "x";
    wo_plan_record r = record(key, text, 4);
    CHECK(setenv("XDG_CACHE_HOME", "relative", 1) == 0 && setenv("HOME", "", 1) == 0);
    wo_plan_cache_folder(place, sizeof place);
    CHECK(place[0] == '\0');
    wo_plan_cache_store(&r);
    CHECK(!present(key));
    CHECK(setenv("XDG_CACHE_HOME", "/dev/null", 1) == 0); /* no folder can be made there */
    wo_plan_cache_store(&r);
    CHECK(!present(key));
    CHECK(setenv("HOME", "/nobody", 1) == 0 && unsetenv("XDG_CACHE_HOME") == 0);
    wo_plan_cache_folder(place, sizeof place);
    CHECK(strcmp(place, "/nobody/.cache/wanoffload/cudnn") == 0);
}

int main(void) {
    CHECK(mkdtemp(root) != NULL);
    CHECK(setenv("XDG_CACHE_HOME", root, 1) == 0);
    wo_plan_cache_folder(folder, sizeof folder);
    a_plan_comes_back_as_it_was();
    every_byte_counts();
    a_file_that_others_may_write_is_not_believed();
    a_new_plan_replaces_a_broken_one();
    char path[1024];
    find_file(path, sizeof path);
    CHECK(unlink(path) == 0 && rmdir(folder) == 0);
    snprintf(path, sizeof path, "%s/wanoffload", root);
    CHECK(rmdir(path) == 0 && rmdir(root) == 0);
    without_a_place_nothing_is_kept();
    printf("plan cache: ok\n");
    return 0;
}
