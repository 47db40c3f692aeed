/* Attention: what its host code and its kernels share. */
#ifndef WO_DEVICE_CUDA_KERNELS_ATTENTION_H
#define WO_DEVICE_CUDA_KERNELS_ATTENTION_H

#include <stdint.h>

enum {
    WO_CUDA_ATTENTION_BORDERS = 255, /* so a relative bias may have up to 1024 buckets */
    WO_CUDA_ATTENTION_KEYS = 64,     /* keys that are in work at a time, in every kernel: the order of sums follows from it */
    WO_CUDA_ATTENTION_COLUMNS = 128  /* of o, that a block makes */
};

/* o = softmax(q k^T * scale + bias) v. q, o: [queries, heads, head_dim]; k, v: [keys, heads, head_dim]. Scores are kept in units of log2. */
typedef struct wo_cuda_attention_args {
    const void *q, *k, *v; /* float32, bfloat16 or float16, as the kernel says */
    void *o;
    const float *relative; /* [2 * half, heads] or NULL */
    int32_t queries, keys, heads, head_dim;
    int32_t o_dtype;       /* WO_CUDA_F32 or that of q */
    int32_t aligned;       /* attention_bf16 and _f16: each row of q, k and v begins at a multiple of 16 bytes */
    float factor;          /* scale * log2(e) */
    float last_key_bias;   /* * log2(e) */
    int32_t last_biased;   /* something is to be done to some score of the last keys: a bias, or hiding what is behind them */
    /* Bucket of a distance |key - query|: itself below exact, else exact + how many borders it reaches; + half for keys behind the query. */
    int32_t half, exact, border_count;
    int32_t borders[WO_CUDA_ATTENTION_BORDERS];
} wo_cuda_attention_args;

/* Those of a head_dim, 64 or 128, take q, k and v in their dtype with everything at multiples of 16 bytes; the others take any. */
#define WO_CUDA_ATTENTION_LIST(X)       \
    X(attention, attention_bf16_64)     \
    X(attention, attention_bf16_128)    \
    X(attention, attention_bf16)        \
    X(attention, attention_f16_64)      \
    X(attention, attention_f16_128)     \
    X(attention, attention_f16)         \
    X(attention, attention_f32)

/* Launch sizes. The grid is (blocks of queries, heads, blocks of WO_CUDA_ATTENTION_COLUMNS columns); the tuned kernels make all columns. */
enum {
    WO_CUDA_ATTENTION_TUNED_QUERIES = 128,
    WO_CUDA_ATTENTION_TUNED_THREADS = 256,
    WO_CUDA_ATTENTION_HALF_QUERIES = 64,
    WO_CUDA_ATTENTION_HALF_THREADS = 128,
    WO_CUDA_ATTENTION_F32_QUERIES = 64,
    WO_CUDA_ATTENTION_F32_THREADS = 256
};

/* Dynamic shared memory: the queries, two stages of keys, two of values, and the relative biases of a tile, one for each difference. */
#define WO_CUDA_ATTENTION_BIAS_BYTES(queries) (((queries) + WO_CUDA_ATTENTION_KEYS) * 4)
#define WO_CUDA_ATTENTION_TUNED_SHARED(head_dim) \
    (((WO_CUDA_ATTENTION_TUNED_QUERIES) + 4 * WO_CUDA_ATTENTION_KEYS) * 2 * (head_dim) + WO_CUDA_ATTENTION_BIAS_BYTES(WO_CUDA_ATTENTION_TUNED_QUERIES))
/* Two stages of 128 columns of the queries and of the keys, and one of the values. */
#define WO_CUDA_ATTENTION_HALF_SHARED                                                                                          \
    ((2 * (WO_CUDA_ATTENTION_HALF_QUERIES + WO_CUDA_ATTENTION_KEYS) + WO_CUDA_ATTENTION_KEYS) * 2 * WO_CUDA_ATTENTION_COLUMNS + \
     WO_CUDA_ATTENTION_BIAS_BYTES(WO_CUDA_ATTENTION_HALF_QUERIES))

#endif
