/* Device memory lies at addresses that no host has (bits 48 to 55 are set), so that host code which follows one crashes. Addresses are given
 * out once and never again: what was freed is known for what it was. Pinned host memory is a list of ranges. */
#include "fakecuda/internal.h"

#include <sys/mman.h>

#define DEVICE_BASE 0x00fa000000000000ull
enum { DEVICE_SHIFT = 44, ALIGNMENT = 512 };
#define GAP (2ull << 20) /* between allocations: a wild access meets nothing */

/* Of device memory, or pinned host memory (address is then the host's). */
typedef struct block {
    uint64_t address;
    size_t bytes;
    unsigned char *host;
    wo_cu_context context;
    bool registered, freed;
} block;

typedef struct block_list {
    block *items;
    size_t count, room;
} block_list;

static block_list device_blocks[FAKE_MAX_DEVICES]; /* by rising address, those freed among them */
static block_list pinned_blocks;
static uint64_t used[FAKE_MAX_DEVICES], peak, pinned;
static atomic_uint_fast64_t generation = 1; /* changes whenever a block goes */

static block *add_block(block_list *list, block b) {
    if (list->count == list->room) {
        list->room = 2 * list->room + 64;
        list->items = realloc(list->items, list->room * sizeof *list->items);
        if (list->items == NULL)
            abort();
    }
    list->items[list->count] = b;
    return &list->items[list->count++];
}

/* The last block that begins at or below an address; NULL: none. */
static block *below(const block_list *list, uint64_t address) {
    size_t low = 0, high = list->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (list->items[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &list->items[low - 1] : NULL;
}

static bool holds(const block *b, uint64_t address, size_t bytes) {
    return address >= b->address && bytes <= b->bytes && address - b->address <= b->bytes - bytes;
}

bool fake_is_device(uint64_t address) {
    return address >> 48 == DEVICE_BASE >> 48;
}

static const block *find_device(wo_cu_context context, uint64_t address, size_t bytes, const char **reason) {
    static _Thread_local char text[160];
    *reason = text;
    const block *b = below(&device_blocks[context->device], address);
    if (b == NULL || address - b->address > b->bytes + GAP / 2)
        snprintf(text, sizeof text, "no allocation of this card is near");
    else if (b->freed)
        snprintf(text, sizeof text, "byte %llu of an allocation of %zu bytes that was freed", (unsigned long long)(address - b->address), b->bytes);
    else if (!holds(b, address, bytes))
        snprintf(text, sizeof text, "bytes %llu to %llu of an allocation of %zu bytes", (unsigned long long)(address - b->address),
                 (unsigned long long)(address - b->address + bytes), b->bytes);
    else
        return b;
    return NULL;
}

static const block *find_pinned(uint64_t address, size_t bytes) {
    for (size_t i = 0; i < pinned_blocks.count; i++)
        if (holds(&pinned_blocks.items[i], address, bytes))
            return &pinned_blocks.items[i];
    return NULL;
}

void *fake_resolve(wo_cu_context context, uint64_t address, size_t bytes, bool pageable_too, const char **reason) {
    static _Thread_local struct {
        uint64_t generation;
        wo_cu_context context;
        block b;
    } last;
    if (last.generation == atomic_load_explicit(&generation, memory_order_acquire) && last.context == context && holds(&last.b, address, bytes))
        return last.b.host + (address - last.b.address);
    pthread_mutex_lock(&fake.lock);
    const block *b = NULL;
    *reason = "host memory that is not pinned";
    if (fake_is_device(address))
        b = find_device(context, address, bytes, reason);
    else
        b = find_pinned(address, bytes);
    void *host = pageable_too && !fake_is_device(address) ? (void *)(uintptr_t)address : NULL;
    if (b != NULL) {
        host = b->host + (address - b->address);
        last.b = *b;
        last.context = context;
        last.generation = atomic_load(&generation);
    }
    pthread_mutex_unlock(&fake.lock);
    return host;
}

bool fake_is_pinned(uint64_t address, size_t bytes, bool *mixed) {
    *mixed = false;
    if (fake_is_device(address) || find_pinned(address, bytes) != NULL)
        return true;
    for (size_t i = 0; i < pinned_blocks.count; i++) {
        const block *b = &pinned_blocks.items[i];
        *mixed = *mixed || (address < b->address + b->bytes && b->address < address + bytes);
    }
    return false;
}

/* Bytes of all cards. */
static uint64_t total(void) {
    uint64_t sum = 0;
    for (int i = 0; i < FAKE_MAX_DEVICES; i++)
        sum += used[i];
    return sum;
}

static size_t rounded(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Whole pages of the host, so that neither malloc nor a sanitizer knows of them. */
static unsigned char *map_pages(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

wo_cu_result fake_memory_alloc(wo_cu_ptr *out, size_t bytes) {
    wo_cu_context c;
    wo_cu_result r = fake_enter(FAKE_memory_alloc, true, &c);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    if (out == NULL || bytes == 0)
        return fake_leave(WO_CU_INVALID_VALUE);
    if (bytes > fake.memory || used[c->device] + rounded(bytes) > fake.memory)
        return fake_leave(WO_CU_OUT_OF_MEMORY);
    unsigned char *host = map_pages(bytes);
    if (host == NULL)
        return fake_leave(WO_CU_OUT_OF_MEMORY);
    memset(host, 0xff, bytes); /* NaN in every float type: nobody may count on zeros */
    block_list *list = &device_blocks[c->device];
    uint64_t at = DEVICE_BASE + ((uint64_t)c->device << DEVICE_SHIFT) + GAP;
    if (list->count > 0) {
        const block *b = &list->items[list->count - 1];
        at = (b->address + b->bytes + 2 * GAP - 1) / GAP * GAP;
    }
    add_block(list, (block){.address = at, .bytes = bytes, .host = host, .context = c});
    used[c->device] += rounded(bytes);
    uint64_t all = total();
    peak = all > peak ? all : peak;
    fake.live[FAKECUDA_ALLOCATIONS]++;
    *out = at;
    return fake_leave(WO_CU_SUCCESS);
}

static void free_device_block(block *b) {
    munmap(b->host, b->bytes);
    b->freed = true;
    b->host = NULL;
    used[b->context->device] -= rounded(b->bytes);
    fake.live[FAKECUDA_ALLOCATIONS]--;
    atomic_fetch_add(&generation, 1);
}

static void free_pinned_block(block *b) {
    if (!b->registered)
        munmap(b->host, b->bytes);
    fake.live[b->registered ? FAKECUDA_REGISTRATIONS : FAKECUDA_HOST_ALLOCATIONS]--;
    pinned -= b->bytes;
    *b = pinned_blocks.items[--pinned_blocks.count];
    atomic_fetch_add(&generation, 1);
}

/* As the driver does: what frees memory waits for the card first. */
static void wait_for_card(wo_cu_context c) {
    fake.implicit_waits += fake_drain_context(c);
}

wo_cu_result fake_memory_free(wo_cu_ptr p) {
    wo_cu_context c;
    wo_cu_result r = fake_enter(FAKE_memory_free, true, &c);
    if (r != WO_CU_SUCCESS || p == 0)
        return fake_leave(r);
    wait_for_card(c);
    block *b = below(&device_blocks[c->device], p);
    if (b == NULL || b->address != p || b->freed) {
        fake_misuse("cuMemFree of %#llx, which is no allocation%s", p, b != NULL && b->address == p ? " any more" : "");
        return fake_leave(WO_CU_INVALID_VALUE);
    }
    free_device_block(b);
    return fake_leave(WO_CU_SUCCESS);
}

static wo_cu_result pin(wo_cu_context c, unsigned char *host, size_t bytes, bool registered) {
    add_block(&pinned_blocks, (block){(uint64_t)(uintptr_t)host, bytes, host, c, registered, false});
    fake.live[registered ? FAKECUDA_REGISTRATIONS : FAKECUDA_HOST_ALLOCATIONS]++;
    pinned += bytes;
    return WO_CU_SUCCESS;
}

wo_cu_result fake_host_alloc(void **out, size_t bytes, unsigned flags) {
    wo_cu_context c;
    wo_cu_result r = fake_enter(FAKE_host_alloc, true, &c);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    if (out == NULL || bytes == 0 || flags > 7)
        return fake_leave(WO_CU_INVALID_VALUE);
    unsigned char *host = map_pages(bytes);
    if (host == NULL)
        return fake_leave(WO_CU_OUT_OF_MEMORY);
    memset(host, 0xff, bytes);
    *out = host;
    return fake_leave(pin(c, host, bytes, false));
}

wo_cu_result fake_host_register(void *p, size_t bytes, unsigned flags) {
    wo_cu_context c;
    bool mixed;
    wo_cu_result r = fake_enter(FAKE_host_register, true, &c);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    uint64_t address = (uint64_t)(uintptr_t)p;
    if (p == NULL || bytes == 0 || flags > 15 || fake_is_device(address))
        return fake_leave(WO_CU_INVALID_VALUE);
    if (fake_is_pinned(address, bytes, &mixed) || mixed)
        return fake_leave(WO_CU_HOST_MEMORY_ALREADY_REGISTERED);
    return fake_leave(pin(c, p, bytes, true));
}

/* Nobody promises that unpinning waits for the card: it must be done with the memory. A copy that is still queued shows here, a kernel when it runs. */
static wo_cu_result unpin(fake_entry entry, const char *symbol, void *p, bool registered) {
    wo_cu_context c;
    wo_cu_result r = fake_enter(entry, true, &c);
    if (r != WO_CU_SUCCESS)
        return fake_leave(r);
    if (!registered)
        wait_for_card(c);
    for (size_t i = 0; i < pinned_blocks.count; i++) {
        block *b = &pinned_blocks.items[i];
        if (b->host != p || b->registered != registered)
            continue;
        if (fake_is_queued(c, b->address, b->bytes))
            fake_misuse("%s of %p while a copy with it is queued", symbol, p);
        free_pinned_block(b);
        return fake_leave(WO_CU_SUCCESS);
    }
    fake_misuse("%s of %p, which is not so pinned", symbol, p);
    return fake_leave(registered ? FAKE_HOST_MEMORY_NOT_REGISTERED : WO_CU_INVALID_VALUE);
}

wo_cu_result fake_host_free(void *p) {
    return unpin(FAKE_host_free, "cuMemFreeHost", p, false);
}

wo_cu_result fake_host_unregister(void *p) {
    return unpin(FAKE_host_unregister, "cuMemHostUnregister", p, true);
}

wo_cu_result fake_memory_info(size_t *free_bytes, size_t *total_bytes) {
    wo_cu_context c;
    wo_cu_result r = fake_enter(FAKE_memory_info, true, &c);
    if (r == WO_CU_SUCCESS) {
        *total_bytes = fake.memory;
        *free_bytes = fake.memory - used[c->device];
    }
    return fake_leave(r);
}

size_t fake_free_all(wo_cu_context context) {
    size_t count = 0;
    block_list *list = &device_blocks[context->device];
    for (size_t i = 0; i < list->count; i++)
        if (!list->items[i].freed) {
            free_device_block(&list->items[i]);
            count++;
        }
    for (size_t i = pinned_blocks.count; i-- > 0;)
        if (pinned_blocks.items[i].context == context) {
            free_pinned_block(&pinned_blocks.items[i]);
            count++;
        }
    return count;
}

fake_memory_count fake_count_memory(void) {
    return (fake_memory_count){total(), peak, pinned};
}

void fake_reset_peak(void) {
    peak = total();
}
