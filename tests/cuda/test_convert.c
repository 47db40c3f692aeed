/* The conversion of params on the card against wo_convert, bit for bit: every value that a dtype has or where a rounding turns, every alignment of
 * source and target, pinned host memory and device memory, and sizes from one element to several rounds of the grid. What lies beside the
 * target stays as it was, and a source that ends with its allocation is not read beyond. */
#include "base/convert.h"
#include "device/cuda/internal.h"
#include "fakecuda/fakecuda.h"
#include "tests/check.h"

#include <math.h>

enum { ROOM = 1 << 20 }; /* bytes of each buffer */

static wo_device *device;
static wo_stream *stream;
static wo_error err;
static unsigned char *on_device, *pinned, *target_bytes; /* the card's: two sources, of which one is host memory */
static unsigned char *wanted, *found;              /* what the target must hold, and what it holds */

static const wo_dtype FROM[] = {WO_F32, WO_BF16, WO_F16, WO_F64, WO_F8_E4M3}, TO[] = {WO_F32, WO_BF16, WO_F16};
enum { FROMS = 5, TOS = 3 };

static uint64_t seed = 1;

static uint32_t draw(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}

static void fill(unsigned char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)draw();
}

static void copy(void *dst, const void *src, size_t bytes) {
    CHECK_OK(device->stream->copy(stream, dst, src, bytes, &err), &err);
    CHECK_OK(device->stream->sync(stream, &err), &err);
}

/* Converts count elements from `source`, which lies on the card and is also at `host`, to element `first` of the target. */
static void check(const wo_conversion *c, const unsigned char *source, const unsigned char *host, int64_t first, int64_t count) {
    size_t out = wo_dtype_size(c->to), end = (size_t)(first + count) * out;
    size_t shown = end + 64 < ROOM ? end + 64 : ROOM;
    CHECK(end <= ROOM);
    memset(wanted, 0xff, shown);
    wo_convert(c, wanted + (size_t)first * out, host, count);
    CHECK_OK(device->stream->poison(stream, target_bytes, shown, &err), &err);
    CHECK_OK(device->stream->convert(stream, c, target_bytes + (size_t)first * out, source, count, &err), &err);
    copy(found, target_bytes, shown);
    for (size_t i = 0; i < shown; i++)
        if (found[i] != wanted[i]) {
            fprintf(stderr, "%s to %s, layout %d, %lld channels, %lld taps, scale %g, source at %zu modulo 128, element %lld of the target, %lld elements: "
                    "byte %zu behind the first is %02x and not %02x\n", wo_dtype_name(c->from), wo_dtype_name(c->to), (int)c->layout, (long long)c->channels,
                    (long long)c->taps, (double)c->scale, (size_t)((uintptr_t)source % 128), (long long)first, (long long)count,
                    i - (size_t)first * out, found[i], wanted[i]);
            exit(1);
        }
}

/* The same from `bytes` at place `shift` of pinned memory and of device memory, in turn. */
static void check_from(const wo_conversion *c, const void *bytes, size_t shift, int64_t first, int64_t count) {
    static unsigned turn;
    size_t in = (size_t)count * wo_dtype_size(c->from);
    CHECK(shift + in <= ROOM);
    unsigned char *source = (turn++ % 2 == 0 ? pinned : on_device) + shift;
    copy(source, bytes, in);
    check(c, source, bytes, first, count);
}

static void check_to_all(wo_dtype from, const void *bytes, int64_t count) {
    for (size_t t = 0; t < TOS; t++)
        if (TO[t] != from)
            check_from(&(wo_conversion){.from = from, .to = TO[t]}, bytes, 1, 0, count);
}

static void every_16_bit_value_is_the_hosts(void) {
    static uint16_t all[65536];
    for (unsigned i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    check_to_all(WO_BF16, all, 65536);
    check_to_all(WO_F16, all, 65536);
}

static void every_8_bit_code_is_the_hosts_with_every_scale(void) {
    static const float scales[] = {1, 0, -0.0f, 2, -1, 0.0123456789f, 1 / 448.0f, 1.00000012f, 3e-5f, 0x1p-100f, -0x1.FFFFFEp-100f, 0x1p100f, 7e4f};
    unsigned char all[256];
    for (unsigned i = 0; i < 256; i++)
        all[i] = (unsigned char)i;
    check_to_all(WO_F8_E4M3, all, 256);
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++)
        for (size_t t = 0; t < TOS; t++)
            check_from(&(wo_conversion){.from = WO_F8_E4M3, .to = TO[t], .scaled = true, .scale = scales[s]}, all, 3, 0, 256);
}

/* Values of both 16-bit dtypes and the middles to the next ones, each with its neighbours in float32: that is where roundings turn. */
enum { TURNS = 4 * 3 * 8192 };

static void make_turns(float *turns) {
    int n = 0;
    for (unsigned i = 0; i < 65536; i += 8) {
        unsigned value = i + (i >> 3 & 1); /* even and odd in turn */
        float half = wo_f16_to_f32((uint16_t)value), next = wo_f16_to_f32((uint16_t)(value + 1)), at[2] = {half, half + (next - half) / 2};
        uint32_t bits[4] = {value << 16, value << 16 | 0x8000u, 0, 0};
        memcpy(bits + 2, at, sizeof at);
        for (int k = 0; k < 4; k++)
            for (uint32_t step = 0; step < 3; step++, n++) {
                uint32_t near = bits[k] + step - 1;
                memcpy(&turns[n], &near, 4);
            }
    }
    CHECK(n == TURNS);
}

static void every_float32_near_a_turn_is_the_hosts(void) {
    static float turns[TURNS];
    make_turns(turns);
    check_to_all(WO_F32, turns, TURNS);
    for (int i = 0; i < TURNS; i++) {
        uint32_t bits = (uint32_t)i * 65521u * 16u + (uint32_t)i; /* a walk through all floats */
        memcpy(&turns[i], &bits, 4);
    }
    check_to_all(WO_F32, turns, TURNS);
}

static void every_float64_near_a_turn_is_the_hosts(void) {
    static float turns[TURNS];
    static double wide[TURNS];
    make_turns(turns);
    for (int i = 0; i < TURNS; i++) {
        double x = turns[i];
        wide[i] = i % 4 == 0 ? x : i % 4 == 1 ? nextafter(x, INFINITY) : i % 4 == 2 ? x * (1 - 0x1p-25) : x * (1 + 0x1p-40);
    }
    static const double special[] = {1e300, -1e300, 0x1p128, -0x1p128, INFINITY, -INFINITY, 1e-320, -1e-320, 0x1p-149, 0x1p-150, 0x1.8p-150, -0x1p-1074,
                                     0.0, -0.0, 0x1.FFFFFFp127, 0x1.FFFFFEp127, 0x1.FFFFFEFFFFFFFp127, 65520, 65519.999999, -65520, 3e-8, 2.9802322387695312e-8};
    memcpy(wide, special, sizeof special);
    for (int i = 0; i < 64; i++) { /* NaNs: a bit in each place, quiet and not, of both signs */
        uint64_t bits = (i % 2 ? 0xFFF0000000000000u : 0x7FF0000000000000u) | UINT64_C(1) << i % 52 | (i % 3 ? 0 : UINT64_C(1) << 51);
        memcpy(&wide[100 + i], &bits, 8);
    }
    check_to_all(WO_F64, wide, TURNS);
}

static void rows_convert_at_any_alignment_and_length(void) {
    unsigned char *bytes = malloc(ROOM);
    CHECK(bytes != NULL);
    fill(bytes, ROOM);
    for (size_t f = 0; f < FROMS; f++)
        for (size_t t = 0; t < TOS; t++) {
            const wo_conversion c = {.from = FROM[f], .to = TO[t]};
            size_t in = wo_dtype_size(c.from);
            for (int n = 0; n < 40; n++) {
                int64_t first = draw() % 17, count = n < 36 ? draw() % 70 : draw() % 3000;
                size_t shift = n < 32 ? (size_t)n : draw() % 400; /* each place in the widest word, and then places in lines */
                check_from(&c, bytes, shift, first, count);
                check_from(&c, bytes, ROOM - (size_t)count * in, first, count); /* ends with the allocation */
            }
        }
    free(bytes);
}

/* A card of one multiprocessor has so few blocks that each goes round several times. */
static void a_small_card_converts_a_large_param_in_rounds(void) {
    wo_cuda_device *d = (wo_cuda_device *)device;
    int32_t multiprocessors = d->properties.multiprocessors;
    unsigned char *bytes = malloc(ROOM);
    CHECK(bytes != NULL);
    fill(bytes, ROOM);
    d->properties.multiprocessors = 1;
    check_from(&(wo_conversion){.from = WO_F32, .to = WO_BF16}, bytes, 2, 3, 50000);
    check_from(&(wo_conversion){.from = WO_F8_E4M3, .to = WO_F32}, bytes, 5, 1, 50001);
    check_from(&(wo_conversion){.from = WO_F32, .to = WO_F16, .layout = WO_LAYOUT_TAPS_OUTSIDE, .channels = 700, .taps = 27}, bytes, 2, 3, 2 * 700 * 27);
    d->properties.multiprocessors = multiprocessors;
    free(bytes);
}

/* [O, I, taps] -> [O, taps, I], with tiles that divide evenly and that do not, and more taps than a tile holds. */
static void taps_go_outside(void) {
    static const int64_t shapes[][3] = {{2, 1, 27}, {2, 3, 1}, {3, 5, 3}, {2, 64, 27}, {1, 1500, 9}, {2, 7, 2000}, {1, 2, 17000}, {4, 384, 4}, {5, 16, 1}};
    unsigned char *bytes = malloc(ROOM);
    CHECK(bytes != NULL);
    fill(bytes, ROOM);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t pair = 0; pair < FROMS * TOS; pair++) {
            wo_conversion c = {.from = FROM[pair / TOS], .to = TO[pair % TOS], .layout = WO_LAYOUT_TAPS_OUTSIDE, .channels = shapes[s][1], .taps = shapes[s][2]};
            int64_t count = shapes[s][0] * c.channels * c.taps;
            check_from(&c, bytes, draw() % 64, draw() % 9, count);
            check_from(&c, bytes, ROOM - (size_t)count * wo_dtype_size(c.from), 0, count);
        }
    free(bytes);
}

static void with_a_card(int target, uint64_t schedule) {
    const fakecuda_api *card = fakecuda();
    void *device_source, *host_source, *device_target;
    card->reset();
    card->set_target(target);
    card->set_seed(schedule, 0);
    CHECK_OK(wo_device_open("cuda", &device, &err), &err);
    CHECK_OK(device->stream->create(device, "copy", &stream, &err), &err);
    CHECK_OK(device->memory->alloc(device, ROOM, "source", &device_source, &err), &err);
    CHECK_OK(device->memory->host_alloc(device, ROOM, "pinned source", &host_source, &err), &err);
    CHECK_OK(device->memory->alloc(device, ROOM, "target", &device_target, &err), &err);
    on_device = device_source;
    pinned = host_source;
    target_bytes = device_target;
    every_16_bit_value_is_the_hosts();
    every_8_bit_code_is_the_hosts_with_every_scale();
    every_float32_near_a_turn_is_the_hosts();
    every_float64_near_a_turn_is_the_hosts();
    rows_convert_at_any_alignment_and_length();
    a_small_card_converts_a_large_param_in_rounds();
    taps_go_outside();
    device->memory->release(device, device_source);
    device->memory->host_release(device, host_source);
    device->memory->release(device, device_target);
    device->stream->destroy(stream);
    wo_device_close(device);
    CHECK(card->kernel("wo_convert_rows").launches > 0 && card->kernel("wo_convert_taps").launches > 0);
    CHECK(card->misuses() == 0);
}

int main(void) {
    wanted = malloc(ROOM);
    found = malloc(ROOM);
    CHECK(wanted != NULL && found != NULL);
    with_a_card(80, 0);
    with_a_card(120, 1);
    free(wanted);
    free(found);
    return 0;
}
