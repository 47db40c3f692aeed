#include "ops/check.h"

#define OP "embedding"

wo_status wo_embedding(wo_stream *s, const wo_embedding_args *args, wo_error *err) {
    WO_CHECK_TENSOR(table, 2, WO_IS_WEIGHT);
    WO_CHECK_TENSOR(ids, 1, WO_IS_I32);
    WO_CHECK_TENSOR(y, 2, WO_IS_COMPUTE);
    WO_CHECK_RULE(args->y.shape[0] == args->ids.shape[0], "y must have a row for each id", y, ids);
    WO_CHECK_RULE(args->y.shape[1] == args->table.shape[1], "y must have the width of table", y, table);
    WO_CHECK_APART(y, table);
    WO_CHECK_APART(y, ids);
    WO_CHECK_DISPATCH(embedding);
}
