/* Building blocks of the kernels that work in tiles: asynchronous copies into shared memory, fragments out of it, and the tensor cores'
 * product. What is here is of sm_80 and native on every later card.
 *
 *     global --tile_copy16--> shared, rows of 16-byte chunks --tile_load4--> fragments --tile_mma--> float32 sums
 *
 * A row of a tile is a multiple of 128 bytes, and chunk c of row r lies at chunk c ^ (r & 7): the eight rows of one 8 x 8 matrix, or eight
 * chunks of one row, are then in different banks.
 *
 * Fragments, with g = lane / 4 and t = lane % 4:
 *     A, 16 x 16   a[0] row g, columns 2t, 2t+1    a[1] row g + 8    a[2] row g, columns 2t+8, 2t+9    a[3] row g + 8, the same
 *     B, 16 x 8    b[0] rows 2t, 2t+1 of column g  b[1] rows 2t+8, 2t+9
 *     C, 16 x 8    c[0], c[1] row g, columns 2t, 2t+1    c[2], c[3] row g + 8, the same
 * Two neighbouring C tiles, packed in pairs, are an A. */
#ifndef WO_DEVICE_CUDA_KERNELS_TILE_CUH
#define WO_DEVICE_CUDA_KERNELS_TILE_CUH

#include "device/cuda/kernels/scalar.h"

#define TILE_INLINE static __device__ __forceinline__

enum { TILE_CHUNK = 16 }; /* bytes */

/* The address that the instructions on shared memory take. */
TILE_INLINE uint32_t tile_address(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}

/* --- copies ------------------------------------------------------------------------------------------------------------------- */

/* Copies 16 bytes past the first cache; where valid is false it writes zeros and reads nothing. Both addresses are multiples of 16. The
 * thread that copies sees the bytes after tile_wait, the others after a barrier behind that. */
TILE_INLINE void tile_copy16(uint32_t to, const void *from, bool valid) {
    int bytes = valid ? TILE_CHUNK : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

/* Closes the group of this thread's copies so far; a group may be empty. */
TILE_INLINE void tile_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most PENDING of this thread's latest groups are under way. */
template <int PENDING>
TILE_INLINE void tile_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* --- fragments ---------------------------------------------------------------------------------------------------------------- */

/* Where chunk `chunk` of row `row` lies in a tile whose rows have ROW_BYTES bytes. */
template <int ROW_BYTES>
TILE_INLINE uint32_t tile_offset(uint32_t row, uint32_t chunk) {
    static_assert(ROW_BYTES % 128 == 0, "a row must be eight chunks, or a multiple");
    return row * ROW_BYTES + (chunk ^ (row & 7)) * TILE_CHUNK;
}

/* Four 8 x 8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8, and gets in r[i] two elements of matrix i: of
 * row l / 4, from column 2 (l % 4). The whole warp takes part. */
TILE_INLINE void tile_load4(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* The same, each matrix transposed: of column l / 4, from row 2 (l % 4). */
TILE_INLINE void tile_load4_transposed(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* c += a b: 16 x 16 by 16 x 8 of the 16-bit dtype HALF, with float32 sums. The whole warp takes part. */
template <int HALF>
TILE_INLINE void tile_mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    static_assert(HALF == WO_CUDA_BF16 || HALF == WO_CUDA_F16, "tensor cores multiply 16-bit numbers here");
    if (HALF == WO_CUDA_BF16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* --- elements ----------------------------------------------------------------------------------------------------------------- */
/* `half` is WO_CUDA_BF16 or WO_CUDA_F16. Where it is known when the kernel is compiled, so is the way. */

/* Two floats in 16 bits each, rounded to nearest even: low in the lower half, which comes first in memory. What is too large for float16 becomes
 * infinite. */
TILE_INLINE uint32_t tile_pack(int half, float low, float high) {
    uint32_t pair;
    if (half == WO_CUDA_BF16)
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    else
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

TILE_INLINE uint16_t tile_narrow(int half, float x) {
    uint16_t narrow;
    if (half == WO_CUDA_BF16)
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow) : "f"(x));
    else
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow) : "f"(x));
    return narrow;
}

TILE_INLINE float tile_widen(int half, uint16_t narrow) {
    float x = __uint_as_float((uint32_t)narrow << 16);
    if (half != WO_CUDA_BF16)
        asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(narrow));
    return x;
}

/* 2^x to about two units in the last place; what is below the smallest normal number becomes 0. */
TILE_INLINE float tile_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Element i of an array of WO_CUDA_F32, or of any other dtype, which then is `half`. */
TILE_INLINE float tile_element(const void *array, int dtype, int half, int64_t i) {
    if (dtype == WO_CUDA_F32)
        return ((const float *)array)[i];
    return tile_widen(half, ((const uint16_t *)array)[i]);
}

/* Stores to such an array. */
TILE_INLINE void tile_store(void *array, int dtype, int half, int64_t i, float x) {
    if (dtype == WO_CUDA_F32)
        ((float *)array)[i] = x;
    else
        ((uint16_t *)array)[i] = tile_narrow(half, x);
}

#endif
