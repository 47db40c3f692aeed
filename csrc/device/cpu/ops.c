/* The table of operations: each entry copies its arguments into the stream's queue, and the stream's thread later calls the kernel of the
 * instruction set in use. */
#include "device/cpu/internal.h"

#define ENQUEUE(op)                                                                                         \
    static wo_status enqueue_##op(wo_stream *s, const wo_##op##_args *args, wo_error *err) {                \
        if (wo_cpu_table()->op == NULL)                                                                     \
            WO_FAIL(err, WO_EUNSUPPORTED, "the cpu device has no kernel for " #op);                         \
        const wo_cpu_command command = {.kind = WO_CPU_OP_##op, .u.op = *args};                             \
        return wo_cpu_enqueue(s, &command, err);                                                            \
    }
WO_OP_LIST(ENQUEUE)
#undef ENQUEUE

wo_status wo_cpu_op_execute(wo_cpu_device *d, const wo_cpu_command *command) {
    wo_cancel *cancel = atomic_load_explicit(&d->cancel, memory_order_acquire);
    const wo_cpu_kernels *table = wo_cpu_table();
    switch (command->kind) {
#define EXECUTE(op)         \
    case WO_CPU_OP_##op:    \
        return table->op(d->pool, cancel, &command->u.op);
        WO_OP_LIST(EXECUTE)
#undef EXECUTE
    default:
        return WO_EINTERNAL;
    }
}

static size_t attention_workspace(const wo_device *d, const wo_attention_args *args) {
    (void)d;
    return wo_cpu_table()->attention_workspace(args);
}

static size_t conv_workspace(const wo_device *d, const wo_conv_args *args) {
    (void)d;
    return wo_cpu_table()->conv_workspace(args);
}

static size_t linear_workspace(const wo_device *d, const wo_linear_args *args) {
    (void)d;
    return wo_cpu_table()->linear_workspace(args);
}

const wo_ops_api wo_cpu_ops_api = {
    .version = WO_DEVICE_ABI,
    .size = sizeof(wo_ops_api),
    .computes = 1u << WO_F32 | 1u << WO_BF16, /* float16 is widened where it rests in a weight, and is nothing else here */
    .rows_apart = 1u << WO_OP_linear | 1u << WO_OP_attention,
#define ENTRY(op) .op = enqueue_##op,
    WO_OP_LIST(ENTRY)
#undef ENTRY
    .attention_workspace = attention_workspace,
    .conv_workspace = conv_workspace,
    .linear_workspace = linear_workspace,
};
