/*
 * The addon where there is no native code: loading it says so, and the library falls back.
 */
#include <node_api.h>
#include <stddef.h>

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  (void)exports;
  (void)napi_throw_error(env, "ERR_FEATURE_UNAVAILABLE_ON_PLATFORM",
                         "plinth has native code for Linux on x86-64 and arm64 only");
  return NULL;
}
