/*
 * The fused call of a commit. It takes no arguments: what it needs lies in the mailbox, because
 * reading arguments costs more than the copying does. src/media/staging.ts has the layouts.
 */
#include "plinth.h"

#include <stdlib.h>
#include <string.h>

/* MAILBOX in staging.ts has the same numbers. */
enum { LOG_SLOT, LOG_OFFSET, RECORD_BYTES, SEED, TARGET_COUNT, FLAGS, MAILBOX_WORDS = 8 };
enum { FLAG_NO_WRITE_BACK = 1, FLAG_SEAL = 2, FLAG_APPLY = 4 };
enum { TARGET_SLOT, TARGET_OFFSET, TARGET_SOURCE, TARGET_BYTES, TARGET_WORDS };

#define RECORD_BYTES_MIN 8

/** An ArrayBuffer that the call reads. It must still be where it was when bound. */
typedef struct {
  napi_ref reference;
  void *data;
  size_t length;
} Held;

typedef struct {
  State *state;
  uint8_t *staging;
  size_t staging_length;
  const uint32_t *mailbox;
  const uint32_t *targets;
  size_t target_capacity;
  /** The buffers behind the three, each once: often they are one. */
  Held held[3];
  size_t held_count;
} Binding;

/* A detached or shrunk buffer would have us read freed memory. One check is about 10 ns, so one buffer
   that holds all three is the cheapest. */
static bool still_there(napi_env env, const Binding *binding) {
  for (size_t i = 0; i < binding->held_count; i++) {
    const Held *held = &binding->held[i];
    napi_value buffer;
    void *data;
    size_t length;
    if (napi_get_reference_value(env, held->reference, &buffer) != napi_ok || buffer == NULL ||
        napi_get_arraybuffer_info(env, buffer, &data, &length) != napi_ok || data != held->data ||
        length < held->length)
      return false;
  }
  return true;
}

/** The mapping's bytes at `offset`, or NULL when the range is not inside a writable mapping. */
static inline uint8_t *in_place(const State *state, uint32_t slot, uint64_t offset, uint64_t length) {
  if (slot >= state->mapping_count) return NULL;
  const Mapping *mapping = &state->mappings[slot];
  /* A free slot is not writable. */
  if (!mapping->writable || offset > mapping->length || length > mapping->length - offset)
    return NULL;
  return mapping->base + offset;
}

/** Lengths that commits mostly have become a few stores; a word of eight bytes is stored whole. */
static inline void copy_short(uint8_t *to, const uint8_t *from, size_t length) {
  switch (length) {
    case 8:
      memcpy(to, from, 8);
      break;
    case 16:
      memcpy(to, from, 16);
      break;
    case 32:
      memcpy(to, from, 32);
      break;
    case 64:
      memcpy(to, from, 64);
      break;
    default:
      memcpy(to, from, length);
  }
}

/** In-place locations that are on their way to the cache at the same time. */
#define PREFETCHED 8

static inline void prefetch_in_place(const Binding *binding, uint32_t i) {
  const uint32_t *target = binding->targets + (size_t)i * TARGET_WORDS;
  __builtin_prefetch(binding->state->mappings[target[TARGET_SLOT]].base + target[TARGET_OFFSET], 1);
}

/** Writes the checksum into the record's first word. */
static inline void seal(const State *state, uint32_t seed, uint8_t *record, uint32_t bytes) {
  const uint32_t crc = ~state->processor.checksum(~seed, record + 4, bytes - 4);
  memcpy(record, &crc, 4);
}

/** Stores all targets in their in-place locations. */
static inline void apply(const Binding *binding, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (i + PREFETCHED < count) prefetch_in_place(binding, i + PREFETCHED);
    const uint32_t *target = binding->targets + (size_t)i * TARGET_WORDS;
    copy_short(binding->state->mappings[target[TARGET_SLOT]].base + target[TARGET_OFFSET],
               binding->staging + target[TARGET_SOURCE], target[TARGET_BYTES]);
  }
}

static napi_value commit(napi_env env, napi_callback_info info) {
  void *data;
  if (napi_get_cb_info(env, info, NULL, NULL, NULL, &data) != napi_ok) return NULL;
  const Binding *binding = data;
  const State *state = binding->state;
  if (!still_there(env, binding)) {
    throw_state(env, "the memory of the commit was detached or resized");
    return NULL;
  }

  const uint32_t *mailbox = binding->mailbox;
  uint8_t *staging = binding->staging;
  const uint32_t bytes = mailbox[RECORD_BYTES];
  const uint32_t count = mailbox[TARGET_COUNT];
  if (bytes < RECORD_BYTES_MIN || bytes > binding->staging_length) {
    throw_range(env, "The record must have %d to %llu bytes; it has %u", RECORD_BYTES_MIN,
                (unsigned long long)binding->staging_length, bytes);
    return NULL;
  }
  /* Media that append in their own way ask for parts of a commit. */
  const uint32_t parts = mailbox[FLAGS] & (FLAG_SEAL | FLAG_APPLY);
  uint8_t *log = parts != 0 ? NULL : in_place(state, mailbox[LOG_SLOT], mailbox[LOG_OFFSET], bytes);
  if (parts == 0 && log == NULL) {
    throw_range(env, "The record must lie inside a writable mapping");
    return NULL;
  }
  if (count > binding->target_capacity) {
    throw_range(env, "There must be at most %llu targets; there are %u",
                (unsigned long long)binding->target_capacity, count);
    return NULL;
  }
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t *target = binding->targets + (size_t)i * TARGET_WORDS;
    const uint64_t source = target[TARGET_SOURCE], length = target[TARGET_BYTES];
    if (in_place(state, target[TARGET_SLOT], target[TARGET_OFFSET], length) == NULL ||
        source + length > binding->staging_length) {
      throw_range(env, "Target %u must lie inside staging and inside a writable mapping", i);
      return NULL;
    }
  }

  if (parts != 0) {
    if (parts & FLAG_SEAL) seal(state, mailbox[SEED], staging, bytes);
    if (parts & FLAG_APPLY) apply(binding, count);
    return NULL;
  }
  /* The fence takes longer than a cache miss: the lines that are stored to behind it are fetched
     meanwhile (4 % of a commit). */
  for (uint32_t i = 0; i < count && i < PREFETCHED; i++) prefetch_in_place(binding, i);

  /* 1. The checksum. A crash up to the fence leaves a record that fails it, or a whole one. */
  seal(state, mailbox[SEED], staging, bytes);
  /* 2 and 3. The record goes to the log, by ordinary stores: see copy_write_back. */
  if (mailbox[FLAGS] & FLAG_NO_WRITE_BACK) {
    copy_short(log, staging, bytes);
  } else {
    copy_write_back(&state->processor, log, staging, bytes);
  }
  /* 4. The commit point. No in-place location may be stored before it. */
  fence();
  /* 5. The in-place locations. Not written back: the log has them until a checkpoint. */
  apply(binding, count);
  return NULL;
}

static void release_binding(napi_env env, Binding *binding) {
  for (size_t i = 0; i < binding->held_count; i++)
    (void)napi_delete_reference(env, binding->held[i].reference);
  free(binding);
}

static void finalize_binding(napi_env env, void *data, void *hint) {
  (void)hint;
  release_binding(env, data);
}

static bool overlap(const void *a, size_t a_length, const void *b, size_t b_length) {
  const uint8_t *a_start = a, *b_start = b;
  return a_start < b_start + b_length && b_start < a_start + a_length;
}

/** Holds the buffer once. Returns false after throwing. */
static bool hold(napi_env env, Binding *binding, napi_value buffer) {
  void *data;
  size_t length;
  bool owned = false;
  /* A SharedArrayBuffer is none: what another thread may change cannot be checked first. Node 22
     gives its bytes all the same. */
  if (napi_is_arraybuffer(env, buffer, &owned) != napi_ok || !owned ||
      napi_get_arraybuffer_info(env, buffer, &data, &length) != napi_ok) {
    throw_type(env, "The memory of a commit must be an ArrayBuffer");
    return false;
  }
  /* Nor can a mapping, which other processes may change, and the commit itself does. */
  for (uint32_t i = 0; i < binding->state->mapping_count; i++) {
    const Mapping *mapping = &binding->state->mappings[i];
    if (mapping->base != NULL && overlap(data, length, mapping->base, mapping->length)) {
      throw_range(env, "The memory of a commit must not be part of a mapping");
      return false;
    }
  }
  for (size_t i = 0; i < binding->held_count; i++) {
    if (binding->held[i].data == data && binding->held[i].length == length) return true;
  }
  Held *held = &binding->held[binding->held_count];
  if (napi_create_reference(env, buffer, 1, &held->reference) != napi_ok) {
    throw_state(env, "the memory of the commit could not be held");
    return false;
  }
  held->data = data;
  held->length = length;
  binding->held_count++;
  return true;
}

napi_value plinth_bind_commit(napi_env env, napi_callback_info info) {
  napi_value values[3];
  State *state = call_arguments(env, info, 3, values);
  if (state == NULL) return NULL;
  void *staging;
  size_t staging_length, mailbox_words, target_words;
  uint32_t *mailbox, *targets;
  napi_value owners[3] = {values[0], NULL, NULL};
  if (napi_get_arraybuffer_info(env, values[0], &staging, &staging_length) != napi_ok) {
    throw_type(env, "The \"staging\" argument must be an ArrayBuffer");
    return NULL;
  }
  if (!read_words(env, values[1], "mailbox", &mailbox, &mailbox_words, &owners[1]) ||
      !read_words(env, values[2], "targets", &targets, &target_words, &owners[2]))
    return NULL;
  if (staging_length < RECORD_BYTES_MIN || mailbox_words < MAILBOX_WORDS) {
    throw_range(env, "The \"staging\" argument must have %d bytes, \"mailbox\" %d words",
                RECORD_BYTES_MIN, MAILBOX_WORDS);
    return NULL;
  }
  /* The checksum is stored after everything was checked, so it must not change what was. */
  if (overlap(staging, 4, mailbox, mailbox_words * 4) ||
      overlap(staging, 4, targets, target_words * 4)) {
    throw_range(env, "The checksum must not lie in \"mailbox\" or \"targets\"");
    return NULL;
  }

  Binding *binding = calloc(1, sizeof *binding);
  if (binding == NULL) {
    throw_state(env, "out of memory");
    return NULL;
  }
  binding->state = state;
  binding->staging = staging;
  binding->staging_length = staging_length;
  binding->mailbox = mailbox;
  binding->targets = targets;
  binding->target_capacity = target_words / TARGET_WORDS;
  napi_value function;
  for (size_t i = 0; i < 3; i++) {
    if (!hold(env, binding, owners[i])) {
      release_binding(env, binding);
      return NULL;
    }
  }
  if (napi_create_function(env, "commit", NAPI_AUTO_LENGTH, commit, binding, &function) !=
        napi_ok ||
      napi_add_finalizer(env, function, binding, finalize_binding, NULL, NULL) != napi_ok) {
    release_binding(env, binding);
    throw_state(env, "the commit function could not be made");
    return NULL;
  }
  return function;
}
