/* Which pages of a file or block device are in memory: the page cache, asked by mincore(2), and made to forget. */
#include "plinth.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000
#endif

/** Whether loads from a file go to its device, past any cache (statx(2), Linux 5.8). */
static bool is_dax(int fd) {
  struct statx status;
  return statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &status) == 0 &&
         (status.stx_attributes & STATX_ATTR_DAX) != 0;
}

/** Fills `out` with 1 or 0 a page: 0 or an errno. The mapping is never touched, so it costs no page. */
static int ask(int fd, uint64_t offset, size_t length, uint8_t *out, size_t pages) {
  void *base = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, (off_t)offset);
  if (base == MAP_FAILED) return errno;
  int error = mincore(base, length, out) == 0 ? 0 : errno;
  (void)munmap(base, length);
  if (error != 0) return error;
  /* The other bits are reserved. */
  for (size_t i = 0; i < pages; i++) out[i] &= 1;
  return 0;
}

napi_value plinth_resident_pages(napi_env env, napi_callback_info info) {
  napi_value values[3];
  State *state = call_arguments(env, info, 3, values);
  int fd;
  uint64_t offset, size;
  uint8_t *out;
  size_t pages;
  if (state == NULL || !read_descriptor(env, values[0], &fd) ||
      !read_integer(env, values[1], "offset", 0, POSITION_MAX, &offset) ||
      !read_bytes(env, values[2], "out", &out, &pages))
    return NULL;
  if (offset % state->page != 0) {
    throw_range(env, "The \"offset\" argument must be a multiple of the %llu bytes of a page",
                (unsigned long long)state->page);
    return NULL;
  }
  if (pages == 0 || pages > RESIDENCY_BYTES_MAX / state->page) {
    throw_range(env, "The \"out\" argument must have 1 to %llu bytes, one for each page",
                (unsigned long long)(RESIDENCY_BYTES_MAX / state->page));
    return NULL;
  }
  int error = mappable_size(fd, &size);
  if (error != 0) {
    throw_system(env, error, "statx");
    return NULL;
  }
  /* The last page may be a part of one; mincore makes up an answer for those behind it. */
  const uint64_t length = pages * state->page;
  if (offset >= size || length - state->page >= size - offset) {
    throw_range(env, "The range must end inside the device, which has %llu bytes",
                (unsigned long long)size);
    return NULL;
  }
  error = is_dax(fd) ? EOPNOTSUPP : ask(fd, offset, length, out, pages);
  if (error != 0) throw_system(env, error, "mincore");
  return NULL;
}

napi_value plinth_drop_cached(napi_env env, napi_callback_info info) {
  napi_value values[3];
  int fd;
  uint64_t offset, length;
  if (call_arguments(env, info, 3, values) == NULL || !read_descriptor(env, values[0], &fd) ||
      !read_position(env, values[1], values[2], 0, POSITION_MAX, &offset, &length))
    return NULL;
  /* It returns the error; a length of 0 means to the end. */
  int error = posix_fadvise(fd, (off_t)offset, (off_t)length, POSIX_FADV_DONTNEED);
  if (error != 0) throw_system(env, error, "posix_fadvise");
  return NULL;
}
