/* What is known of cards. Of one that is there the driver says all but the rates, which are looked up by its name. */
#include "device/cuda/device_impl.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef struct known_card {
    const char *key;
    wo_cuda_properties properties;
} known_card;

#define MIB(n) ((uint64_t)(n) << 20)

/* Memory is what the driver shows of it, a little less than what is sold. Rates are NVIDIA's: dense bfloat16 with float32 sums, float32 outside tensor
 * cores, GB/s of the memory; of the link, what copies reach on it (PCIe 4 x16: 25, PCIe 5 x16: 55). */
static const known_card known_cards[] = {
    {"rtx3060", {"NVIDIA GeForce RTX 3060", 86, 28, 101376, MIB(12042), 2359296, 1777, 25.5, 12.7, 360, 25}},
    {"rtx3080", {"NVIDIA GeForce RTX 3080", 86, 68, 101376, MIB(10004), 5242880, 1710, 59.5, 29.8, 760, 25}},
    {"rtx3090", {"NVIDIA GeForce RTX 3090", 86, 82, 101376, MIB(24245), 6291456, 1695, 71, 35.6, 936, 25}},
    {"rtx4070", {"NVIDIA GeForce RTX 4070", 89, 46, 101376, MIB(11980), 37748736, 2475, 58.3, 29.1, 504, 25}},
    {"rtx4080", {"NVIDIA GeForce RTX 4080", 89, 76, 101376, MIB(16076), 67108864, 2505, 97.5, 48.7, 717, 25}},
    {"rtx4090", {"NVIDIA GeForce RTX 4090", 89, 128, 101376, MIB(24217), 75497472, 2520, 165.2, 82.6, 1008, 25}},
    {"rtx5080", {"NVIDIA GeForce RTX 5080", 120, 84, 101376, MIB(15840), 67108864, 2617, 112.6, 56.3, 960, 55}},
    {"rtx5090", {"NVIDIA GeForce RTX 5090", 120, 170, 101376, MIB(32100), 100663296, 2407, 209.5, 104.8, 1792, 55}},
    {"l40s", {"NVIDIA L40S", 89, 142, 101376, MIB(45460), 100663296, 2520, 362, 91.6, 864, 25}},
    {"a100", {"NVIDIA A100-SXM4-80GB", 80, 108, 166912, MIB(81040), 41943040, 1410, 312, 19.5, 2039, 25}},
    {"h100", {"NVIDIA H100 80GB HBM3", 90, 132, 232448, MIB(80990), 52428800, 1980, 989, 66.9, 3350, 55}},
    {"h200", {"NVIDIA H200", 90, 132, 232448, MIB(143150), 62914560, 1980, 989, 66.9, 4800, 55}},
};

enum { KNOWN_CARDS = sizeof known_cards / sizeof *known_cards };

const char *wo_cuda_card_name(int i) {
    return i >= 0 && i < KNOWN_CARDS ? known_cards[i].key : NULL;
}

/* "rtx4090", "RTX4090" and "4090" are one. */
static bool is_called(const char *key, const char *name) {
    return strcasecmp(key, name) == 0 || (strncmp(key, "rtx", 3) == 0 && strcmp(key + 3, name) == 0);
}

const char *wo_cuda_find_card(const char *name, wo_cuda_properties *out) {
    for (int i = 0; i < KNOWN_CARDS; i++) {
        if (!is_called(known_cards[i].key, name))
            continue;
        *out = known_cards[i].properties;
        return known_cards[i].key;
    }
    return NULL;
}

/* A card of nearly the same name (for laptops, with another memory) has other rates, so the whole name must agree. */
static void look_up_rates(wo_cuda_properties *p) {
    for (int i = 0; i < KNOWN_CARDS; i++) {
        const wo_cuda_properties *known = &known_cards[i].properties;
        if (strcmp(known->name, p->name) != 0)
            continue;
        p->bf16_tflops = known->bf16_tflops;
        p->f32_tflops = known->f32_tflops;
        p->memory_gbs = known->memory_gbs;
        p->link_gbs = known->link_gbs;
    }
}

static int32_t attribute(const wo_cuda_driver *driver, wo_cu_device card, int which, wo_cu_result *result) {
    int value = 0;
    const wo_cu_result r = driver->device_attribute(&value, which, card);
    if (r != WO_CU_SUCCESS)
        *result = r;
    return value;
}

wo_cu_result wo_cuda_read_properties(const wo_cuda_driver *driver, wo_cu_device card, wo_cuda_properties *out) {
    wo_cu_result result = WO_CU_SUCCESS, ignored;
    size_t bytes = 0;
    *out = (wo_cuda_properties){0};
    if ((result = driver->device_name(out->name, sizeof out->name, card)) != WO_CU_SUCCESS)
        return result;
    if ((result = driver->device_memory(&bytes, card)) != WO_CU_SUCCESS)
        return result;
    out->memory_bytes = bytes;
    out->sm = 10 * attribute(driver, card, WO_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &result) +
              attribute(driver, card, WO_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &result);
    out->multiprocessors = attribute(driver, card, WO_CU_ATTRIBUTE_MULTIPROCESSOR_COUNT, &result);
    out->shared_bytes = attribute(driver, card, WO_CU_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &result);
    out->l2_bytes = (uint64_t)attribute(driver, card, WO_CU_ATTRIBUTE_L2_CACHE_SIZE, &ignored);
    out->clock_mhz = attribute(driver, card, WO_CU_ATTRIBUTE_CLOCK_RATE, &ignored) / 1000;
    look_up_rates(out);
    return result;
}
