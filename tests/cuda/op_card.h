/* Runs the calls of csrc/tests/op_call.h on the fake card. Every tensor of a test goes into an allocation of its own, of exactly its bytes, so that
 * whatever a kernel touches beside it is found; every pointer among the arguments that leads into a tensor becomes the card's address of it. */
#ifndef WO_TESTS_CUDA_OP_CARD_H
#define WO_TESTS_CUDA_OP_CARD_H

#include "device/cuda/internal.h"
#include "fakecuda/fakecuda.h"
#include "tests/op_call.h"

static const fakecuda_api *card;
/* Tensors begin one element behind a multiple of 256 bytes instead of at one, where nothing can be read in pieces of 16 bytes. */
static bool card_shifts;

typedef struct card_copy {
    wo_cu_ptr base, address; /* of op_tensors[i] on the card */
} card_copy;
static card_copy card_copies[OP_MAX_BLOCKS];

static inline const wo_cuda_driver *card_driver(void) {
    return ((const wo_cuda_device *)op_device)->driver;
}

static inline void card_check(wo_cu_result r, int line) {
    if (r != WO_CU_SUCCESS) {
        fprintf(stderr, "%s:%d: the driver says %d: %s\n", __FILE__, line, r, card->message());
        exit(1);
    }
}
#define CARD(call) card_check((call), __LINE__)

static inline void card_upload(int i) {
    const wo_tensor *t = &op_tensors[i];
    const size_t shift = card_shifts ? wo_dtype_size(t->dtype) : 0;
    CARD(card_driver()->memory_alloc(&card_copies[i].base, wo_tensor_bytes(t) + shift));
    card_copies[i].address = card_copies[i].base + shift;
    CHECK_OK(op_device->stream->copy(op_stream, (void *)(uintptr_t)card_copies[i].address, t->data, wo_tensor_bytes(t), &op_err), &op_err);
}

/* The card's address of a byte of some tensor; 0: of none. */
static inline wo_cu_ptr card_address(uintptr_t p) {
    for (int i = 0; i < op_block_count; i++) {
        uintptr_t begin = (uintptr_t)op_tensors[i].data;
        if (p >= begin && p < begin + wo_tensor_bytes(&op_tensors[i]))
            return card_copies[i].address + (p - begin);
    }
    return 0;
}

static inline op_call card_call(const op_call *call) {
    op_call there = *call;
    uintptr_t words[sizeof there.a / sizeof(uintptr_t)];
    memcpy(words, &there.a, sizeof words);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (card_address(words[i]) != 0)
            words[i] = (uintptr_t)card_address(words[i]);
    memcpy(&there.a, words, sizeof words);
    return there;
}

static inline wo_cu_ptr card_add_workspace(op_call *there) {
    size_t bytes = 0;
    wo_cu_ptr base = 0;
    wo_tensor *workspace = NULL;
    if (there->c->op == OP_attention) {
        bytes = wo_attention_workspace(op_device, &there->a.attention);
        workspace = &there->a.attention.workspace;
    } else if (there->c->op == OP_conv) {
        bytes = wo_conv_workspace(op_device, &there->a.conv);
        workspace = &there->a.conv.workspace;
    } else if (there->c->op == OP_linear) {
        bytes = wo_linear_workspace(op_device, &there->a.linear);
        workspace = &there->a.linear.workspace;
    }
    if (bytes > 0) {
        CARD(card_driver()->memory_alloc(&base, bytes));
        *workspace = wo_tensor_of((void *)(uintptr_t)base, WO_U8, (int64_t)bytes);
    }
    return base;
}

static inline void card_describe_failure(const op_call *call) {
    char text[256];
    op_describe(call->c, text, sizeof text);
    fprintf(stderr, "%s: %s (%s)\n", text, op_err.message, card->message());
    exit(1);
}

static void card_run(op_call *call) {
    for (int i = 0; i < op_block_count; i++)
        card_upload(i);
    op_call there = card_call(call);
    wo_cu_ptr workspace = card_add_workspace(&there);
    if (op_enqueue(&there, &op_err) != WO_OK)
        card_describe_failure(call);
    for (int i = 0; i < call->outs; i++) {
        const void *out = (const void *)(uintptr_t)card_address((uintptr_t)call->out[i].data);
        CHECK_OK(op_device->stream->copy(op_stream, call->out[i].data, out, wo_tensor_bytes(&call->out[i]), &op_err), &op_err);
    }
    if (op_device->stream->sync(op_stream, &op_err) != WO_OK)
        card_describe_failure(call);
    for (int i = 0; i < op_block_count; i++)
        CARD(card_driver()->memory_free(card_copies[i].base));
    if (workspace != 0)
        CARD(card_driver()->memory_free(workspace));
}

/* target: 80 or 120. Own kernels only. */
static inline void card_open(int target) {
    card = fakecuda();
    card->reset();
    card->set_target(target);
    wo_cuda_set_own_kernels_only(true);
    op_run_elsewhere = card_run;
    CHECK_OK(wo_device_open("cuda", &op_device, &op_err), &op_err);
    CHECK_OK(op_device->stream->create(op_device, "compute", &op_stream, &op_err), &op_err);
}

/* Nothing may be left, and nothing may have been done that only seems to work. */
static inline void card_close(void) {
    op_release_all();
    op_device->stream->destroy(op_stream);
    wo_device_close(op_device);
    CHECK(card->misuses() == 0);
    for (int kind = 0; kind < FAKECUDA_KINDS; kind++)
        CHECK(card->live((fakecuda_kind)kind) == 0);
}

#endif
