/* The streaming state of the VAE: for each causal convolution the last two frames that it read (one for a temporal downsampler).
 *
 * A frame is written where it will stay, and slots change their meaning instead of frames their place:
 *
 *     bank   | a.older | a.newer | b.older | b.newer | spare |        a's next frame goes to `spare`;
 *            | spare   | a.older | b.older | b.newer | a.newer |      then a's oldest slot is the spare one.
 *
 * Where the plan has the state rest on the host, a bank is host memory without a spare: the two past frames are copied to the device for
 * each call, and the newest frame replaces the oldest.
 */
#include "model/vae.h"

#include <string.h>

enum { KEEP_LEDGER, KEEP_BANK };

static bool on_host(const wo_vae_pass *p) {
    return wo_exec_knobs(p->x)->state_on_host;
}

/* The ledger before the first frame; a recording of a later pass supposes a past that is full. */
static void ledger_init(wo_vae_pass *p) {
    const wo_vae_network *m = p->m;
    for (int32_t i = 0; i < m->pasts; i++) {
        const wo_vae_place *place = &m->past[i];
        p->ledger.slots[i] = (wo_vae_slots){
            .older = place->first, .newer = place->first + place->kept - 1, .filled = p->first ? 0 : place->kept};
    }
    for (int32_t i = 0; i < m->banks; i++)
        p->ledger.spare[i] = on_host(p) ? -1 : m->bank[i].slots;
}

static wo_status ledger_keep(wo_vae_pass *p, wo_tensor *out, bool *fresh, wo_error *err) {
    int64_t bytes = sizeof p->ledger;
    return wo_exec_keep(p->x, (uint64_t)KEEP_LEDGER << 32, true, WO_U8, 1, &bytes, out, fresh, err);
}

wo_status wo_vae_past_begin(wo_vae_pass *p, wo_error *err) {
    const wo_vae_network *m = p->m;
    wo_tensor ledger;
    bool fresh;
    WO_TRY(ledger_keep(p, &ledger, &fresh, err));
    if (p->first || wo_exec_is_dry(p->x))
        ledger_init(p);
    else if (fresh)
        WO_FAIL(err, WO_EINTERNAL, "%s: a later pass was run before the first one", m->name);
    else
        memcpy(&p->ledger, ledger.data, sizeof p->ledger);
    for (int32_t i = 0; i < m->banks; i++) {
        const wo_vae_bank *b = &m->bank[i];
        int64_t shape[] = {b->slots + !on_host(p), p->height * b->scale, p->width * b->scale, b->channels};
        WO_TRY(wo_exec_keep(p->x, (uint64_t)KEEP_BANK << 32 | (uint64_t)i, on_host(p), p->compute, 4, shape, &p->bank[i], &fresh, err));
    }
    return WO_OK;
}

wo_status wo_vae_past_end(wo_vae_pass *p, wo_error *err) {
    wo_tensor ledger;
    bool fresh;
    WO_TRY(ledger_keep(p, &ledger, &fresh, err));
    if (!wo_exec_is_dry(p->x))
        memcpy(ledger.data, &p->ledger, sizeof p->ledger);
    return WO_OK;
}

static wo_tensor slot_of(const wo_tensor *bank, int32_t slot) {
    wo_tensor one = wo_tensor_rows(bank, slot, 1);
    return wo_tensor_as(&one, bank->shape[1], bank->shape[2], bank->shape[3]);
}

/* A device copy of a past frame that rests on the host. The memory is taken whether there is such a frame or not, because what a pass
 * allocates may not depend on how many passes went before. */
static wo_status fetch(wo_vae_pass *p, const wo_tensor *bank, int32_t slot, bool filled, wo_tensor *out, wo_error *err) {
    wo_tensor resting = slot_of(bank, slot);
    WO_TRY(wo_exec_alloc(p->x, resting.dtype, resting.rank, resting.shape, out, err));
    return filled ? wo_exec_copy(p->x, out, &resting, err) : WO_OK;
}

wo_status wo_vae_past_enter(wo_vae_pass *p, int32_t past, wo_vae_window *window, wo_error *err) {
    const wo_vae_slots *slots = &p->ledger.slots[past];
    int32_t b = p->m->past[past].bank, kept = p->m->past[past].kept;
    const wo_tensor *bank = &p->bank[b];
    *window = (wo_vae_window){.past = past};
    if (on_host(p)) {
        WO_TRY(fetch(p, bank, slots->older, slots->filled == kept, &window->older, err));
        if (kept > 1)
            WO_TRY(fetch(p, bank, slots->newer, slots->filled > 0, &window->newer, err));
        WO_TRY(wo_exec_alloc(p->x, bank->dtype, 3, bank->shape + 1, &window->newest, err));
    } else {
        window->older = slot_of(bank, slots->older);
        window->newer = slot_of(bank, slots->newer);
        window->newest = slot_of(bank, p->ledger.spare[b]);
    }
    window->frames[0] = slots->filled == kept ? window->older.data : NULL;
    window->frames[1] = kept > 1 && slots->filled > 0 ? window->newer.data : NULL;
    window->frames[2] = window->newest.data;
    return WO_OK;
}

wo_status wo_vae_past_leave(wo_vae_pass *p, wo_vae_window *window, wo_error *err) {
    wo_vae_slots *slots = &p->ledger.slots[window->past];
    int32_t b = p->m->past[window->past].bank, kept = p->m->past[window->past].kept, newest = slots->older;
    if (on_host(p)) {
        wo_tensor resting = slot_of(&p->bank[b], slots->older);
        WO_TRY(wo_exec_copy(p->x, &resting, &window->newest, err));
        wo_exec_free(p->x, &window->older);
        wo_exec_free(p->x, &window->newer);
        wo_exec_free(p->x, &window->newest);
    } else {
        newest = p->ledger.spare[b];
        p->ledger.spare[b] = slots->older;
    }
    *slots = (wo_vae_slots){
        .older = kept > 1 ? slots->newer : newest, .newer = newest, .filled = slots->filled < kept ? slots->filled + 1 : kept};
    return WO_OK;
}
