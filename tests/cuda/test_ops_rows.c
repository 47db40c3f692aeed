/* A row has the same bits however many there are, on own kernels and for both targets. */
#include "op_card.h"
#include "tests/op_rows.h"

int main(void) {
    for (int target = 80; target <= 120; target += 40) {
        card_open(target);
        op_where = target == 80 ? "compute_80" : "compute_120";
        for (int i = 0; i < ROW_CASES; i++)
            test_rows_have_the_same_bits_alone_in_a_tail_and_in_any_batch(&row_cases[i]);
        for (int bf16 = 0; bf16 < 2; bf16++)
            test_a_head_has_the_same_bits_alone_as_among_others(bf16 ? WO_BF16 : WO_F32, 37);
        card_close();
        printf("rows on %s: ok\n", op_where);
    }
    return 0;
}
