// Linux on an Intel processor: what this is preloaded into takes the processor for an AMD (Zen 3).
//
// The kernel turns each CPUID instruction into a fault (arch_prctl(2), ARCH_SET_CPUID), and the
// fault is answered here: another vendor and its caches, and no instructions that a Zen 3 lacks.
// All others are this processor's own, at its own speed; XGETBV, which does not fault, too.

#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { EAX, EBX, ECX, EDX };

static long answer_cpuid(int by_the_processor)
{
    return syscall(SYS_arch_prctl, ARCH_SET_CPUID, (unsigned long)by_the_processor);
}

// AMD, Architecture Programmer's Manual 3, appendix E.
static void as_zen_3(uint32_t leaf, uint32_t subleaf, uint32_t reg[4])
{
    static const uint32_t caches[][4] = {
        {0x121, 0x01c0003f, 0x3f, 0},     // 32 KiB of data
        {0x122, 0x01c0003f, 0x3f, 0},     // 32 KiB of code
        {0x143, 0x01c0003f, 0x3ff, 2},    // 512 KiB, second level
        {0x1c163, 0x03c0003f, 0x7fff, 1}, // 32 MiB, third level
    };
    const uint32_t nothing[4] = {0};
    const uint32_t extended = 0x80000000;
    if (leaf == 0 || leaf == extended) {
        reg[EAX] = leaf == 0 ? 0xd : extended + 0x1d;
        memcpy(&reg[EBX], "Auth", 4);
        memcpy(&reg[EDX], "enti", 4);
        memcpy(&reg[ECX], "cAMD", 4);
    } else if (leaf == 1) {
        reg[EAX] = 0x00a00f11; // family 0x19, model 1
        reg[ECX] &= 0xfef83203;
        reg[EDX] &= 0x178bfbff;
    } else if (leaf == 7 && subleaf == 0) { // AVX2, and no AVX-512 or AMX
        reg[EAX] = 0;
        reg[EBX] &= 0x219c97a9;
        reg[ECX] &= 0x0040069c;
        reg[EDX] &= 0x00000010;
    } else if (leaf == extended + 1) {
        reg[EAX] = 0x00a00f11;
        reg[ECX] |= 1 << 22; // has the leaves of its caches
    } else if (leaf == extended + 5) {
        memcpy(reg, (uint32_t[]){0xff40ff40, 0xff40ff40, 0x20080140, 0x20080140}, 16);
    } else if (leaf == extended + 6) {
        memcpy(reg, (uint32_t[]){0x5c002200, 0x6c004200, 0x02006140, 0x01009140}, 16);
    } else if (leaf == extended + 0x1d && subleaf < 4) {
        memcpy(reg, caches[subleaf], 16);
    } else if (leaf == 2 || leaf == 4 || leaf == 7 || leaf == 0xa
               || (leaf > 0xd && leaf < extended) || leaf > extended + 8) {
        memcpy(reg, nothing, 16); // Intel's own
    }
}

static void on_fault(int number, siginfo_t *about, void *context)
{
    greg_t *at = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    if (about->si_code != SI_KERNEL || memcmp((void *)at[REG_RIP], "\x0f\xa2", 2) != 0) {
        signal(SIGSEGV, SIG_DFL); // the program's own: it comes again, and ends it
        return;
    }
    uint32_t leaf = at[REG_RAX], subleaf = at[REG_RCX], reg[4];
    answer_cpuid(1);
    __cpuid_count(leaf, subleaf, reg[EAX], reg[EBX], reg[ECX], reg[EDX]);
    answer_cpuid(0);
    as_zen_3(leaf, subleaf, reg);
    at[REG_RAX] = reg[EAX];
    at[REG_RBX] = reg[EBX];
    at[REG_RCX] = reg[ECX];
    at[REG_RDX] = reg[EDX];
    at[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    if (answer_cpuid(0) != 0)
        _exit(97);
}
