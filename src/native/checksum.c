/*
 * CRC-32C (Castagnoli, reflected, polynomial 0x82f63b78) as a raw update: the caller inverts before
 * and after. By the processor's instruction where there is one, else eight bytes a step by table.
 */
#include "plinth.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <nmmintrin.h>
#include <wmmintrin.h>
#else
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

#define POLYNOMIAL 0x82f63b78u

static uint32_t tables[8][256];

static void tables_fill(void) {
  static pthread_mutex_t filling = PTHREAD_MUTEX_INITIALIZER;
  static bool filled = false;
  pthread_mutex_lock(&filling);
  if (!filled) {
    for (uint32_t byte = 0; byte < 256; byte++) {
      uint32_t crc = byte;
      for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? POLYNOMIAL : 0);
      tables[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
      for (int k = 1; k < 8; k++) {
        uint32_t before = tables[k - 1][byte];
        tables[k][byte] = (before >> 8) ^ tables[0][before & 0xff];
      }
    }
    filled = true;
  }
  pthread_mutex_unlock(&filling);
}

static inline uint64_t load64(const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, 8);
  return word;
}

/* Both processors are little-endian, which the order of the tables relies on. */
static uint32_t checksum_by_table(uint32_t crc, const uint8_t *bytes, size_t length) {
  for (; length >= 8; bytes += 8, length -= 8) {
    uint64_t word = load64(bytes) ^ crc;
    crc = tables[7][word & 0xff] ^ tables[6][(word >> 8) & 0xff] ^ tables[5][(word >> 16) & 0xff] ^
          tables[4][(word >> 24) & 0xff] ^ tables[3][(word >> 32) & 0xff] ^
          tables[2][(word >> 40) & 0xff] ^ tables[1][(word >> 48) & 0xff] ^ tables[0][word >> 56];
  }
  while (length-- > 0) crc = (crc >> 8) ^ tables[0][(crc ^ *bytes++) & 0xff];
  return crc;
}

#if defined(__x86_64__)

/* The instruction takes three cycles but can start every cycle, so three streams side by side run
   three times as fast. Joining them is a multiplication by a power of x, which moves a checksum
   past the bytes that follow its stream: x^(8 * bytes - 33) mod P, reflected, as crc32 of the
   product adds the missing 33. */
#define STREAM 256
#define PAST_ONE_STREAM 0xb9e02b86u
#define PAST_TWO_STREAMS 0xdd7e3b0cu

__attribute__((target("sse4.2,pclmul"))) static uint32_t past(uint32_t crc, uint32_t power) {
  __m128i product =
    _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)crc), _mm_cvtsi32_si128((int)power), 0);
  return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t checksum_by_instruction(
  uint32_t crc, const uint8_t *bytes, size_t length) {
  for (; length >= 3 * STREAM; bytes += 3 * STREAM, length -= 3 * STREAM) {
    uint64_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < STREAM; i += 8) {
      a = _mm_crc32_u64(a, load64(bytes + i));
      b = _mm_crc32_u64(b, load64(bytes + STREAM + i));
      c = _mm_crc32_u64(c, load64(bytes + 2 * STREAM + i));
    }
    crc = past((uint32_t)a, PAST_TWO_STREAMS) ^ past((uint32_t)b, PAST_ONE_STREAM) ^ (uint32_t)c;
  }
  uint64_t wide = crc;
  for (; length >= 8; bytes += 8, length -= 8) wide = _mm_crc32_u64(wide, load64(bytes));
  crc = (uint32_t)wide;
  while (length-- > 0) crc = _mm_crc32_u8(crc, *bytes++);
  return crc;
}

static bool has_instruction(void) {
  unsigned a, b, c = 0, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
  return (c & bit_SSE4_2) != 0 && (c & bit_PCLMUL) != 0;
}

#else

#define HWCAP_CRC (1ul << 7)

__attribute__((target("+crc"))) static uint32_t checksum_by_instruction(uint32_t crc,
                                                                        const uint8_t *bytes,
                                                                        size_t length) {
  for (; length >= 8; bytes += 8, length -= 8) crc = __crc32cd(crc, load64(bytes));
  while (length-- > 0) crc = __crc32cb(crc, *bytes++);
  return crc;
}

static bool has_instruction(void) {
  return (getauxval(AT_HWCAP) & HWCAP_CRC) != 0;
}

#endif

void checksum_detect(Processor *out) {
  out->hardware_checksum = has_instruction();
  out->checksum = out->hardware_checksum ? checksum_by_instruction : checksum_by_table;
  if (!out->hardware_checksum) tables_fill();
}
