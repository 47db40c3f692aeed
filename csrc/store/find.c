/* What a folder means. The libraries that write these folders differ in two ways that are followed here: the name of the
 * file (diffusers: diffusion_pytorch_model, transformers: model), and which of a single file and an index wins when both
 * are there (diffusers: the index). A variant stands before the last extension: model.fp16.safetensors, and for an index
 * either model.safetensors.index.fp16.json or model.fp16.safetensors.index.json. */
#include "base/memory.h"
#include "store/file.h"
#include "store/index.h"
#include "store/json.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char SINGLE[] = ".safetensors", INDEX[] = ".safetensors.index.json";
static const char *const STEMS[] = {"diffusion_pytorch_model", "model"};

/* What was seen in a folder. The names are file names, which Linux keeps below 256 bytes. */
typedef struct sighting {
    char exact[2][2][256]; /* [stem][is index] */
    char variant[256];     /* the first in order of name */
    bool variant_is_index;
    int variants;
    char other[256];       /* some other .safetensors, for the message */
} sighting;

static bool ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* A variant is one word; "00001-of-00003" in it marks a shard, which is found through its index. */
static bool is_variant(const char *word, size_t length) {
    return length > 0 && memchr(word, '.', length) == NULL && memmem(word, length, "-of-", 4) == NULL;
}

/* Is name = stem.VARIANT.safetensors, or an index with a variant in either place? */
static bool has_variant(const char *name, const char *stem, bool *is_index) {
    size_t begin = strlen(stem), length = strlen(name);
    if (strncmp(name, stem, begin) != 0 || name[begin] != '.')
        return false;
    static const char LATE[] = ".safetensors.index.";
    size_t late = sizeof LATE - 1, json = sizeof ".json" - 1;
    *is_index = ends_with(name, ".json");
    if (strncmp(name + begin, LATE, late) == 0 && *is_index && length > begin + late + json)
        return is_variant(name + begin + late, length - begin - late - json);
    const char *end = *is_index ? INDEX : SINGLE;
    return ends_with(name, end) && length > begin + 1 + strlen(end) &&
           is_variant(name + begin + 1, length - begin - 1 - strlen(end));
}

static void note(sighting *seen, const char *name) {
    if (strlen(name) >= sizeof seen->other)
        return;
    if (ends_with(name, SINGLE) && (seen->other[0] == '\0' || strcmp(name, seen->other) < 0))
        strcpy(seen->other, name);
    for (int s = 0; s < 2; s++) {
        size_t stem = strlen(STEMS[s]);
        bool is_index = false;
        if (strncmp(name, STEMS[s], stem) == 0 && (strcmp(name + stem, SINGLE) == 0 || strcmp(name + stem, INDEX) == 0)) {
            strcpy(seen->exact[s][ends_with(name, ".json")], name);
        } else if (has_variant(name, STEMS[s], &is_index)) {
            seen->variants++;
            if (seen->variants == 1 || strcmp(name, seen->variant) < 0) {
                strcpy(seen->variant, name);
                seen->variant_is_index = is_index;
            }
        }
    }
}

static wo_status look_into(const char *folder, sighting *seen, wo_error *err) {
    DIR *open_folder = opendir(folder);
    if (open_folder == NULL)
        return wo_error_set_os(err, WO_EOS, errno, folder, "cannot open the folder %s: %s", wo_path_tail(folder),
                               strerror(errno));
    for (struct dirent *entry; (entry = readdir(open_folder)) != NULL;)
        note(seen, entry->d_name);
    closedir(open_folder);
    return WO_OK;
}

static const char *choose(const sighting *seen, bool *is_index) {
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < 2; i++) {
            *is_index = s == 0 ? i == 0 : i == 1;
            if (seen->exact[s][*is_index][0] != '\0')
                return seen->exact[s][*is_index];
        }
    }
    *is_index = seen->variant_is_index;
    return seen->variants == 1 ? seen->variant : NULL;
}

static wo_status nothing_chosen(const char *folder, const sighting *seen, wo_error *err) {
    const char *shown = wo_path_tail(folder);
    if (seen->variants > 1)
        WO_BAD_FILE(err, folder, "%s holds %d variants of the weights and no plain one; give the path of the one that is "
                    "meant, for instance %s", shown, seen->variants, seen->variant);
    bool other = seen->other[0] != '\0';
    WO_BAD_FILE(err, folder, "%s holds neither diffusion_pytorch_model nor model as .safetensors or "
                ".safetensors.index.json. %s%s", shown,
                other ? "If its weights have another name, give the file's path, for instance "
                      : "Check the path, or download the weights in safetensors format.",
                other ? seen->other : "");
}

wo_status wo_path_beside(const char *path, const char *name, char **out, wo_error *err) {
    const char *slash = strrchr(path, '/');
    size_t folder = slash != NULL ? (size_t)(slash - path) + 1 : 0, bytes = folder + strlen(name) + 1;
    void *joined;
    *out = NULL;
    WO_TRY(wo_memory_acquire(bytes, "the name of a checkpoint file", &joined, err));
    memcpy(joined, path, folder);
    strcpy((char *)joined + folder, name);
    *out = joined;
    return WO_OK;
}

static wo_status inside(const char *folder, const char *name, char **out, wo_error *err) {
    size_t length = strlen(folder);
    void *joined;
    WO_TRY(wo_memory_acquire(length + strlen(name) + 2, "the name of a checkpoint file", &joined, err));
    *out = joined;
    sprintf(joined, "%s%s%s", folder, length > 0 && folder[length - 1] == '/' ? "" : "/", name);
    return WO_OK;
}

wo_status wo_checkpoint_find(const char *path, char **found, bool *is_index, wo_error *err) {
    struct stat info;
    *found = NULL;
    if (stat(path, &info) != 0)
        return wo_error_set_os(err, WO_EOS, errno, path, "cannot open %s: %s", wo_path_tail(path), strerror(errno));
    if (!S_ISDIR(info.st_mode)) {
        const char *slash = strrchr(path, '/');
        *is_index = ends_with(path, ".json");
        return wo_path_beside(path, slash != NULL ? slash + 1 : path, found, err);
    }
    sighting seen = {.variants = 0};
    WO_TRY(look_into(path, &seen, err));
    const char *chosen = choose(&seen, is_index);
    return chosen != NULL ? inside(path, chosen, found, err) : nothing_chosen(path, &seen, err);
}
