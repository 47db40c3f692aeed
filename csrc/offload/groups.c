/* The levels of offloading are nothing but ways to cut the run of layers into groups:
 *
 *     layers     s1 s2 | b0.q b0.k b0.o | b1.q b1.k b1.o | b2.q b2.k b2.o | h1
 *     one        [---------------------------------------------------------]
 *     block, 2   [---] | [---------------------------] | [------------] | [h1]
 *     leaf       [s1][s2][b0.q][b0.k] ...                                              */
#include "offload/groups.h"

#include "offload/table.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* Layers with equal keys that follow each other travel together. */
static int64_t key_of(const wo_layer *layer, wo_level level, int32_t blocks_per_group) {
    if (level == WO_LEVEL_LEAF)
        return layer->index;
    if (level == WO_LEVEL_BLOCK)
        return layer->block < 0 ? -1 : layer->block / blocks_per_group;
    return 0;
}

static void name_group(const wo_groups *g, const wo_plan_group *group, wo_level level, char *text, size_t bytes) {
    const wo_component *c = g->component;
    const wo_layer *first = wo_component_layer(c, (size_t)group->first_layer);
    const wo_layer *last = wo_component_layer(c, (size_t)(group->first_layer + group->layers - 1));
    const char *from = first->name, *to = last->name;
    if (level == WO_LEVEL_RESIDENT || level == WO_LEVEL_MODEL)
        from = to = wo_component_name(c);
    else if (level == WO_LEVEL_BLOCK && first->block >= 0) {
        from = wo_component_block_name(c, (size_t)first->block);
        to = wo_component_block_name(c, (size_t)last->block);
    }
    if (strcmp(from, to) == 0)
        snprintf(text, bytes, "%s", from);
    else
        snprintf(text, bytes, "%s .. %s", from, to);
}

static wo_status cut(wo_groups *g, wo_level level, int32_t blocks_per_group, wo_tier tier, wo_error *err) {
    size_t layers = wo_component_layers(g->component);
    int64_t key = INT64_MIN;
    for (size_t i = 0; i < layers; i++) {
        const wo_layer *layer = wo_component_layer(g->component, i);
        g->group_of_layer[i] = -1;
        if (layer->read_by_row)
            continue;
        if (g->count == 0 || key_of(layer, level, blocks_per_group) != key)
            g->groups[g->count++] = (wo_plan_group){.first_layer = (int32_t)i, .tier = tier};
        key = key_of(layer, level, blocks_per_group);
        wo_plan_group *group = &g->groups[g->count - 1];
        group->layers = (int32_t)i + 1 - group->first_layer;
        g->group_of_layer[i] = (int32_t)g->count - 1;
        g->layer_offset[i] = group->bytes;
        group->bytes += layer->bytes;
    }
    for (size_t i = 0; i < g->count; i++) {
        char text[512];
        name_group(g, &g->groups[i], level, text, sizeof text);
        if ((g->names[i] = wo_text_create(text, err)) == NULL)
            return WO_ENOMEMORY;
        g->groups[i].name = g->names[i];
    }
    return WO_OK;
}

/* What finding the visits of one pass needs to know of each group and layer. */
typedef struct visit_state {
    int32_t *open;     /* by group: its latest visit, -1 */
    int32_t *in_use;   /* by group: layers in use */
    int32_t *brought;  /* by layer: the visit that used it last, -1 */
} visit_state;

static int32_t visit_for_use(wo_schedule *s, visit_state *state, int32_t layer, int32_t group, int32_t previous_group, size_t event) {
    int32_t visit = state->open[group];
    bool again = visit >= 0 && state->in_use[group] == 0 && state->brought[layer] == visit && previous_group != group;
    if (visit < 0 || again) {
        visit = (int32_t)s->visit_count++;
        s->visits[visit] = (wo_visit){.group = group, .streamed = -1, .first_event = event};
        s->groups[visit] = group;
        state->open[group] = visit;
    }
    state->brought[layer] = visit;
    state->in_use[group]++;
    return visit;
}

static void find_visits(const wo_groups *g, const wo_record_pass *pass, wo_schedule *s, visit_state *state) {
    int32_t previous_group = -1;
    for (size_t event = 0; event < pass->use_count; event++) {
        const wo_use_event *use = &pass->uses[event];
        int32_t group = g->group_of_layer[use->layer];
        if (!use->done) {
            s->visit_of_event[event] = visit_for_use(s, state, use->layer, group, previous_group, event);
            previous_group = group;
        } else {
            s->visit_of_event[event] = state->open[group];
            s->visits[state->open[group]].last_event = event;
            state->in_use[group]--;
        }
    }
}

static wo_status make_schedule(const wo_groups *g, const wo_record_pass *pass, wo_schedule *s, wo_error *err) {
    size_t layers = wo_component_layers(g->component), uses = pass->use_count / 2;
    s->event_count = pass->use_count;
    s->visits = wo_table_create(uses, sizeof *s->visits, "a schedule", err);
    s->groups = wo_table_create(uses, sizeof *s->groups, "a schedule", err);
    s->streamed = wo_table_create(uses, sizeof *s->streamed, "a schedule", err);
    s->ring_offset = wo_table_create(uses, sizeof *s->ring_offset, "a schedule", err);
    s->visit_of_event = wo_table_create(pass->use_count, sizeof *s->visit_of_event, "a schedule", err);
    int32_t *scratch = wo_table_create(2 * g->count + layers, sizeof *scratch, "a schedule", err);
    if (s->visits == NULL || s->groups == NULL || s->streamed == NULL || s->ring_offset == NULL || s->visit_of_event == NULL || scratch == NULL) {
        wo_memory_release(scratch);
        return WO_ENOMEMORY;
    }
    visit_state state = {.open = scratch, .brought = scratch + g->count, .in_use = scratch + g->count + layers};
    for (size_t i = 0; i < g->count + layers; i++)
        scratch[i] = -1;
    find_visits(g, pass, s, &state);
    wo_memory_release(scratch);
    return WO_OK;
}

wo_status wo_groups_make(wo_groups *g, const wo_component *c, const wo_record *record, wo_level level, int32_t blocks_per_group,
                         wo_tier tier, wo_error *err) {
    size_t layers = wo_component_layers(c);
    *g = (wo_groups){.component = c, .passes = record->passes};
    g->groups = wo_table_create(layers, sizeof *g->groups, "groups", err);
    g->offsets = wo_table_create(layers, sizeof *g->offsets, "groups", err);
    g->names = wo_table_create(layers, sizeof *g->names, "groups", err);
    g->group_of_layer = wo_table_create(layers, sizeof *g->group_of_layer, "groups", err);
    g->layer_offset = wo_table_create(layers, sizeof *g->layer_offset, "groups", err);
    g->schedules = wo_table_create((size_t)record->passes, sizeof *g->schedules, "groups", err);
    if (g->groups == NULL || g->offsets == NULL || g->names == NULL || g->group_of_layer == NULL || g->layer_offset == NULL || g->schedules == NULL)
        return WO_ENOMEMORY;
    WO_TRY(cut(g, level, blocks_per_group, tier, err));
    for (int i = 0; i < record->passes; i++)
        WO_TRY(make_schedule(g, &record->pass[i], &g->schedules[i], err));
    return WO_OK;
}

/* Walks the schedule with a credit that grows by `fraction` of each group's bytes; a group that the credit can pay becomes
 * resident. The first group may go into debt as far as the whole fraction reaches, because it is the one that a forward waits for. */
static void spread(wo_groups *g, const int32_t *order, size_t count, double fraction) {
    double total = 0, credit = 0;
    for (size_t i = 0; i < count; i++)
        total += (double)g->groups[order[i]].bytes;
    for (size_t i = 0; i < count; i++) {
        wo_plan_group *group = &g->groups[order[i]];
        double bytes = (double)group->bytes;
        credit += fraction * bytes;
        bool first = i == 0 && bytes <= fraction * total;
        if (!first && bytes > credit + 0.5)
            continue;
        group->tier = WO_TIER_DEVICE;
        credit -= bytes;
    }
}

wo_status wo_groups_make_resident(wo_groups *g, double fraction, wo_error *err) {
    if (fraction <= 0)
        return WO_OK;
    /* Longest pass first: its order is the one that matters; groups that only shorter passes visit, or none, follow. */
    int32_t *order = wo_table_create(2 * g->count, sizeof *order, "groups", err);
    if (order == NULL)
        return WO_ENOMEMORY;
    int32_t *listed = order + g->count;
    size_t count = 0;
    int longest = 0;
    for (int p = 1; p < g->passes; p++)
        if (g->schedules[p].visit_count > g->schedules[longest].visit_count)
            longest = p;
    for (int p = 0; p < g->passes; p++) {
        const wo_schedule *s = &g->schedules[p == 0 ? longest : p == longest ? 0 : p];
        for (size_t v = 0; v < s->visit_count; v++)
            if (!listed[s->groups[v]]++)
                order[count++] = s->groups[v];
    }
    for (size_t i = 0; i < g->count; i++)
        if (!listed[i])
            order[count++] = (int32_t)i;
    spread(g, order, count, fraction);
    wo_memory_release(order);
    return WO_OK;
}

void wo_groups_seal(wo_groups *g) {
    g->resident_bytes = g->streamed_bytes = 0;
    for (size_t i = 0; i < g->count; i++) {
        size_t *sum = g->groups[i].tier == WO_TIER_DEVICE ? &g->resident_bytes : &g->streamed_bytes;
        g->offsets[i] = *sum;
        *sum += g->groups[i].bytes;
    }
    for (int p = 0; p < g->passes; p++) {
        wo_schedule *s = &g->schedules[p];
        s->streamed_count = s->streamed_bytes = 0;
        for (size_t v = 0; v < s->visit_count; v++) {
            const wo_plan_group *group = &g->groups[s->visits[v].group];
            s->visits[v].streamed = -1;
            if (group->tier == WO_TIER_DEVICE)
                continue;
            s->visits[v].streamed = (int32_t)s->streamed_count;
            s->streamed[s->streamed_count++] = (int32_t)v;
            s->streamed_bytes += group->bytes;
        }
    }
}

void wo_groups_fini(wo_groups *g) {
    for (size_t i = 0; i < g->count && g->names != NULL; i++)
        wo_memory_release(g->names[i]);
    for (int p = 0; p < g->passes && g->schedules != NULL; p++) {
        wo_memory_release(g->schedules[p].visits);
        wo_memory_release(g->schedules[p].groups);
        wo_memory_release(g->schedules[p].streamed);
        wo_memory_release(g->schedules[p].ring_offset);
        wo_memory_release(g->schedules[p].visit_of_event);
    }
    wo_memory_release(g->groups);
    wo_memory_release(g->offsets);
    wo_memory_release(g->names);
    wo_memory_release(g->group_of_layer);
    wo_memory_release(g->layer_offset);
    wo_memory_release(g->schedules);
    *g = (wo_groups){0};
}
