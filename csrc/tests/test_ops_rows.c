/* A row has the same bits however many there are, on every instruction set. */
#include "tests/op_rows.h"

int main(void) {
    op_open();
    CHECK_OK(wo_cpu_set_threads(2, &op_err), &op_err);
    for (int isa = 0; isa < WO_ISA_COUNT; isa++) {
        if (!wo_isa_supported((wo_isa)isa))
            continue;
        CHECK_OK(wo_cpu_force_isa((wo_isa)isa, &op_err), &op_err);
        op_where = wo_isa_name((wo_isa)isa);
        for (int i = 0; i < ROW_CASES; i++)
            test_rows_have_the_same_bits_alone_in_a_tail_and_in_any_batch(&row_cases[i]);
        for (int bf16 = 0; bf16 < 2; bf16++)
            test_a_head_has_the_same_bits_alone_as_among_others(bf16 ? WO_BF16 : WO_F32, 37);
        printf("rows on %s: ok\n", wo_isa_name((wo_isa)isa));
    }
    op_close();
    return 0;
}
