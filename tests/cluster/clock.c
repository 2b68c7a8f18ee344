/* A wall clock that is some seconds off, for a program that asks the kernel's page of clocks (vDSO) itself, as the
 * daemon does: its function is replaced by one of ours. LD_PRELOAD loads it, TESTS_CLOCK_S says how many seconds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t off_s;

static long clock_off(long clock, struct timespec *time) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"((long)SYS_clock_gettime), "D"(clock), "S"(time)
                   : "rcx", "r11", "memory");
  if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += off_s;
  return result;
}

__attribute__((constructor)) static void replace(void) {
  const char *seconds = getenv("TESTS_CLOCK_S");
  void *page = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
  uint8_t *function = page ? dlsym(page, "__vdso_clock_gettime") : NULL;
  if (!seconds || !function) return;
  off_s = atoll(seconds);
  /* mov rax, clock_off; jmp rax */
  uint8_t jump[12] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
  uintptr_t ours = (uintptr_t)clock_off, start = (uintptr_t)function & ~4095ul;
  memcpy(jump + 2, &ours, 8);
  if (mprotect((void *)start, 8192, PROT_READ | PROT_WRITE | PROT_EXEC) == 0) memcpy(function, jump, sizeof jump);
}
