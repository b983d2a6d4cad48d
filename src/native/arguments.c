/*
 * Values from JavaScript to C. TypeScript has checked them before; they are checked here again,
 * because a wrong length on this side of the boundary is a store to somebody else's memory.
 */
#include "plinth.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

State *call_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values) {
  size_t argc = count;
  void *state = NULL;
  if (napi_get_cb_info(env, info, &argc, values, NULL, &state) != napi_ok) {
    throw_state(env, "the arguments of the call could not be read");
    return NULL;
  }
  return state;
}

bool read_integer(napi_env env, napi_value value, const char *name, uint64_t min, uint64_t max,
                  uint64_t *out) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) {
    throw_type(env, "The \"%s\" argument must be a number", name);
    return false;
  }
  /* Written so that NaN fails; the conversion is defined only after it. */
  if (number >= 0 && number <= (double)POSITION_MAX) {
    uint64_t integer = (uint64_t)number;
    if ((double)integer == number && integer >= min && integer <= max) {
      *out = integer;
      return true;
    }
  }
  throw_range(env, "The \"%s\" argument must be an integer from %llu to %llu; it is %.17g", name,
              (unsigned long long)min, (unsigned long long)max, number);
  return false;
}

bool read_boolean(napi_env env, napi_value value, const char *name, bool *out) {
  if (napi_get_value_bool(env, value, out) == napi_ok) return true;
  throw_type(env, "The \"%s\" argument must be a boolean", name);
  return false;
}

bool read_descriptor(napi_env env, napi_value value, int *out) {
  uint64_t fd;
  if (!read_integer(env, value, "fd", 0, INT32_MAX, &fd)) return false;
  *out = (int)fd;
  return true;
}

bool read_position(napi_env env, napi_value offset, napi_value length, uint64_t length_min,
                   uint64_t length_max, uint64_t *offset_out, uint64_t *length_out) {
  if (!read_integer(env, offset, "offset", 0, POSITION_MAX, offset_out)) return false;
  uint64_t room = POSITION_MAX - *offset_out;
  if (room > length_max) room = length_max;
  return read_integer(env, length, "length", length_min, room, length_out);
}

bool read_mapping(napi_env env, State *state, napi_value value, Mapping **out) {
  uint64_t slot;
  if (!read_integer(env, value, "slot", 0, UINT32_MAX, &slot)) return false;
  if (slot < state->mapping_count && state->mappings[slot].base != NULL) {
    *out = &state->mappings[slot];
    return true;
  }
  throw_range(env, "The \"slot\" argument must name a mapping of this thread; %llu does not",
              (unsigned long long)slot);
  return false;
}

bool read_range(napi_env env, const Mapping *mapping, napi_value offset, napi_value length,
                uint64_t *offset_out, uint64_t *length_out) {
  return read_integer(env, offset, "offset", 0, mapping->length, offset_out) &&
         read_integer(env, length, "length", 0, mapping->length - *offset_out, length_out);
}

bool read_bytes(napi_env env, napi_value value, const char *name, uint8_t **out, size_t *length) {
  napi_typedarray_type type;
  void *data;
  if (napi_get_typedarray_info(env, value, &type, length, &data, NULL, NULL) == napi_ok &&
      type == napi_uint8_array) {
    *out = data;
    return true;
  }
  throw_type(env, "The \"%s\" argument must be a Uint8Array", name);
  return false;
}

bool read_words(napi_env env, napi_value value, const char *name, uint32_t **out, size_t *count,
                napi_value *owner) {
  napi_typedarray_type type;
  void *data;
  if (napi_get_typedarray_info(env, value, &type, count, &data, owner, NULL) == napi_ok &&
      type == napi_uint32_array) {
    *out = data;
    return true;
  }
  throw_type(env, "The \"%s\" argument must be a Uint32Array", name);
  return false;
}

#define FORMAT_MESSAGE(message, format)                     \
  char message[256];                                        \
  do {                                                      \
    va_list values;                                         \
    va_start(values, format);                               \
    (void)vsnprintf(message, sizeof message, format, values); \
    va_end(values);                                         \
  } while (0)

void throw_type(napi_env env, const char *format, ...) {
  FORMAT_MESSAGE(message, format);
  (void)napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message);
}

void throw_range(napi_env env, const char *format, ...) {
  FORMAT_MESSAGE(message, format);
  (void)napi_throw_range_error(env, "ERR_OUT_OF_RANGE", message);
}

void throw_state(napi_env env, const char *message) {
  bool pending = false;
  /* A failed call may have left an exception of its own, which then says more. */
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending) return;
  (void)napi_throw_error(env, "ERR_INVALID_STATE", message);
}

/** The C library's own table of names is younger than the libraries we run on. */
static const char *error_name(int error) {
  static const struct {
    int error;
    const char *name;
  } names[] = {
#define NAME(error) {error, #error}
    NAME(EPERM),  NAME(ENOENT), NAME(EINTR),  NAME(EIO),       NAME(ENXIO),
    NAME(EBADF),  NAME(EAGAIN), NAME(ENOMEM), NAME(EACCES),    NAME(EFAULT),
    NAME(EBUSY),  NAME(EEXIST), NAME(ENODEV), NAME(EISDIR),    NAME(EINVAL),
    NAME(ENFILE), NAME(EMFILE), NAME(ENOTTY), NAME(ETXTBSY),   NAME(EFBIG),
    NAME(ENOSPC), NAME(ESPIPE), NAME(EROFS),  NAME(EPIPE),     NAME(EOVERFLOW),
    NAME(ENOSYS), NAME(ENOLCK), NAME(EDQUOT), NAME(EOPNOTSUPP), NAME(ECANCELED),
    NAME(ESTALE), NAME(ENODATA), NAME(EREMOTEIO), NAME(ETIMEDOUT), NAME(ENOTBLK),
#undef NAME
  };
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (names[i].error == error) return names[i].name;
  }
  return "EUNKNOWN";
}

void throw_system(napi_env env, int error, const char *syscall) {
  const char *code = error_name(error);
  char message[128];
  (void)snprintf(message, sizeof message, "%s: %s failed with error %d", code, syscall, error);
  napi_value code_value, message_value, errno_value, syscall_value, thrown;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &code_value) == napi_ok &&
      napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &message_value) == napi_ok &&
      napi_create_string_utf8(env, syscall, NAPI_AUTO_LENGTH, &syscall_value) == napi_ok &&
      napi_create_int32(env, -error, &errno_value) == napi_ok &&
      napi_create_error(env, code_value, message_value, &thrown) == napi_ok &&
      napi_set_named_property(env, thrown, "errno", errno_value) == napi_ok &&
      napi_set_named_property(env, thrown, "syscall", syscall_value) == napi_ok) {
    (void)napi_throw(env, thrown);
    return;
  }
  throw_state(env, message);
}
