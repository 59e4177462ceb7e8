"""Threads inside native code: the barrier, claiming work, and the CPU's denormal switch.

All threads run the same program. Work is cut into pieces that do not depend on the number of
threads; a thread claims piece after piece, so a slow or interrupted thread holds up one piece,
not a share. A barrier spins briefly and then sleeps in small doses: giving the time slice away
instead costs a busy system's whole slice at each barrier (measured beside two spinning processes
on two cores, batch 16: 5 times slower with sched_yield, 2.2 times with sleep).
"""

from __future__ import annotations

from collections.abc import Callable

from striate.codegen.builder import Builder, Int, Value

# Places in the shared block, in bytes; each on a cache line of its own.
ARRIVED, GENERATION, CLAIMS, STOP, HALTED, PROGRESS = 0, 64, 128, 192, 256, 320
SHARED_BYTES = 384
_SPINS = 2000
_SLEEP_MICROSECONDS = 50
_MXCSR_FTZ_DAZ, _FPCR_FZ = 1 << 15 | 1 << 6, 1 << 24


def emit_barrier(b: Builder) -> str:
    """The module's barrier function: @barrier(shared, threads, the system's sleep)."""
    pause = ""
    if b.target.is_x86:
        b.declare("declare void @llvm.x86.sse2.pause()")
        pause = "call void @llvm.x86.sse2.pause()"
    b.raw(_BARRIER.format(pause=pause, **globals()))
    return "barrier"


_BARRIER = """define internal void @barrier(ptr %s, i64 %n, ptr %sleep) {{
entry:
  %gp = getelementptr i8, ptr %s, i64 {GENERATION}
  %g = load atomic i64, ptr %gp acquire, align 8
  %old = atomicrmw add ptr %s, i64 1 acq_rel
  %mine = add i64 %old, 1
  %last = icmp eq i64 %mine, %n
  br i1 %last, label %release, label %spin
release:
  store atomic i64 0, ptr %s monotonic, align 8
  %sp = getelementptr i8, ptr %s, i64 {STOP}
  %stop = load atomic i64, ptr %sp monotonic, align 8
  %hp = getelementptr i8, ptr %s, i64 {HALTED}
  store atomic i64 %stop, ptr %hp monotonic, align 8
  %g1 = add i64 %g, 1
  store atomic i64 %g1, ptr %gp release, align 8
  ret void
spin:
  %k = phi i64 [ 0, %entry ], [ %k1, %again ], [ %k1, %give ]
  {pause}
  %now = load atomic i64, ptr %gp acquire, align 8
  %k1 = add i64 %k, 1
  %same = icmp eq i64 %now, %g
  br i1 %same, label %again, label %done
again:
  %long = icmp sgt i64 %k1, {_SPINS}
  br i1 %long, label %give, label %spin
give:
  call void %sleep(i32 {_SLEEP_MICROSECONDS})
  br label %spin
done:
  ret void
}}"""


def claim(
    b: Builder, shared: Value, limit: Int, body: Callable[[Int], None], start: Int = 0
) -> None:
    """Run `body(piece)` for the pieces below `limit` that this thread claims from the counter.

    The counter stands at `start` when the first thread comes.
    """
    head, work, done = b.fresh("claim"), b.fresh("work"), b.fresh("claimed")
    at = b.at(shared, CLAIMS, 1)
    b.emit(f"br label %{head}")
    b.label(head)
    piece = b.sub(b.let(f"atomicrmw add ptr {at}, i64 1 monotonic"), start)
    b.emit(f"br i1 {b.compare('slt', piece, limit)}, label %{work}, label %{done}")
    b.label(work)
    body(piece)
    b.emit(f"br label %{head}")
    b.label(done)


def claim_near(
    b: Builder, flags: Value, count: Int, first: Int, stamp: Int, body: Callable[[Int], None]
) -> None:
    """Run `body(piece)` for the pieces that this thread is the first to stamp.

    Each thread begins at a piece of its own, `first`, and goes round, so that in step after step
    it mostly works on what is in its cache already; what others left over it takes as well.

    Args:
        b: the builder.
        flags: an i64 a piece.
        count: the pieces.
        first: where this thread begins, below `count`.
        stamp: a number that these pieces were never stamped with.
        body: emits the work on one piece.
    """

    def visit(k: Int, _: list[Value]) -> None:
        ahead = b.add(first, k)
        round_again = b.compare("sge", ahead, count)
        piece = b.let(f"select i1 {round_again}, i64 {b.sub(ahead, count)}, i64 {ahead}")
        at = b.at(flags, piece, 8)
        seen = b.let(f"load atomic i64, ptr {at} monotonic, align 8")

        def take() -> None:
            old = b.let(f"atomicrmw xchg ptr {at}, i64 {stamp} monotonic")
            b.when(b.compare("ne", old, stamp), lambda: body(piece))

        b.when(b.compare("ne", seen, stamp), take)

    b.loop(0, count, visit)


def flush_denormals(b: Builder) -> Value:
    """Treat denormals as zero from here on; returns the old setting, for `restore_denormals`."""
    if not b.target.is_x86:
        b.declare("declare i64 @llvm.aarch64.get.fpcr()")
        b.declare("declare void @llvm.aarch64.set.fpcr(i64)")
        setting = b.let("call i64 @llvm.aarch64.get.fpcr()")
        flushing = b.let(f"or i64 {setting}, {_FPCR_FZ}")
        b.emit(f"call void @llvm.aarch64.set.fpcr(i64 {flushing})")
        return setting
    b.declare("declare void @llvm.x86.sse.stmxcsr(ptr)")
    b.declare("declare void @llvm.x86.sse.ldmxcsr(ptr)")
    old, new = b.let("alloca i32, align 4"), b.let("alloca i32, align 4")
    b.emit(f"call void @llvm.x86.sse.stmxcsr(ptr {old})")
    word = b.let(f"load i32, ptr {old}, align 4")
    flags = b.let(f"or i32 {word}, {_MXCSR_FTZ_DAZ}")
    b.emit(f"store i32 {flags}, ptr {new}, align 4")
    b.emit(f"call void @llvm.x86.sse.ldmxcsr(ptr {new})")
    return old


def restore_denormals(b: Builder, old: Value) -> None:
    """Put the caller's setting back."""
    if b.target.is_x86:
        b.emit(f"call void @llvm.x86.sse.ldmxcsr(ptr {old})")
    else:
        b.emit(f"call void @llvm.aarch64.set.fpcr(i64 {old})")
