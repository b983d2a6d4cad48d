/*
 * Mappings by slot, and what is done with their bytes.
 *
 *   map      free      -> mapped
 *   buffer   mapped    -> wrapped     one ArrayBuffer on all of it, held by a strong reference
 *   detach   wrapped   -> mapped      views on it are empty from now on
 *   unmap    any       -> free        detaches first
 *
 * Nothing here waits for the garbage collector: a mapping ends in `unmap` or with its thread.
 */
#include "plinth.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 0x03
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

/* MAP in addon.ts has the same numbers. */
enum { FLAG_PRIVATE = 1, FLAG_SYNC = 2, FLAG_READ_ONLY = 4 };

int mappable_size(int fd, uint64_t *size) {
  struct statx status;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &status) != 0) return errno;
  if (S_ISBLK(status.stx_mode)) return ioctl(fd, BLKGETSIZE64, size) == 0 ? 0 : errno;
  *size = S_ISREG(status.stx_mode) ? status.stx_size : UINT64_MAX;
  return 0;
}

/* Of all threads: the kernel's limit is one for the process. */
static atomic_uint mappings_live;

/** A free slot; its table grows. Returns false after throwing. */
static bool take_slot(napi_env env, State *state, uint32_t *slot) {
  for (uint32_t i = state->first_free; i < state->mapping_count; i++) {
    if (state->mappings[i].base == NULL) {
      *slot = state->first_free = i;
      return true;
    }
  }
  uint32_t count = state->mapping_count == 0 ? 16 : state->mapping_count * 2;
  Mapping *grown = realloc(state->mappings, (size_t)count * sizeof *grown);
  if (grown == NULL) {
    throw_system(env, ENOMEM, "realloc");
    return false;
  }
  for (uint32_t i = state->mapping_count; i < count; i++) grown[i] = (Mapping){0};
  *slot = state->first_free = state->mapping_count;
  state->mappings = grown;
  state->mapping_count = count;
  return true;
}

static void open_pagemap(State *state) {
  if (state->pagemap_tried) return;
  state->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  state->pagemap_tried = true;
}

napi_value plinth_map(napi_env env, napi_callback_info info) {
  napi_value values[4];
  State *state = call_arguments(env, info, 4, values);
  int fd;
  uint64_t offset, length, flags, size;
  uint32_t slot;
  if (state == NULL || !read_descriptor(env, values[0], &fd) ||
      !read_position(env, values[1], values[2], 1, MAPPING_BYTES_MAX, &offset, &length) ||
      !read_integer(env, values[3], "flags", 0, 7, &flags))
    return NULL;
  if ((flags & FLAG_PRIVATE) && (flags & FLAG_SYNC)) {
    throw_range(env, "The \"flags\" argument must not ask for PRIVATE and SYNC together");
    return NULL;
  }
  int error = mappable_size(fd, &size);
  if (error != 0) {
    throw_system(env, error, "statx");
    return NULL;
  }
  /* mmap allows it, and the first access beyond the end is a SIGBUS. */
  if (offset > size || length > size - offset) {
    throw_range(env, "The mapping must end inside the device, which has %llu bytes",
                (unsigned long long)size);
    return NULL;
  }
  if (!take_slot(env, state, &slot)) return NULL;

  if (flags & FLAG_PRIVATE) open_pagemap(state);
  bool writable = (flags & FLAG_READ_ONLY) == 0;
  int how = (flags & FLAG_PRIVATE) ? MAP_PRIVATE | MAP_NORESERVE
            : (flags & FLAG_SYNC)  ? MAP_SHARED_VALIDATE | MAP_SYNC
                                   : MAP_SHARED;
  void *base =
    mmap(NULL, length, PROT_READ | (writable ? PROT_WRITE : 0), how, fd, (off_t)offset);
  if (base == MAP_FAILED) {
    throw_system(env, errno, "mmap");
    return NULL;
  }
  napi_value result;
  if (napi_create_uint32(env, slot, &result) != napi_ok) {
    (void)munmap(base, length);
    throw_state(env, "the slot could not be returned");
    return NULL;
  }
  state->mappings[slot] = (Mapping){.base = base, .length = length, .writable = writable};
  mappings_live++;
  return result;
}

napi_value plinth_mapping_count(napi_env env, napi_callback_info info) {
  (void)info;
  napi_value result;
  return napi_create_uint32(env, mappings_live, &result) == napi_ok ? result : NULL;
}

static bool slot_argument(napi_env env, napi_callback_info info, State **state, Mapping **out) {
  napi_value value;
  *state = call_arguments(env, info, 1, &value);
  return *state != NULL && read_mapping(env, *state, value, out);
}

/* The memory belongs to its slot; a collected ArrayBuffer must not touch it. */
static void keep(napi_env env, void *data, void *hint) {
  (void)env;
  (void)data;
  (void)hint;
}

/** Notes when the buffer was detached behind our back, by `transfer()` for example. */
static napi_value attached_buffer(napi_env env, Mapping *mapping) {
  napi_value buffer = NULL;
  bool detached = false;
  if (napi_get_reference_value(env, mapping->buffer, &buffer) != napi_ok || buffer == NULL ||
      napi_is_detached_arraybuffer(env, buffer, &detached) != napi_ok || detached) {
    mapping->moved = true;
    return NULL;
  }
  return buffer;
}

/** Called for each sentinel: the newest is held, so that it goes with its thread alone. */
static void sentinel_gone(napi_env env, void *data, void *hint) {
  State *state = hint;
  if (data == state->sentinel_byte) {
    state->sentinel_byte = NULL;
    state->ending = true;
    napi_handle_scope scope;
    bool scoped = napi_open_handle_scope(env, &scope) == napi_ok;
    for (uint32_t i = 0; i < state->mapping_count; i++) {
      Mapping *mapping = &state->mappings[i];
      /* What cannot be asked may be somebody's. */
      if (mapping->buffer != NULL && !(scoped && attached_buffer(env, mapping) != NULL))
        mapping->moved = true;
    }
    if (scoped) (void)napi_close_handle_scope(env, scope);
  }
  free(data);
}

/*
 * When a thread ends, Node detaches every external ArrayBuffer, the youngest first, before any cleanup
 * hook runs. After that nothing tells one that was moved to another thread from one that was not, and
 * memory that somebody may still see cannot be unmapped. So there is always one that is younger than
 * those of all mappings, and it goes first: then they are asked.
 */
static bool watch_end(State *state) {
  napi_value buffer;
  napi_ref reference;
  uint8_t *byte = malloc(1);
  if (byte == NULL) return false;
  if (napi_create_external_arraybuffer(state->env, byte, 1, sentinel_gone, state, &buffer) != napi_ok) {
    free(byte);
    return false;
  }
  if (napi_create_reference(state->env, buffer, 1, &reference) != napi_ok) return false;
  if (state->sentinel != NULL) (void)napi_delete_reference(state->env, state->sentinel);
  state->sentinel = reference;
  state->sentinel_byte = byte;
  return true;
}

napi_value plinth_buffer(napi_env env, napi_callback_info info) {
  State *state;
  Mapping *mapping;
  if (!slot_argument(env, info, &state, &mapping)) return NULL;
  if (mapping->buffer != NULL) {
    throw_state(env, "the mapping has an ArrayBuffer already; detach it first");
    return NULL;
  }
  napi_value buffer;
  if (napi_create_external_arraybuffer(env, mapping->base, mapping->length, keep, NULL, &buffer) !=
        napi_ok ||
      napi_create_reference(env, buffer, 1, &mapping->buffer) != napi_ok) {
    mapping->buffer = NULL;
    throw_state(env, "an ArrayBuffer of this length could not be made");
    return NULL;
  }
  if (!watch_end(state)) {
    throw_state(env, "the end of the thread cannot be watched");
    return NULL;
  }
  return buffer;
}

static bool detach(napi_env env, Mapping *mapping) {
  if (mapping->buffer == NULL) return true;
  napi_value buffer = attached_buffer(env, mapping);
  if (buffer != NULL && napi_detach_arraybuffer(env, buffer) != napi_ok) {
    throw_state(env, "the ArrayBuffer of the mapping could not be detached");
    return false;
  }
  (void)napi_delete_reference(env, mapping->buffer);
  mapping->buffer = NULL;
  return true;
}

napi_value plinth_detach(napi_env env, napi_callback_info info) {
  State *state;
  Mapping *mapping;
  if (slot_argument(env, info, &state, &mapping)) (void)detach(env, mapping);
  return NULL;
}

/* A buffer that was moved keeps its address, perhaps in another thread. Anonymous memory takes the
   place of the device there: nothing crashes, nothing reaches the device, and no store is lost that
   was not lost already. The address space is the price. */
static int release(Mapping *mapping) {
  int failed = 0;
  if (mapping->moved) {
    failed = mmap(mapping->base, mapping->length, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED;
  } else {
    failed = munmap(mapping->base, mapping->length) != 0;
  }
  if (failed) return errno;
  /* The address space of a moved one stays a mapping. */
  if (!mapping->moved) mappings_live--;
  *mapping = (Mapping){0};
  return 0;
}

napi_value plinth_unmap(napi_env env, napi_callback_info info) {
  State *state;
  Mapping *mapping;
  if (!slot_argument(env, info, &state, &mapping) || !detach(env, mapping)) return NULL;
  const uint32_t slot = (uint32_t)(mapping - state->mappings);
  int error = release(mapping);
  if (error != 0) throw_system(env, error, "munmap");
  else if (slot < state->first_free) state->first_free = slot;
  return NULL;
}

void mappings_release(State *state) {
  for (uint32_t i = 0; i < state->mapping_count; i++) {
    Mapping *mapping = &state->mappings[i];
    if (mapping->base == NULL) continue;
    if (mapping->buffer != NULL) {
      if (!state->ending) mapping->moved = true;
      (void)napi_delete_reference(state->env, mapping->buffer);
      mapping->buffer = NULL;
    }
    (void)release(mapping);
  }
  if (state->sentinel != NULL) (void)napi_delete_reference(state->env, state->sentinel);
  state->sentinel = NULL;
  free(state->mappings);
  state->mappings = NULL;
  state->mapping_count = 0;
  if (state->pagemap >= 0) (void)close(state->pagemap);
  state->pagemap = -1;
}

/** The arguments (slot, offset, length). */
static State *range_arguments(napi_env env, napi_callback_info info, Mapping **mapping,
                              uint64_t *offset, uint64_t *length) {
  napi_value values[3];
  State *state = call_arguments(env, info, 3, values);
  if (state == NULL || !read_mapping(env, state, values[0], mapping) ||
      !read_range(env, *mapping, values[1], values[2], offset, length))
    return NULL;
  return state;
}

napi_value plinth_flush(napi_env env, napi_callback_info info) {
  Mapping *mapping;
  uint64_t offset, length;
  State *state = range_arguments(env, info, &mapping, &offset, &length);
  if (state != NULL) write_back(&state->processor, mapping->base + offset, length);
  return NULL;
}

napi_value plinth_persist_units(napi_env env, napi_callback_info info) {
  napi_value values[3];
  State *state = call_arguments(env, info, 3, values);
  uint32_t *list;
  size_t words;
  uint64_t count, shift;
  if (state == NULL || !read_words(env, values[0], "list", &list, &words, NULL) ||
      !read_integer(env, values[1], "count", 0, words / 2, &count) ||
      !read_integer(env, values[2], "unitShift", 0, 31, &shift))
    return NULL;
  const uint64_t unit = UINT64_C(1) << shift;
  for (uint64_t i = 0; i < count; i++) {
    /* Read once each: the list may be memory that another thread changes. */
    const uint32_t slot = *(volatile uint32_t *)&list[2 * i];
    const uint64_t offset = (uint64_t)*(volatile uint32_t *)&list[2 * i + 1] << shift;
    const Mapping *mapping = slot < state->mapping_count ? &state->mappings[slot] : NULL;
    /* A free slot has length 0. Stopping halfway is harmless: writing a line back changes nothing. */
    if (mapping == NULL || offset >= mapping->length || unit > mapping->length - offset) {
      throw_range(env, "The \"list\" argument must name units inside mappings; entry %llu does not",
                  (unsigned long long)i);
      return NULL;
    }
    write_back(&state->processor, mapping->base + offset, unit);
  }
  fence();
  return NULL;
}

static bool check_writable(napi_env env, const Mapping *mapping) {
  if (!mapping->writable) throw_range(env, "The \"slot\" argument must name a writable mapping");
  return mapping->writable;
}

napi_value plinth_copy_persist(napi_env env, napi_callback_info info) {
  napi_value values[3];
  State *state = call_arguments(env, info, 3, values);
  Mapping *mapping;
  uint64_t offset;
  uint8_t *source;
  size_t length;
  if (state == NULL || !read_mapping(env, state, values[0], &mapping) ||
      !read_integer(env, values[1], "offset", 0, mapping->length, &offset) ||
      !read_bytes(env, values[2], "source", &source, &length) || !check_writable(env, mapping))
    return NULL;
  if (length > mapping->length - offset) {
    throw_range(env, "The \"source\" argument must fit into the mapping behind \"offset\"");
    return NULL;
  }
  copy_write_back(&state->processor, mapping->base + offset, source, length);
  fence();
  return NULL;
}

napi_value plinth_zero_persist(napi_env env, napi_callback_info info) {
  Mapping *mapping;
  uint64_t offset, length;
  State *state = range_arguments(env, info, &mapping, &offset, &length);
  if (state == NULL || !check_writable(env, mapping)) return NULL;
  zero_write_back(&state->processor, mapping->base + offset, length);
  fence();
  return NULL;
}

/* Bits of an entry of /proc/self/pagemap. FILE covers pages of a file and of shared memory. */
#define PAGE_PRESENT (UINT64_C(1) << 63)
#define PAGE_SWAPPED (UINT64_C(1) << 62)
#define PAGE_FILE (UINT64_C(1) << 61)
#define PAGEMAP_ENTRIES 1024

napi_value plinth_private_pages(napi_env env, napi_callback_info info) {
  napi_value values[4];
  State *state = call_arguments(env, info, 4, values);
  Mapping *mapping;
  uint64_t from, count;
  uint32_t *out;
  size_t capacity;
  if (state == NULL || !read_mapping(env, state, values[0], &mapping)) return NULL;
  const uint64_t pages = (mapping->length + state->page - 1) / state->page;
  if (!read_integer(env, values[1], "fromPage", 0, pages, &from) ||
      !read_integer(env, values[2], "pageCount", 0, pages - from, &count) ||
      !read_words(env, values[3], "out", &out, &capacity, NULL))
    return NULL;
  open_pagemap(state);
  if (state->pagemap < 0) return NULL;

  const uint64_t first = (uint64_t)(uintptr_t)mapping->base / state->page;
  uint64_t entries[PAGEMAP_ENTRIES];
  size_t found = 0;
  for (uint64_t page = from; page < from + count && found < capacity;) {
    uint64_t wanted = from + count - page;
    if (wanted > PAGEMAP_ENTRIES) wanted = PAGEMAP_ENTRIES;
    ssize_t got = pread(state->pagemap, entries, wanted * 8, (off_t)((first + page) * 8));
    if (got < 0 && errno == EINTR) continue;
    if (got < 8) {
      throw_system(env, got < 0 ? errno : EIO, "pread");
      return NULL;
    }
    for (ssize_t i = 0; i < got / 8 && found < capacity; i++, page++) {
      if ((entries[i] & (PAGE_PRESENT | PAGE_SWAPPED)) != 0 && (entries[i] & PAGE_FILE) == 0)
        out[found++] = (uint32_t)page;
    }
  }
  napi_value result;
  if (napi_create_uint32(env, (uint32_t)found, &result) != napi_ok) return NULL;
  return result;
}

napi_value plinth_discard(napi_env env, napi_callback_info info) {
  Mapping *mapping;
  uint64_t offset, length;
  State *state = range_arguments(env, info, &mapping, &offset, &length);
  if (state == NULL) return NULL;
  /* The last page of a mapping may be a part of one. */
  bool whole = length % state->page == 0 || offset + length == mapping->length;
  if (offset % state->page != 0 || !whole) {
    throw_range(env, "The range must consist of whole pages of %llu bytes",
                (unsigned long long)state->page);
    return NULL;
  }
  if (length > 0 && madvise(mapping->base + offset, length, MADV_DONTNEED) != 0)
    throw_system(env, errno, "madvise");
  return NULL;
}
