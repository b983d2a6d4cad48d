/*
 * What the files of the addon share. The contract with TypeScript is in addon.ts.
 *
 *   arguments.c   values from JavaScript to C, with every check; errors
 *   flush.c       write-back and fence: which instruction, and the durable copies
 *   checksum.c    CRC-32C
 *   mapping.c     slots: map, wrap, detach, unmap; what is done with their bytes
 *   space.c       the space of a file, and where it is on the device below
 *   residency.c   which pages are in the page cache
 *   commit.c      the fused call of a commit
 *   writer.c      writes off the event loop
 *   module.c      the table of functions, and the life of one thread's state
 *
 * Invariants: all state belongs to one napi_env and is touched by its thread alone, except a write
 * under way, which has a mutex. No finalizer unmaps a slot. At most one attached ArrayBuffer that
 * this addon made wraps an address.
 */
#ifndef PLINTH_H
#define PLINTH_H

#ifndef NAPI_VERSION
#define NAPI_VERSION 8
#endif
#include <node_api.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Integers that a double names one to one, and so the largest position. */
#define POSITION_MAX 9007199254740991u
/** An ArrayBuffer of Node 20 ends here. */
#define MAPPING_BYTES_MAX (UINT64_C(1) << 32)
/** Asked about at once: bounds the answer, which is a byte a page, and the time of the call. */
#define RESIDENCY_BYTES_MAX (UINT64_C(1) << 30)

typedef enum {
  FLUSH_NONE,
#if defined(__x86_64__)
  FLUSH_CLWB,
  FLUSH_CLFLUSHOPT,
  FLUSH_CLFLUSH,
#else
  FLUSH_CVAP,
  FLUSH_CVAC,
#endif
} Flush;

/** What the processor offers, found once when a thread loads the addon. */
typedef struct {
  Flush flush;
  const char *flush_name;
  /** Bytes one write-back covers. */
  size_t line;
  /** Raw CRC-32C update: neither inverts before nor after. */
  uint32_t (*checksum)(uint32_t crc, const uint8_t *bytes, size_t length);
  bool hardware_checksum;
} Processor;

typedef struct {
  /** NULL: the slot is free. */
  uint8_t *base;
  uint64_t length;
  /** Strong, so that a second ArrayBuffer is made only after `detach`. NULL: there is none. */
  napi_ref buffer;
  bool writable;
  /** Somebody else detached the buffer: its memory may live on in another one. */
  bool moved;
} Mapping;

typedef struct Writer Writer;

/** Everything that one napi_env owns. */
typedef struct {
  napi_env env;
  Processor processor;
  Mapping *mappings;
  uint32_t mapping_count;
  /** No slot below is free. */
  uint32_t first_free;
  Writer **writers;
  uint32_t writer_count;
  uint64_t page;
  /** /proc/self/pagemap, opened with the first private mapping: later it may be refused. -1: it is not there. */
  int pagemap;
  bool pagemap_tried;
  /** An ArrayBuffer younger than any other: see watch_end. */
  napi_ref sentinel;
  uint8_t *sentinel_byte;
  /** The thread ends, and of each mapping `moved` says whether somebody has its buffer elsewhere. */
  bool ending;
} State;

/* arguments.c */

/** Reads the arguments of a call; those that were not passed are undefined. Returns the state. */
State *call_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values);
/* Each of these returns false after throwing. `name` is that of the argument. */
bool read_integer(napi_env env, napi_value value, const char *name, uint64_t min, uint64_t max,
                  uint64_t *out);
bool read_boolean(napi_env env, napi_value value, const char *name, bool *out);
bool read_descriptor(napi_env env, napi_value value, int *out);
/** A position and a length whose sum is exact too. */
bool read_position(napi_env env, napi_value offset, napi_value length, uint64_t length_min,
                   uint64_t length_max, uint64_t *offset_out, uint64_t *length_out);
bool read_mapping(napi_env env, State *state, napi_value value, Mapping **out);
/** A stretch of a mapping, checked to be inside it. */
bool read_range(napi_env env, const Mapping *mapping, napi_value offset, napi_value length,
                uint64_t *offset_out, uint64_t *length_out);
/** The bytes of a Uint8Array (a Buffer is one). */
bool read_bytes(napi_env env, napi_value value, const char *name, uint8_t **out, size_t *length);
/** The words of a Uint32Array; `owner`, when not NULL, gets its buffer. */
bool read_words(napi_env env, napi_value value, const char *name, uint32_t **out, size_t *count,
                napi_value *owner);

void throw_type(napi_env env, const char *format, ...) __attribute__((format(printf, 2, 3)));
void throw_range(napi_env env, const char *format, ...) __attribute__((format(printf, 2, 3)));
void throw_state(napi_env env, const char *message);
/** An Error as Node's own of a failed system call: code, negative errno, syscall. */
void throw_system(napi_env env, int error, const char *syscall);

/* flush.c */

/** Returns NULL, or what is wrong with the environment variable PLINTH_FLUSH. */
const char *processor_detect(Processor *out);
/** Writes back the lines that hold the range. No fence. */
void write_back(const Processor *processor, const uint8_t *at, size_t length);
/** Copies and writes back. No fence. */
void copy_write_back(const Processor *processor, uint8_t *to, const uint8_t *from, size_t length);
void zero_write_back(const Processor *processor, uint8_t *to, size_t length);

/** Orders all earlier write-backs before anything later. */
static inline void fence(void) {
#if defined(__x86_64__)
  __asm__ volatile("sfence" ::: "memory");
#else
  /* dmb orders stores but does not wait for `dc` to reach the point of persistence; dsb does. */
  __asm__ volatile("dsb sy" ::: "memory");
#endif
}

/* checksum.c */

void checksum_detect(Processor *out);

/* mapping.c, space.c, residency.c, commit.c, writer.c: the functions of addon.ts */

napi_value plinth_map(napi_env env, napi_callback_info info);
napi_value plinth_mapping_count(napi_env env, napi_callback_info info);
napi_value plinth_buffer(napi_env env, napi_callback_info info);
napi_value plinth_detach(napi_env env, napi_callback_info info);
napi_value plinth_unmap(napi_env env, napi_callback_info info);
napi_value plinth_flush(napi_env env, napi_callback_info info);
napi_value plinth_persist_units(napi_env env, napi_callback_info info);
napi_value plinth_copy_persist(napi_env env, napi_callback_info info);
napi_value plinth_zero_persist(napi_env env, napi_callback_info info);
napi_value plinth_private_pages(napi_env env, napi_callback_info info);
napi_value plinth_discard(napi_env env, napi_callback_info info);
napi_value plinth_allocate(napi_env env, napi_callback_info info);
napi_value plinth_punch(napi_env env, napi_callback_info info);
napi_value plinth_file_flags(napi_env env, napi_callback_info info);
napi_value plinth_set_file_flags(napi_env env, napi_callback_info info);
napi_value plinth_extents(napi_env env, napi_callback_info info);
napi_value plinth_resident_pages(napi_env env, napi_callback_info info);
napi_value plinth_drop_cached(napi_env env, napi_callback_info info);
napi_value plinth_bind_commit(napi_env env, napi_callback_info info);
napi_value plinth_create_writer(napi_env env, napi_callback_info info);
napi_value plinth_start_write(napi_env env, napi_callback_info info);
napi_value plinth_wait_write(napi_env env, napi_callback_info info);
napi_value plinth_close_writer(napi_env env, napi_callback_info info);

/** Where a mapping must end; no limit when the kernel knows none (device-dax). 0 or the errno. */
int mappable_size(int fd, uint64_t *size);
/** The leftovers of a thread that ends. */
void mappings_release(State *state);
void writers_release(State *state);

#endif
