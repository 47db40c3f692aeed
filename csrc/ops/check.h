/* What the argument checks of all operations share.
 *
 * A wrong call is a bug of ours, so a check that fails is WO_EINTERNAL, and its message names the operation, the rule, and the
 * tensors that break it with their shapes and dtypes. Each op's file defines OP, its name in messages, and has `args` and `err`
 * in scope where it uses the macros. Checks look at shapes, dtypes and addresses only; they never read device memory.
 */
#ifndef WO_OPS_CHECK_H
#define WO_OPS_CHECK_H

#include "ops/ops.h"

/* Sets of dtypes, one bit each. WO_IS_COMPUTE is the set of the stream's device, with `s` in scope. */
#define WO_IS_COMPUTE (s->device->ops->computes)
enum {
    WO_IS_F32 = 1u << WO_F32,
    WO_IS_WEIGHT = 1u << WO_F32 | 1u << WO_BF16 | 1u << WO_F16,
    WO_IS_I32 = 1u << WO_I32
};

/* The tensor has data, the rank, one of the dtypes, no empty axis, and elements at their own alignment. */
wo_status wo_check_tensor(wo_error *err, const char *op, const char *name, const wo_tensor *t, int rank, unsigned dtypes);
/* The dtype of `name`, a plural, is one of the dtypes. */
wo_status wo_check_dtype(wo_error *err, const char *op, const char *name, wo_dtype dtype, unsigned dtypes);
/* The workspace is bytes (U8) and holds `needed` of them; it may be absent when nothing is needed. */
wo_status wo_check_workspace(wo_error *err, const char *op, const wo_tensor *workspace, size_t needed);
/* Always an error: "<op>: <rule>; <name> is [..] dtype, <other_name> is [..] dtype". other may be NULL. */
wo_status wo_check_refuse(wo_error *err, const char *op, const char *rule, const char *name, const wo_tensor *t,
                          const char *other_name, const wo_tensor *other);
/* Always an error: the device's table has no such operation. */
wo_status wo_check_unsupported(wo_error *err, const char *op, const wo_device *d);

static inline bool wo_check_given(const wo_tensor *t) {
    return t->data != NULL;
}
bool wo_check_same_shape(const wo_tensor *a, const wo_tensor *b);
/* True when the two tensors share a byte. Absent tensors share nothing. */
bool wo_check_overlap(const wo_tensor *a, const wo_tensor *b);
/* True when the two are apart, or are one and the same memory in one dtype, as an op that works in place allows. */
bool wo_check_apart_or_same(const wo_tensor *a, const wo_tensor *b);

#define WO_CHECK_TENSOR(name, rank, dtypes) WO_TRY(wo_check_tensor(err, OP, #name, &args->name, (rank), (dtypes)))
#define WO_CHECK_OPTIONAL(name, rank, dtypes)      \
    do {                                           \
        if (wo_check_given(&args->name))           \
            WO_CHECK_TENSOR(name, rank, dtypes);   \
    } while (0)
/* The rule about tensors a and b of args holds. */
#define WO_CHECK_RULE(condition, rule, a, b)                                            \
    do {                                                                                \
        if (!(condition))                                                               \
            return wo_check_refuse(err, OP, (rule), #a, &args->a, #b, &args->b);        \
    } while (0)
/* bfloat16 and float16 do not meet in one call: a device has each beside float32. */
static inline bool wo_check_mixed(wo_dtype a, wo_dtype b) {
    return (a == WO_BF16 && b == WO_F16) || (a == WO_F16 && b == WO_BF16);
}
#define WO_CHECK_NOT_MIXED(a, b) \
    WO_CHECK_RULE(!wo_check_mixed(args->a.dtype, args->b.dtype), #a " and " #b " must not be bfloat16 and float16", a, b)
#define WO_CHECK_APART(a, b) WO_CHECK_RULE(!wo_check_overlap(&args->a, &args->b), #a " and " #b " must not overlap", a, b)

/* Whether the device's table reaches as far as the entry and has it. */
#define WO_CHECK_HAS(d, entry)                                                                          \
    ((d)->ops->size >= offsetof(wo_ops_api, entry) + sizeof(((wo_ops_api *)0)->entry) && (d)->ops->entry != NULL)
/* The last step of every op: hands the checked call to the stream's device. */
#define WO_CHECK_DISPATCH(op)                                       \
    do {                                                            \
        if (!WO_CHECK_HAS(s->device, op))                           \
            return wo_check_unsupported(err, OP, s->device);        \
        return s->device->ops->op(s, args, err);                    \
    } while (0)

#endif
