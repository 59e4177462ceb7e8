"""The process that compiles: IR comes in on standard input, an ELF object goes out.

Run as `python -m striate.codegen.worker`. It lives apart from the user's process because LLVM's
options are global to a process, and because a crash of LLVM must not take the user's work along.

Protocol, both ways: frames of a JSON header line, then as many bytes as the header says.
Request  {"size": n, "triple": …, "cpu": …}      and the IR
Response {"size": n, "ok": true}                  and the object, or the error's text
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import IO, Any

_IDLE_SECONDS = 30.0


def _prepare() -> Any:
    """LLVM's binding, set up for kernels that were scheduled by their generator."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    # The scheduler before register allocation hoists loads into the accumulators' registers.
    llvm.set_option("striate", "-enable-misched=false")
    return llvm


def target_machine(llvm: Any, triple: str, cpu: str) -> Any:
    """LLVM's code generator for a target; "host" means this very CPU."""
    features = ""
    if cpu == "host":
        cpu = llvm.get_host_cpu_name()
        found = dict(llvm.get_host_cpu_features())
        features = ",".join(("+" if on else "-") + name for name, on in sorted(found.items()))
        if found.get("avx512f"):
            features += ",-prefer-256-bit"
    elif cpu == "x86-64-v4":
        features = "-prefer-256-bit"
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="pic", codemodel="small"
    )


def compile_text(llvm: Any, text: str, triple: str, cpu: str, assembly: bool = False) -> bytes:
    """IR to an ELF object (or assembly). Code generation only: no IR pass is run, see builder."""
    module = llvm.parse_assembly(text)
    machine = target_machine(llvm, triple, cpu)
    module.triple = triple
    module.data_layout = str(machine.target_data)
    if assembly:
        return str(machine.emit_assembly(module)).encode()
    return bytes(machine.emit_object(module))


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next frame, or None at the end of the stream."""
    line = stream.readline()
    if not line:
        return None
    header = json.loads(line)
    return header, stream.read(header["size"])


def write_frame(stream: IO[bytes], header: dict[str, Any], payload: bytes) -> None:
    stream.write(json.dumps({**header, "size": len(payload)}).encode() + b"\n" + payload)
    stream.flush()


def main() -> None:
    """Compile what comes until the input ends, or until nothing came for a while."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    llvm = _prepare()
    while True:
        idle = threading.Timer(_IDLE_SECONDS, os._exit, [0])
        idle.daemon = True
        idle.start()
        frame = read_frame(source)
        idle.cancel()
        if frame is None:
            return
        header, payload = frame
        try:
            output = compile_text(
                llvm,
                payload.decode(),
                header["triple"],
                header["cpu"],
                bool(header.get("assembly")),
            )
            write_frame(sink, {"ok": True}, output)
        except Exception as error:
            write_frame(sink, {"ok": False}, str(error).encode())


if __name__ == "__main__":
    main()
